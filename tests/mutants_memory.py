"""Mistakes about memory: moments at rest, layers that run again, steps that start again (docs/memory.md)."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

EIGHT, OFFLOAD, PIECES, OPTIMISER = (
    "train/optim/adamw_8bit.py",
    "train/optim/adamw_offload.py",
    "train/optim/adamw_chunked.py",
    "train/optim/optimiser.py",
)
AGAIN, OUT, LEARN = "kernels/gradient_checkpointing.py", "train/oom_retry.py", "train/ppo/learner.py"

# Mistake, file, what stands there, what is planted, tests.
TABLE = [
    ("8 bit: rounded down, not to the nearest", EIGHT, "quantised: (levels[1:] + levels[:-1]) / 2", "levels[1:].clone()", "train/optim/test_adamw_8bit.py"),
    ("8 bit: one scale for all blocks", EIGHT, "quantised: blocks.abs().amax(1)", "blocks.abs().amax().expand(len(blocks)).clone()", "train/optim/test_adamw_8bit.py"),
    ("8 bit: the second moment may be zero", EIGHT, "dynamic_levels: 0.0 if signed else min(levels) / 2", "0.0", "train/optim/test_adamw_8bit.py"),
    ("8 bit: heads are rounded too", EIGHT, "<module>: 4096", "1", "train/optim/test_optimiser.py train/optim/test_adamw_8bit.py"),
    ("8 bit: the first moment is never put back", EIGHT, "AdamW8bit.quantize: state['exp_avg'][blocks], state['exp_avg_scale'][blocks] = quantised(first, SIGNED)", "quantised(first, SIGNED)", "train/optim/test_adamw_8bit.py"),
    ("8 bit: scales are not saved", OPTIMISER, "<module>: ('exp_avg', 'exp_avg_sq', 'exp_avg_scale', 'exp_avg_sq_scale', 'step')", "('exp_avg', 'exp_avg_sq', 'step')", "train/optim/test_optimiser.py"),
    ("offload: the second moment is not put back", OFFLOAD, "OffloadedAdamW.quantize: state['exp_avg_sq'].view(-1)[piece].copy_(second)", "pass", "train/optim/test_optimiser.py"),
    ("pieces: the step counts pieces", PIECES, "AdamWChunked._step: state['step'].clone()", "state['step']", "train/optim/test_optimiser.py"),
    ("pieces: no weight decay", PIECES, "AdamWChunked._step: group['weight_decay']", "0.0", "train/optim/test_optimiser.py"),
    ("the optimiser asked for is not taken", OPTIMISER, "Optimiser.__init__: settings.optimizer", "'adamw'", "train/optim/test_optimiser.py"),
    ("checkpoints: the attention of the backward", AGAIN, "_run_again.checkpointed.run: config._attn_implementation = attention", "pass", "kernels/test_gradient_checkpointing.py"),
    ("checkpoints: any role will do", AGAIN, "_run_again.checkpointed.run: role() != adapter", "False", "kernels/test_gradient_checkpointing.py"),
    ("checkpoints: other draws backward", AGAIN, "_run_again.checkpointed: checkpoint(run, *args, use_reentrant=False, **kwargs)", "checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)", "kernels/test_gradient_checkpointing.py"),
    ("checkpoints: layers stay changed after an error", AGAIN, "recomputed_layers: try:\n    for layer in layers:\n        layer.forward = _run_again(layer.forward, trunk.config, role)\n    yield\nfinally:\n    for layer in layers:\n        layer.__dict__.pop('forward', None)", "for layer in layers:\n    layer.forward = _run_again(layer.forward, trunk.config, role)\nyield\nif True:\n    for layer in layers:\n        layer.__dict__.pop('forward', None)", "kernels/test_gradient_checkpointing.py"),
    ("checkpoints: without gradients too", AGAIN, "recomputed_layers: not torch.is_grad_enabled()", "False", "kernels/test_gradient_checkpointing.py train/test_gradient_checkpointing.py"),
    ("checkpoints: the key does nothing", "models/backbone.py", "Backbone.forward: self.gradient_checkpointing", "False", "train/test_gradient_checkpointing.py"),
    ("ready: the smallest micro-batch is kept", LEARN, 'Learner.first_minibatch_last: int(lengths[rows].sum())', "-int(lengths[rows].sum())", "train/test_ready.py"),
    ("ready: kept while the critic warms up", "train/ppo/stage.py", "PPOStage._evaluate: rows is groups[-1] and (not self.warming)", "rows is groups[-1]", "train/test_ready.py"),
    ("ready: learnt from twice", LEARN, "Learner._gradients: groups.remove(ready.rows)", "pass", "train/test_ready.py"),
    ("ready: never used", LEARN, "Learner._gradients: ready is not None and ready.rows in groups", "False", "train/test_ready.py"),
    ("out of memory: gradients of the failed attempt stay", OUT, 'TokenBudget.retry_on_oom: reset()', "pass", "train/test_oom_retry.py"),
    ("out of memory: other draws the second time", OUT, 'TokenBudget.retry_on_oom: with torch.random.fork_rng([torch.cuda.current_device()] if _on_cuda() else []):\n    ...', "if True:\n    ...", "train/test_oom_retry.py"),
    ("out of memory: half of a budget never filled", OUT, "TokenBudget._halve: before, self.tokens = (self.tokens, most[True] // 2)", "before, self.tokens = (self.tokens, before // 2)", "train/test_oom_retry.py"),
    ("out of memory: every error is taken for it", OUT, 'TokenBudget.retry_on_oom: if not is_out_of_memory(error):\n    raise', "pass", "train/test_oom_retry.py"),
    ("out of memory: one side of a pair counts", "kernels/packing.py", "micro_batches: len(first) + others", "len(first)", "kernels/test_packing.py"),
    ("out of memory: measures count twice", LEARN, "Learner._forget: measures.again()", "pass", "train/test_oom_retry.py"),
    ("out of memory: the critic's gradients stay", LEARN, "Learner.give_up: for optimiser in self.optimisers.values():\n    optimiser.clear()", "self.optimisers['policy'].clear()", "train/test_oom_retry.py"),
    ("out of memory: a resumed run starts with the old budget", "train/sft.py", "SupervisedStage.load: self.budget.tokens = int(state['micro_batch_tokens'])", "pass", "train/test_oom_retry.py"),
]  # fmt: skip

MEMORY = [Mutant(*row) for row in TABLE]
