"""Mistakes about work on a GPU that any machine can see; those that only a GPU shows are for tests/gpu."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

GRAPHS, RECORDED = "models/cuda_graphs.py", "models/test_cuda_graphs.py"
OPTIMISER, MEMORY = "train/optimiser.py", "train/gpu_memory.py"

# Mistake, file, what stands there, what is planted, tests.
TABLE = [
    ("graphs: one for all kinds of work", GRAPHS, "key = (kind, *(", "key = (0, *(", RECORDED),
    ("graphs: one for all shapes", GRAPHS, "key = (kind, *(tuple(given.shape) for given in inputs))", "key = (kind,)", RECORDED),
    ("graphs: a replay reads old inputs", GRAPHS, "            place.copy_(given)\n", "            pass\n", RECORDED),
    ("graphs: what is given lies where the next replay writes", GRAPHS, "tuple(made.clone() for made in found.outputs)", "found.outputs", RECORDED),
    ("graphs: never recorded", GRAPHS, "        if key not in self._met:", "        if True:", RECORDED),
    ("graphs: recorded anew every time", GRAPHS, "if key not in self._recorded:", "if True:", RECORDED),
    ("graphs: a replay is no place to stop", GRAPHS, "        stopping.check()\n", "", RECORDED),
    ("graphs: no room ends the run", GRAPHS, "        with suppress(torch.OutOfMemoryError):\n            return self._record(work, inputs)\n        return None", "        return self._record(work, inputs)", RECORDED),
    ("graphs: nothing is released", GRAPHS, "        torch.cuda.empty_cache()\n", "", RECORDED),
    ("graphs: what found no room is tried every time", GRAPHS, "if key not in self._recorded:", "if self._recorded.get(key) is None:", RECORDED),
    ("graphs: experts are recorded", "models/one_token.py", "dense and getattr(", "getattr(", "models/test_one_token.py"),
    ("norms: an older operation of that name", "models/fused.py", '("", "_backward")', '("",)', "models/test_fused.py"),
    ("device: another stays the current one", "models/device.py", "    torch.cuda.set_device(index)\n", "", "models/test_device.py"),
    ("device: one too many", "models/device.py", "index >= there", "index > there", "models/test_device.py"),
    ("packed: layers inside adapters too", "models/packed_linear.py", "trunk.modules() if module not in inside)", "trunk.modules())", "models/test_packed_linear.py"),
    ("plan: what trains is packed", "plan/phases.py", "isinstance(job, Job) and job.config.lora is None", "False", "plan/test_phases.py"),
    ("plan: the table of embeddings is packed", "plan/phases.py", "(job.shape.linear + unembedding)", "job.shape.parameters", "plan/test_phases.py"),
    ("cache: held by its layers", "rollout/cache.py", "weakref.proxy(cache)", "cache", "rollout/test_cache.py"),
    ("groups: one learning rate for all", OPTIMISER, "own = rates.get(name, rate)", "own = rate", "train/test_optimiser.py"),
    ("groups: of any size", OPTIMISER, "        if sizes[own] > TOGETHER:", "        if own not in open_groups:", "train/test_optimiser.py"),
    ("groups: a rate's parameters land in the other's", OPTIMISER, 'open_groups[own]["params"].append(parameter)', 'groups[-1]["params"].append(parameter)', "train/test_optimiser.py"),
    ("advantages: only where all rows act", "maths/advantage.py", "action.any(0).nonzero()", "action.all(0).nonzero()", "maths/test_advantage.py"),
    ("memory: peaks of the whole run", MEMORY, "        torch.cuda.reset_peak_memory_stats(device)\n", "        pass\n", "train/test_gpu_memory.py"),
    ("memory: the first GPU alone", MEMORY, "range(torch.cuda.device_count())", "range(1)", "train/test_gpu_memory.py"),
    ("segments: the user's word is not heard", "models/allocator.py", "and not any(name in os.environ for name in names)", "", "models/test_allocator.py"),
    ("segments: the old name for all", "models/allocator.py", "names[since]", "names[0]", "models/test_allocator.py"),
]  # fmt: skip

GPU = [Mutant(*row) for row in TABLE]
