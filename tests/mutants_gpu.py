"""Mistakes about work on a GPU that any machine can see; those that only a GPU shows are for tests/gpu."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

GRAPHS, RECORDED = "kernels/cuda_graphs.py", "kernels/test_cuda_graphs.py"
OPTIMISER, MEMORY = "train/optim/optimiser.py", "train/gpu_memory.py"

# Mistake, file, what stands there, what is planted, tests.
TABLE = [
    ("graphs: one for all kinds of work", GRAPHS, "CudaGraphs.__call__: kind", "0", RECORDED),
    ("graphs: one for all shapes", GRAPHS, "CudaGraphs.__call__: (kind, *(tuple(given.shape) for given in inputs))", "(kind,)", RECORDED),
    ("graphs: a replay reads old inputs", GRAPHS, 'CudaGraphs.__call__: environment.copy_(given)', "pass", RECORDED),
    ("graphs: what is given lies where the next replay writes", GRAPHS, "CudaGraphs.__call__: tuple((made.clone() for made in found.outputs))", "found.outputs", RECORDED),
    ("graphs: never recorded", GRAPHS, 'CudaGraphs.__call__: key not in self._seen', "True", RECORDED),
    ("graphs: recorded anew every time", GRAPHS, 'CudaGraphs.__call__: key not in self._captured', "True", RECORDED),
    ("graphs: a replay is no place to stop", GRAPHS, 'CudaGraphs.__call__: signals.raise_if_stopped()', "pass", RECORDED),
    ("graphs: no room ends the run", GRAPHS, 'CudaGraphs._capture_if_it_fits: with suppress(torch.OutOfMemoryError):\n    return self._capture(function, inputs)\nreturn None', 'return self._capture(function, inputs)', RECORDED),
    ("graphs: nothing is released", GRAPHS, 'CudaGraphs._capture_if_it_fits: torch.cuda.empty_cache()', "pass", RECORDED),
    ("graphs: what found no room is tried every time", GRAPHS, 'CudaGraphs.__call__: key not in self._captured', 'self._captured.get(key) is None', RECORDED),
    ("graphs: experts are recorded", "kernels/decode_step.py", "LlamaDecodeStep.__init__: dense and getattr(trunk.rotary_emb, 'rope_type', 'default') not in LENGTH_DEPENDENT_ROPE", "getattr(trunk.rotary_emb, 'rope_type', 'default') not in LENGTH_DEPENDENT_ROPE", "kernels/test_decode_step.py"),
    ("norms: an older operation of that name", "kernels/fused.py", "_has_fused_rms_norm: ('', '_backward')", "('',)", "kernels/test_fused.py"),
    ("device: another stays the current one", "models/device.py", '_set_current: torch.cuda.set_device(index)', "pass", "models/test_device.py"),
    ("device: one too many", "models/device.py", '_set_current: index >= there', "index > there", "models/test_device.py"),
    ("packed: layers inside adapters too", "kernels/packed_linear.py", "packed_linears: (module for module in trunk.modules() if module not in inside)", "(module for module in trunk.modules())", "kernels/test_packed_linear.py"),
    ("plan: what trains is packed", "plan/phases.py", '_packed_weights: isinstance(job, Job) and job.config.lora is None', "False", "plan/test_phases.py"),
    ("plan: the table of embeddings is packed", "plan/phases.py", '_packed_weights: job.shape.linear_parameters + unembedding', "job.shape.parameters", "plan/test_phases.py"),
    ("cache: held by its layers", "rollout/kv_cache.py", "_Layer.__init__: weakref.proxy(cache)", "cache", "rollout/test_kv_cache.py"),
    ("groups: one learning rate for all", OPTIMISER, '_param_groups: lrs.get(name, lr)', "lr", "train/optim/test_optimiser.py"),
    ("groups: of any size", OPTIMISER, '_param_groups: sizes[group_lr] > FOREACH_ELEMENTS', 'group_lr not in open_groups', "train/optim/test_optimiser.py"),
    ("groups: a rate's parameters land in the other's", OPTIMISER, "_param_groups: open_groups[group_lr]['params']", "groups[-1]['params']", "train/optim/test_optimiser.py"),
    ("advantages: only where all rows act", "maths/advantage.py", 'gae: response_mask.any', 'response_mask.all', "maths/test_advantage.py"),
    ("memory: peaks of the whole run", MEMORY, 'peak_memory: torch.cuda.reset_peak_memory_stats(device)', "pass", "train/test_gpu_memory.py"),
    ("memory: the first GPU alone", MEMORY, 'peak_memory: torch.cuda.device_count()', "1", "train/test_gpu_memory.py"),
    ("segments: the user's word is not heard", "kernels/allocator.py", "grow_gpu_segments: sys.platform.startswith('linux') and (not any((name in os.environ for name in names)))", "sys.platform.startswith('linux')", "kernels/test_allocator.py"),
    ("segments: the old name for all", "kernels/allocator.py", "grow_gpu_segments: names[since]", "names[0]", "kernels/test_allocator.py"),
]  # fmt: skip

GPU = [Mutant(*row) for row in TABLE]
