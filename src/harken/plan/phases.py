"""The memory of a stage, phase by phase: what stays, and what each phase adds to it. All in bytes.

weights       parameters × 2 in bfloat16, × 4 in float32; linear layers × 1 in int8, × 0.52 in nf4; once, however
              many roles share the base
trained       parameters that train × 4, always float32
gradients     trained parameters × 4, from the first backward to the step
moments       trained parameters × 8 (adamw), 2.03 (adamw_8bit); on a GPU 0 (adamw_cpu_offload)
packed        the weights of bfloat16 once more while answers are generated, as they are multiplied
passes        `plan.activations`
cache         layers × 2 × slots × (prompt + answer) × key-value features × 2 or 4, as they are multiplied
allocator     on a CPU, what the C library's heap keeps beside what is alive (`HEAP_SHARE`)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harken.config.ppo import PPOTraining
from harken.config.training import RewardTraining, SupervisedTraining
from harken.kernels.packed_linear import MAX_PACKED_WEIGHTS
from harken.models.quantised import WEIGHT_DTYPES, compute_dtype
from harken.plan.activations import PassMemory, decode_logits_bytes, kv_cache_bytes, matmul_itemsize
from harken.plan.job import EVALUATION_MICRO_BATCH, EvaluationJob, Job
from harken.plan.rows import MicroBatch
from harken.rollout.in_process import MAX_PREFILL_TOKENS
from harken.rollout.slots import MAX_SLOTS, MIN_SLOTS, slot_count
from harken.seeds import permutation

HEAP_SHARE, HEAP_FLOOR = 0.25, 0.35e9
"""Measured overhead, on Linux with glibc: freed tensors of one micro-batch are not all used again for the next, whose
sizes differ, so within a few steps of training the process holds this much more than is alive: a quarter of a pass,
and 0.35 GB whatever its size, for blocks above 32 MB do go back. docs/plan.md has how near twelve runs came to it.
Where every weight trains, gradients and moments come to lie in the gaps."""
CUDA_RESERVED_SHARE = 0.15
"""The same of CUDA's caching allocator, beside a pass: 7.48 GB for 6.58 in a run on an H100 (docs/plan.md)."""
CUDA_CONTEXT = 0.65e9
"""What a process takes on a GPU before its first tensor, measured on an H100 (CUDA 13.0, torch 2.11)."""


@dataclass(frozen=True)
class Phase:
    """One part of a stage, and the bytes alive in it by kind."""

    stage: str
    name: str
    parts: dict[str, float]

    @property
    def total(self) -> float:
        """Bytes."""
        return sum(self.parts.values())


def phases(job: Job | EvaluationJob, process: float) -> list[Phase]:
    """Every phase of a stage. `process` is what Python and its libraries hold; on a GPU the driver's share."""
    if isinstance(job, EvaluationJob):
        return _evaluation(job, process)
    stays = {"process": process, "weights": _weights(job), "trained": 4.0 * job.trained_parameters}
    if isinstance(job.config.training, PPOTraining):
        return _ppo(job, stays)
    found = [
        Phase(job.name, "load", {"process": process, "weights": _weights_while_loading(job)}),
        Phase(job.name, "learn", _learn(job, stays, supervised_micro_batches(job))),
    ]
    if job.rows.held_out:
        after = stays | {"moments": _optimiser_state(job)}
        groups = supervised_micro_batches(job)
        found.append(
            Phase(job.name, "evaluate", _no_grad(job.pass_memory, after, groups, head=_has_head(job)))
        )
    merging = stays | {"moments": _optimiser_state(job)}
    if isinstance(job.config.training, SupervisedTraining) and job.config.lora:
        # The base becomes float32 for the merge, then goes back; the C library has not given back what learning freed.
        merging["weights"] = 4.0 * job.shape.parameters
        learn = found[1].parts
        merging |= {"left by learning": learn["pass"] + learn["allocator"]} if job.on_cpu else {}
    found.append(Phase(job.name, "save", merging))
    return found


