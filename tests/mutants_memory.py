"""Mistakes about memory: moments at rest, layers that run again, steps that start again (docs/memory.md)."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

EIGHT, OFFLOAD, OPTIMISER = (
    "train/optim/adamw_8bit.py",
    "train/optim/adamw_offload.py",
    "train/optim/optimiser.py",
)
STAGE, EVALUATOR, MINIBATCH, SNAPSHOT, KL = (
    "train/ppo/stage.py",
    "train/ppo/evaluator.py",
    "train/ppo/minibatch.py",
    "train/ppo/snapshot.py",
    "train/ppo/kl_control.py",
)
AGAIN, OUT, LEARN = "kernels/gradient_checkpointing.py", "train/oom_retry.py", "train/ppo/learner.py"

# Mistake, file, what stands there, what is planted, tests.
TABLE = [
    ("8 bit: heads are rounded too", EIGHT, "adamw_8bit: 4096", "1", "train/optim/test_optimiser.py"),
    ("8 bit: scales are not saved", OPTIMISER, "<module>: ('exp_avg', 'exp_avg_sq', 'exp_avg_scale', 'exp_avg_sq_scale', 'step')", "('exp_avg', 'exp_avg_sq', 'step')", "train/optim/test_optimiser.py"),
    ("8 bit: a resumed run counts its steps anew", EIGHT, "import_state: int(saved['step'])", "0", "train/optim/test_optimiser.py"),
    ("8 bit: both moments read by the same levels", EIGHT, "<module>: 'udynamic'", "'dynamic'", "train/optim/test_optimiser.py"),
    ("offload: the second moment is not put back", OFFLOAD, 'moments_to_host: zip(MOMENTS, moments, strict=True)', "list(zip(MOMENTS, moments, strict=True))[:1]", "train/optim/test_optimiser.py"),
    ("chunks: the step counts pieces", OFFLOAD, "OffloadedAdamW._step: state['step'].clone()", "state['step']", "train/optim/test_optimiser.py"),
    ("chunks: no weight decay", OFFLOAD, "OffloadedAdamW._step: group['weight_decay']", "0.0", "train/optim/test_optimiser.py"),
    ("the optimiser asked for is not taken", OPTIMISER, "Optimiser.__init__: settings.optimizer", "'adamw'", "train/optim/test_optimiser.py"),
    ("checkpoints: the attention of the backward", AGAIN, '_checkpointed.checkpointed.run: config._attn_implementation = attention', "pass", "kernels/test_gradient_checkpointing.py"),
    ("checkpoints: any role will do", AGAIN, '_checkpointed.checkpointed.run: role() != adapter', "False", "kernels/test_gradient_checkpointing.py"),
    ("checkpoints: other draws backward", AGAIN, '_checkpointed.checkpointed: checkpoint(run, *args, use_reentrant=False, **kwargs)', "checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)", "kernels/test_gradient_checkpointing.py"),
    ("checkpoints: layers stay changed after an error", AGAIN, "checkpointed_layers: try:\n    for layer in layers:\n        layer.forward = _checkpointed(layer.forward, tower_of(trunk).config, role)\n    yield\nfinally:\n    for layer in layers:\n        layer.__dict__.pop('forward', None)", "for layer in layers:\n    layer.forward = _checkpointed(layer.forward, tower_of(trunk).config, role)\nyield\nif True:\n    for layer in layers:\n        layer.__dict__.pop('forward', None)", "kernels/test_gradient_checkpointing.py"),
    ("checkpoints: without gradients too", AGAIN, 'checkpointed_layers: not torch.is_grad_enabled()', "False", "kernels/test_gradient_checkpointing.py train/test_gradient_checkpointing.py"),
    ("checkpoints: the key does nothing", "models/backbone.py", "Backbone.forward: self.gradient_checkpointing", "False", "train/test_gradient_checkpointing.py"),
    ("ready: the smallest micro-batch is kept", 'train/ppo/evaluator.py', 'Evaluator.first_minibatch_last: int(lengths[rows].sum())', '-int(lengths[rows].sum())', "train/test_ready.py"),
    ("ready: kept while the critic warms up", 'train/ppo/evaluator.py', 'Evaluator.old_logprobs_and_values: keep_graph and rows is row_groups[-1]', 'rows is row_groups[-1]', "train/test_ready.py"),
    ("ready: learnt from twice", LEARN, 'Learner._accumulate_gradients: [*kept, *(m for m in micro_batches if m not in kept)]', '[*kept, *micro_batches]', "train/test_ready.py"),
    ("ready: never used", LEARN, 'Learner._accumulate_gradients: cached is not None and m.rows == cached.rows', 'False', "train/test_ready.py"),
    ("out of memory: gradients of the failed attempt stay", OUT, 'MicroBatcher.retry_on_oom: reset()', "pass", "train/test_oom_retry.py"),
    ("out of memory: other draws the second time", OUT, 'MicroBatcher.retry_on_oom: with torch.random.fork_rng([torch.cuda.current_device()] if _on_cuda() else []):\n    ...', "if True:\n    ...", "train/test_oom_retry.py"),
    ("out of memory: half of a budget never filled", OUT, 'MicroBatcher._halve: before, self.tokens = (self.tokens, largest[True] // 2)', "before, self.tokens = (self.tokens, before // 2)", "train/test_oom_retry.py"),
    ("out of memory: every error is taken for it", OUT, 'MicroBatcher.retry_on_oom: if not is_out_of_memory(error):\n    raise', "pass", "train/test_oom_retry.py"),
    ("out of memory: one side of a pair counts", "kernels/packing.py", 'packed_micro_batches: len(first) + others', "len(first)", "kernels/test_packing.py"),
    ("out of memory: measures count twice", LEARN, 'Learner._restart_step: stats.restart_step()', 'pass', "train/test_oom_retry.py"),
    ("out of memory: the critic's gradients stay", LEARN, 'Learner.discard_gradients: for optimiser in self.optimisers.values():\n    optimiser.zero_grad()', "self.optimisers['policy'].zero_grad()", "train/test_oom_retry.py"),
    ("out of memory: a resumed run starts with the old budget", "train/sft.py", "SupervisedStage.load: self.micro_batcher.tokens = int(state['micro_batch_tokens'])", "pass", "train/test_oom_retry.py"),
    ("the update: its snapshot is not restored", STAGE, 'PPOStage._rollback_on_nonfinite: self.snapshot.restore()', "pass", "train/test_nonfinite.py::test_an_update_with_a_non_finite_number_is_undone"),
    ("the update: its snapshot is not taken", STAGE, "PPOStage._update: self.snapshot.take()", "pass", "train/test_nonfinite.py::test_an_update_with_a_non_finite_number_is_undone"),
    ("the update: its snapshot is not dropped", STAGE, 'PPOStage._rollback_on_nonfinite: self.snapshot.drop()', "pass", "train/test_nonfinite.py::test_the_copy_lives_as_long_as_an_update_of_several_steps"),
    ("the update: a micro-batch has counts of its own", MINIBATCH, "Minibatch.micro_batch: self.counts", "TokenCounts.of(self.targets.select(index, width).policy_mask, self.targets.select(index, width).value_mask)", "train/ppo/test_stage.py::test_the_split_into_micro_batches_changes_nothing"),
    ("the update: a minibatch has the counts of the rollout batch", MINIBATCH, 'Minibatch.select: TokenCounts.of(rows.targets.policy_mask, rows.targets.value_mask)', "self.counts", "train/ppo/test_minibatch.py"),
    ("the update: a micro-batch is numbered by its place in the minibatch", MINIBATCH, "Minibatch.micro_batch: self.rows[i]", "i", "train/test_ready.py train/ppo/test_stage.py"),
    ("the update: a forward of other rows is used", LEARN, 'Learner._accumulate_gradients: cached is not None and m.rows == cached.rows', "cached is not None", "train/test_ready.py"),
    ("the update: the first minibatch is not last", EVALUATOR, "Evaluator.first_minibatch_last: [*self._micro_batches(batch, others), *of_first]", "[*of_first, *self._micro_batches(batch, others)]", "train/test_ready.py"),
    ("the update: the kept forward is handed over twice", EVALUATOR, "Evaluator.take_cached: cached, self.cached = (self.cached, None)", "cached = self.cached", "train/test_ready.py"),
    ("the update: a forward is kept for the critic alone", STAGE, 'PPOStage._old_outputs: self.evaluator.old_logprobs_and_values(batch, first, keep_graph=not self.warming_up)', "self.evaluator.old_logprobs_and_values(batch, first, keep_graph=True)", "train/test_ppo_modes.py"),
    ("the update: the early stop is ignored", LEARN, "Learner.learn: self.early_stop.reached(stats.latest_approxkl)", "False", "train/ppo/test_stage.py::test_target_kl_stops_an_update_early"),
    ("the update: the early stop ignores its limit", KL, "KLEarlyStop.reached: approxkl > self.limit", "True", "train/ppo/test_kl_control.py"),
    ("the update: a good update does not end a row of rollbacks", KL, 'UpdateRollback.check: self.in_a_row + 1 if too_far else 0', "self.in_a_row + 1", "train/ppo/test_kl_control.py"),
]  # fmt: skip

MEMORY = [Mutant(*row) for row in TABLE]
