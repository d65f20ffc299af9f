"""Mistakes about memory: moments at rest, layers that run again, steps that start again (docs/memory.md)."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

EIGHT, OFFLOAD, PIECES, OPTIMISER = (
    "train/adamw_8bit.py",
    "train/adamw_offload.py",
    "train/adamw_in_pieces.py",
    "train/optimiser.py",
)
AGAIN, OUT, LEARN = "models/gradient_checkpointing.py", "train/out_of_memory.py", "train/ppo_learn.py"

# Mistake, file, what stands there, what is planted, tests.
TABLE = [
    ("8 bit: rounded down, not to the nearest", EIGHT, "halfway = ((levels[1:] + levels[:-1]) / 2)", "halfway = levels[1:].clone()", "train/test_adamw_8bit.py"),
    ("8 bit: one scale for all blocks", EIGHT, "scale = blocks.abs().amax(1)", "scale = blocks.abs().amax().expand(len(blocks)).clone()", "train/test_adamw_8bit.py"),
    ("8 bit: the second moment may be zero", EIGHT, "0.0 if signed else min(levels) / 2", "0.0", "train/test_adamw_8bit.py"),
    ("8 bit: heads are rounded too", EIGHT, "SMALLEST = 4096", "SMALLEST = 1", "train/test_optimiser.py train/test_adamw_8bit.py"),
    ("8 bit: the first moment is never put back", EIGHT, 'state["exp_avg"][blocks], state["exp_avg_scale"][blocks] = quantised(first, SIGNED)', "quantised(first, SIGNED)", "train/test_adamw_8bit.py"),
    ("8 bit: scales are not saved", OPTIMISER, '"exp_avg_scale", "exp_avg_sq_scale", "step")', '"step")', "train/test_optimiser.py"),
    ("offload: the second moment is not put back", OFFLOAD, '        state["exp_avg_sq"].view(-1)[piece].copy_(second)\n', "", "train/test_optimiser.py"),
    ("pieces: the step counts pieces", PIECES, 'state["step"].clone()', 'state["step"]', "train/test_optimiser.py"),
    ("pieces: no weight decay", PIECES, 'weight_decay=group["weight_decay"]', "weight_decay=0.0", "train/test_optimiser.py"),
    ("the optimiser asked for is not taken", OPTIMISER, "KINDS[settings.optimizer]", 'KINDS["adamw"]', "train/test_optimiser.py"),
    ("checkpoints: the attention of the backward", AGAIN, "config._attn_implementation = attention\n", "pass\n", "models/test_gradient_checkpointing.py"),
    ("checkpoints: any role will do", AGAIN, "if role() != adapter:", "if False:", "models/test_gradient_checkpointing.py"),
    ("checkpoints: other draws backward", AGAIN, "use_reentrant=False,", "use_reentrant=False, preserve_rng_state=False,", "models/test_gradient_checkpointing.py"),
    ("checkpoints: layers stay changed after an error", AGAIN, '    try:\n        for layer in layers:\n            layer.forward = _run_again(layer.forward, trunk.config, role)\n        yield\n    finally:\n        for', '    for layer in layers:\n        layer.forward = _run_again(layer.forward, trunk.config, role)\n    yield\n    if True:\n        for', "models/test_gradient_checkpointing.py"),
    ("checkpoints: without gradients too", AGAIN, "if not torch.is_grad_enabled():", "if False:", "models/test_gradient_checkpointing.py train/test_gradient_checkpointing.py"),
    ("checkpoints: the key does nothing", "models/backbone.py", "if self.gradient_checkpointing:", "if False:", "train/test_gradient_checkpointing.py"),
    ("ready: the smallest micro-batch is kept", LEARN, "key=lambda rows: int(lengths[rows].sum()))", "key=lambda rows: -int(lengths[rows].sum()))", "train/test_ready.py"),
    ("ready: kept while the critic warms up", "train/ppo.py", "if rows is groups[-1] and not self.warming:", "if rows is groups[-1]:", "train/test_ready.py"),
    ("ready: learnt from twice", LEARN, "            groups.remove(ready.rows)\n", "", "train/test_ready.py"),
    ("ready: never used", LEARN, "if ready is not None and ready.rows in groups:", "if False:", "train/test_ready.py"),
    ("out of memory: gradients of the failed attempt stay", OUT, "            forget()\n", "", "train/test_out_of_memory.py"),
    ("out of memory: other draws the second time", OUT, "with torch.random.fork_rng([torch.cuda.current_device()] if _on_cuda() else []):", "if True:", "train/test_out_of_memory.py"),
    ("out of memory: half of a budget never filled", OUT, "most[True] // 2", "before // 2", "train/test_out_of_memory.py"),
    ("out of memory: every error is taken for it", OUT, "                if not ran_out_of_memory(error):\n                    raise\n", "                pass\n", "train/test_out_of_memory.py"),
    ("out of memory: one side of a pair counts", "models/packing.py", "taken = len(first) + others", "taken = len(first)", "models/test_packing.py"),
    ("out of memory: measures count twice", LEARN, "        measures.again()\n", "", "train/test_out_of_memory.py"),
    ("out of memory: the critic's gradients stay", LEARN, "        for optimiser in self.optimisers.values():\n            optimiser.clear()", '        self.optimisers["policy"].clear()', "train/test_out_of_memory.py"),
    ("out of memory: a resumed run starts with the old budget", "train/sft.py", '        self.budget.tokens = int(state["micro_batch_tokens"])\n', "", "train/test_out_of_memory.py"),
]  # fmt: skip

MEMORY = [Mutant(*row) for row in TABLE]