def _ppo(job: Job, stays: dict[str, float]) -> list[Phase]:
    training = job.config.training
    assert isinstance(training, PPOTraining)
    settings = training.ppo
    after = stays | {"moments": _optimiser_state(job)}
    # What an update may have to go back to lies in the computer's memory.
    inside = 4.0 * job.trained_parameters if job.on_cpu and settings.kl_budget is not None else 0.0
    after |= {"way back": inside} if inside else {}
    several = settings.epochs * settings.minibatches > 1 or settings.update_kl_limit is not None or inside
    back = 4.0 * job.trained_parameters + _optimiser_state(job) + inside if job.on_cpu and several else 0.0
    learning = after | ({"way back": back} if back else {})
    together, prompt = concurrent_responses(job), max(job.rows.lengths)
    generate = after | {
        "packed": _packed_weights(job),
        "cache": kv_cache_bytes(
            job.shape, together, prompt + settings.max_gen_len, job.pass_memory.matmul_itemsize
        ),
        "logits": decode_logits_bytes(job.shape, together, job.itemsize),
    }
    reading = job.pass_memory.workspace(
        _prefill_rows(min(together, settings.prompts_per_update), prompt), prompt
    )
    generate |= _with_allocator(job.on_cpu, reading)
    whole = rollout_micro_batches(job)
    found = [
        Phase(job.name, "load", {"process": stays["process"], "weights": _weights_while_loading(job)}),
        Phase(job.name, "generate", generate),
    ]
    if job.scorers:
        # One reads after the other: the widest counts.
        scored = replace(
            job.pass_memory, shape=max((s.shape for s in job.scorers), key=lambda s: s.parameters)
        )
        groups = rollout_micro_batches(job, 2)
        found.append(Phase(job.name, "score", _no_grad(scored, after, groups, head=False)))
    found.append(Phase(job.name, "evaluate", _no_grad(job.pass_memory, after, whole, head=True)))
    found.append(
        Phase(job.name, "learn", _learn(job, learning, rollout_micro_batches(job, 1, settings.minibatches)))
    )
    found.append(Phase(job.name, "save", after))
    return found


def _evaluation(job: EvaluationJob, process: float) -> list[Phase]:
    number = _itemsize(job)
    adapter = 4.0 * job.shape.lora_parameters(job.lora.rank) if job.lora else 0.0
    stays = {
        "process": process,
        "weights": job.shape.weight_bytes(WEIGHT_DTYPES[job.config.dtype]),
        "adapters": adapter,
    }
    passing = PassMemory(job.shape, number, job.lora.rank if job.lora else 0, on_cpu=job.on_cpu)
    together, prompt = concurrent_responses(job), max(job.rows.lengths)
    generate = stays | {
        "packed": _packed_weights(job),
        "cache": kv_cache_bytes(
            job.shape, together, prompt + job.config.max_gen_len, passing.matmul_itemsize
        ),
        "logits": decode_logits_bytes(job.shape, together, number),
    }
    reading = passing.workspace(_prefill_rows(together, prompt), prompt)
    generate |= _with_allocator(job.on_cpu, reading)
    longest = prompt + job.config.max_gen_len
    read: list[MicroBatch] = [(max(EVALUATION_MICRO_BATCH // longest, 1), longest)]
    return [
        Phase(job.name, "generate", generate),
        Phase(job.name, "score", _no_grad(passing, stays, read, head=False)),
    ]


def concurrent_responses(job: Job | EvaluationJob) -> int:
    """Answers in the making at a time; where none are made, as many as are timed beside."""
    if isinstance(job, EvaluationJob):
        count, longest = job.rows.train or MAX_SLOTS, job.config.max_gen_len
    elif isinstance(job.config.training, PPOTraining):
        settings = job.config.training.ppo
        count, longest = settings.prompts_per_update * settings.samples_per_prompt, settings.max_gen_len
    else:
        return MIN_SLOTS
    capacity = max(job.rows.lengths) + longest
    number = matmul_itemsize(_itemsize(job), on_cpu=job.on_cpu)
    return slot_count(count, kv_cache_bytes(job.shape, 1, capacity, number))


def _itemsize(job: Job | EvaluationJob) -> int:
    return compute_dtype(WEIGHT_DTYPES[job.config.dtype]).itemsize


# -- what stays -------------------------------------------------------------------------------------


def _weights(job: Job) -> float:
    """Every base that is loaded, and the frozen adapters on them."""
    shape, weight_dtype = job.shape, WEIGHT_DTYPES[job.config.dtype]
    # A base whose every weight trains is counted with what trains.
    total = shape.weight_bytes(weight_dtype) if job.config.lora else 0.0
    training = job.config.training
    if not isinstance(training, PPOTraining):
        return total
    settings = training.ppo
    if settings.reference != "sft" or job.config.lora is None:
        total += shape.weight_bytes(weight_dtype)
    elif settings.reference_update_every is not None:
        total += 4.0 * job.trained_parameters
    if settings.critic == "model":
        total += shape.weight_bytes(weight_dtype)
    bases = {s.shape for s in job.scorers if s.has_own_base}
    total += sum(s.weight_bytes(weight_dtype) for s in bases)
    return total + sum(4.0 * s.shape.lora_parameters(s.rank) for s in job.scorers)


def _weights_while_loading(job: Job) -> float:
    """A base with adapters under it is merged in float32."""
    return max(_weights(job), 4.0 * job.shape.parameters if job.model.merges_adapters else 0.0)


def _optimiser_state(job: Job) -> float:
    kind = job.config.training.optimizer
    if kind == "adamw_cpu_offload" and not job.on_cpu:
        return 0.0
    each = 2.03 if kind == "adamw_8bit" else 8.0
    training = job.config.training
    critic = isinstance(training, PPOTraining) and training.ppo.critic != "shared"
    return each * job.trained_parameters * (2 if critic else 1)


# -- what comes and goes ----------------------------------------------------------------------------


def _learn(job: Job, stays: dict[str, float], groups: list[MicroBatch]) -> dict[str, float]:
    """The micro-batch that needs most, as its backward begins, beside gradients and moments."""
    passing, training = job.pass_memory, job.config.training
    critic = isinstance(training, PPOTraining) and training.ppo.critic != "shared"
    # The whole distribution's KL in the loss is a second forward through the policy.
    twice = isinstance(training, PPOTraining) and (
        training.ppo.kl_in != "reward" and training.ppo.kl_estimator == "full"
    )

    def alive(group: MicroBatch) -> float:
        rows, longest = group
        kept = passing.saved(rows, longest) * (2 if twice else 1)
        head = (
            passing.unembedding(rows * longest, weight_trains=job.config.lora is None)
            if _has_head(job)
            else 0.0
        )
        return kept + passing.weight_casts() + max(passing.workspace(rows, longest, backward=True), head)

    trained = 4.0 * job.trained_parameters * (2 if critic else 1)
    learn = stays | {"trained": trained, "gradients": trained, "moments": _optimiser_state(job)}
    learn |= _with_allocator(job.on_cpu, max(map(alive, groups)))
    if job.on_cpu and job.config.lora:
        learn["allocator"] += HEAP_FLOOR
    return learn


def _no_grad(
    passing: PassMemory, stays: dict[str, float], groups: list[MicroBatch], *, head: bool
) -> dict[str, float]:
    def alive(group: MicroBatch) -> float:
        rows, longest = group
        return max(passing.workspace(rows, longest), passing.unembedding(rows * longest) if head else 0.0)

    return stays | _with_allocator(passing.on_cpu, max(map(alive, groups)))


def _with_allocator(on_cpu: bool, alive: float) -> dict[str, float]:
    """What is alive in a pass, and what the allocator holds beside it."""
    return {"pass": alive, "allocator": alive * (HEAP_SHARE if on_cpu else CUDA_RESERVED_SHARE)}


def _prefill_rows(prompts: int, longest: int) -> int:
    """How many prompts one pass reads."""
    return min(prompts, max(MAX_PREFILL_TOKENS // longest, 1))


def _packed_weights(job: Job | EvaluationJob) -> float:
    """The weights once more, in the order that decoding reads them in (`kernels.packed_linear`)."""
    if job.config.dtype != "bfloat16" or job.shape.parameters > MAX_PACKED_WEIGHTS:
        return 0.0
    if (
        isinstance(job, Job) and job.config.lora is None
    ):  # weights that train are float32, and read as they lie
        return 0.0
    unembedding = (
        job.shape.vocab_size * job.shape.hidden_size if job.on_cpu else 0
    )  # a GPU reads it as it lies
    return float(matmul_itemsize(2, on_cpu=job.on_cpu) * (job.shape.linear_parameters + unembedding))


def _has_head(job: Job) -> bool:
    return not isinstance(job.config.training, RewardTraining)


def supervised_micro_batches(job: Job) -> list[MicroBatch]:
    """Micro-batches of some optimiser steps of SFT or a reward model."""
    training = job.config.training
    assert isinstance(training, SupervisedTraining | RewardTraining)
    batches = job.rows.batches(training.batch_size)
    return [group for batch in batches for group in job.rows.micro_batches(batch, job.budget)]


def rollout_micro_batches(job: Job, times: int = 1, parts: int = 1) -> list[MicroBatch]:
    """Micro-batches of some updates' answers, or of one of the `parts` optimiser steps they are split into."""
    training = job.config.training
    assert isinstance(training, PPOTraining)
    settings = training.ppo
    batches = job.rows.with_responses(
        settings.prompts_per_update, settings.samples_per_prompt, settings.max_gen_len
    )
    if parts > 1:
        order = permutation(len(batches[0]), job.config.seed, "plan", "part")[::parts]
        batches = [[batch[i] for i in order] for batch in batches]
    return [group for batch in batches for group in job.rows.micro_batches(batch, times * job.budget)]
