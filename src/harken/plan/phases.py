"""Predict the memory of a stage in bytes, phase by phase: always allocated memory, and what each phase adds.

weights          parameters × 2 in bfloat16, × 4 in float32; linear layers × 1 in int8, × 0.52 in nf4; counted once for
                 all roles that share the base
trained          trained parameters × 4, always float32
gradients        trained parameters × 4, from the first backward to the step
optimiser state  trained parameters × 8 (adamw), 2.03 (adamw_8bit); on a GPU 0 (adamw_cpu_offload)
packed weights   a copy of bfloat16 weights during generation, in the matmul dtype
activations      `plan.activations`
KV cache         layers × 2 × slots × (prompt + response) × key-value features × 2 or 4, the itemsize of the matmul
dtype
allocator        on a CPU, freed memory that the C library keeps (`HEAP_SHARE`)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from harken.card.model_scorer import CARD_BATCH_TOKENS
from harken.config.ppo import PPOTraining
from harken.config.preference_training import DPOTraining
from harken.config.run import WeightDtypeName
from harken.config.training import HeadTraining, RewardTraining, SupervisedTraining
from harken.kernels.packed_linear import MAX_PACKED_WEIGHTS
from harken.models.quantised import WEIGHT_DTYPES, compute_dtype
from harken.plan.activations import PassMemory, decode_logits_bytes, kv_cache_bytes, matmul_itemsize
from harken.plan.job import Job
from harken.plan.responses_job import SCORING_MICRO_BATCH, ResponsesJob
from harken.plan.rows import MicroBatch
from harken.rollout.in_process import MAX_PREFILL_TOKENS
from harken.rollout.slots import MAX_SLOTS, MIN_SLOTS, slot_count
from harken.seeds import permutation

HEAP_SHARE, HEAP_FLOOR = 0.25, 0.35e9
"""Measured overhead of glibc on Linux. Micro-batches differ in size, so freed tensors of one are not all reused for the
next. After a few steps the process holds a quarter of a pass more than its live tensors, and another 0.35 GB regardless
of size; blocks above 32 MB are returned. docs/plan.md compares predictions with twelve runs. If every weight trains,
gradients and optimiser state fill the gaps."""
CUDA_RESERVED_SHARE = 0.15
"""Overhead of CUDA's caching allocator as a share of a pass: 7.48 GB for 6.58 in a run on an H100 (docs/plan.md)."""
CUDA_CONTEXT = 0.65e9
"""Memory of a process on a GPU before its first tensor, measured on an H100 (CUDA 13.0, torch 2.11)."""


@dataclass(frozen=True)
class Phase:
    """The predicted bytes of one phase of a stage by kind."""

    stage: str
    name: str
    parts: dict[str, float]

    @property
    def total(self) -> float:
        """Total bytes."""
        return sum(self.parts.values())


def phases(job: Job | ResponsesJob, process: float) -> list[Phase]:
    """Predict all phases of a stage. `process` is the memory of Python and its libraries; on a GPU, of the driver."""
    if isinstance(job, ResponsesJob):
        return _responses(job, process)
    stays = {"process": process, "weights": _weights(job), "trained": 4.0 * job.trained_parameters}
    if isinstance(job.config.training, PPOTraining):
        return _ppo(job, stays)
    planned = [
        Phase(job.name, "load", {"process": process, "weights": _weights_while_loading(job)}),
        Phase(job.name, "learn", _learn(job, stays, supervised_micro_batches(job))),
    ]
    if job.rows.held_out:
        after = stays | {"optimiser state": _optimiser_state(job)}
        groups = supervised_micro_batches(job)
        planned.append(
            Phase(job.name, "evaluate", _no_grad(job.pass_memory, after, groups, head=_has_head(job)))
        )
    if groups := card_micro_batches(job):
        after = stays | {"optimiser state": _optimiser_state(job)}
        planned.append(Phase(job.name, "card", _no_grad(job.pass_memory, after, groups, head=False)))
    merging = stays | {"optimiser state": _optimiser_state(job)}
    if isinstance(job.config.training, SupervisedTraining) and job.config.lora:
        # The base is converted to float32 for the merge. The C library has not returned the memory that learning freed.
        merging["weights"] = 4.0 * job.shape.parameters
        learn = planned[1].parts
        merging |= {"freed by learning": learn["activations"] + learn["allocator"]} if job.on_cpu else {}
    planned.append(Phase(job.name, "save", merging))
    return planned


def _ppo(job: Job, stays: dict[str, float]) -> list[Phase]:
    training = job.config.training
    assert isinstance(training, PPOTraining)
    settings = training.ppo
    after = stays | {"optimiser state": _optimiser_state(job)}
    # The snapshot for a rollback is stored in host memory.
    rollback = 4.0 * job.trained_parameters if job.on_cpu and settings.kl_budget is not None else 0.0
    after |= {"snapshot": rollback} if rollback else {}
    several = settings.epochs * settings.minibatches > 1 or settings.update_kl_limit is not None or rollback
    snapshot = (
        4.0 * job.trained_parameters + _optimiser_state(job) + rollback if job.on_cpu and several else 0.0
    )
    learning = after | ({"snapshot": snapshot} if snapshot else {})
    slots, prompt = concurrent_responses(job), max(job.rows.lengths)
    generate = after | {
        "packed weights": _packed_weights(job),
        "KV cache": kv_cache_bytes(
            job.shape, slots, prompt + settings.max_gen_len, job.pass_memory.matmul_itemsize
        ),
        "logits": decode_logits_bytes(job.shape, slots, job.itemsize),
    }
    prefill = job.pass_memory.workspace(
        _prefill_rows(min(slots, settings.prompts_per_update), prompt), prompt
    )
    generate |= _with_allocator(job.on_cpu, prefill)
    groups = rollout_micro_batches(job)
    planned = [
        Phase(job.name, "load", {"process": stays["process"], "weights": _weights_while_loading(job)}),
        Phase(job.name, "generate", generate),
    ]
    if job.scorers:
        # Reward models score one after the other, so the largest counts.
        scored = replace(
            job.pass_memory, shape=max((s.shape for s in job.scorers), key=lambda s: s.parameters)
        )
        scored_groups = rollout_micro_batches(job, 2)
        planned.append(Phase(job.name, "score", _no_grad(scored, after, scored_groups, head=False)))
    planned.append(Phase(job.name, "evaluate", _no_grad(job.pass_memory, after, groups, head=True)))
    planned.append(
        Phase(job.name, "learn", _learn(job, learning, rollout_micro_batches(job, 1, settings.minibatches)))
    )
    planned.append(Phase(job.name, "save", after))
    return planned


def _responses(job: ResponsesJob, process: float) -> list[Phase]:
    itemsize = _itemsize(job)
    adapter = 4.0 * job.shape.lora_parameters(job.lora.rank) if job.lora else 0.0
    stays = {
        "process": process,
        "weights": job.shape.weight_bytes(WEIGHT_DTYPES[job.dtype]),
        "adapters": adapter,
    }
    model_pass = PassMemory(job.shape, itemsize, job.lora.rank if job.lora else 0, on_cpu=job.on_cpu)
    prompt = max(job.rows.lengths)
    longest = prompt + job.max_gen_len
    planned = []
    if job.generated:
        slots = concurrent_responses(job)
        generate = stays | {
            "packed weights": _packed_weights(job),
            "KV cache": kv_cache_bytes(job.shape, slots, longest, model_pass.matmul_itemsize),
            "logits": decode_logits_bytes(job.shape, slots, itemsize),
        }
        prefill = model_pass.workspace(_prefill_rows(slots, prompt), prompt)
        planned.append(Phase(job.name, "generate", generate | _with_allocator(job.on_cpu, prefill)))
    if job.scored:
        groups: list[MicroBatch] = [(max(SCORING_MICRO_BATCH // longest, 1), longest)]
        planned.append(Phase(job.name, "score", _no_grad(model_pass, stays, groups, head=False)))
    return planned


def concurrent_responses(job: Job | ResponsesJob) -> int:
    """Return how many responses are generated at a time; stages without generation return the number to time."""
    if isinstance(job, ResponsesJob):
        count = (job.rows.train or MAX_SLOTS) * max(job.generated, default=1)
        longest = job.max_gen_len
    elif isinstance(job.config.training, PPOTraining):
        settings = job.config.training.ppo
        count, longest = settings.prompts_per_update * settings.samples_per_prompt, settings.max_gen_len
    else:
        return MIN_SLOTS
    capacity = max(job.rows.lengths) + longest
    itemsize = matmul_itemsize(_itemsize(job), on_cpu=job.on_cpu)
    return slot_count(count, kv_cache_bytes(job.shape, 1, capacity, itemsize), memory=job.memory)


def _itemsize(job: Job | ResponsesJob) -> int:
    return compute_dtype(WEIGHT_DTYPES[_dtype(job)]).itemsize


def _dtype(job: Job | ResponsesJob) -> WeightDtypeName:
    return job.dtype if isinstance(job, ResponsesJob) else job.config.dtype


# -- always allocated ------------------------------------------------------------------------------------------


def _weights(job: Job) -> float:
    """Return the bytes of all loaded bases and the frozen adapters on them."""
    shape, weight_dtype = job.shape, WEIGHT_DTYPES[job.config.dtype]
    # If every weight trains, the base is counted as trained parameters.
    total = shape.weight_bytes(weight_dtype) if job.config.lora else 0.0
    training = job.config.training
    if isinstance(training, DPOTraining) and job.config.lora is None:
        return total + shape.weight_bytes(weight_dtype)  # the reference, a frozen copy
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
    """Return the bytes of the weights while loading: a base with adapters is merged in float32."""
    return max(_weights(job), 4.0 * job.shape.parameters if job.model.merges_adapters else 0.0)


def _optimiser_state(job: Job) -> float:
    kind = job.config.training.optimizer
    if kind == "adamw_cpu_offload" and not job.on_cpu:
        return 0.0
    bytes_per_parameter = 2.03 if kind == "adamw_8bit" else 8.0
    training = job.config.training
    critic = isinstance(training, PPOTraining) and training.ppo.critic != "shared"
    return bytes_per_parameter * job.trained_parameters * (2 if critic else 1)


# -- allocated in a phase ----------------------------------------------------------------------------


def _learn(job: Job, stays: dict[str, float], groups: list[MicroBatch]) -> dict[str, float]:
    """Predict the memory of learning, at the start of the backward pass of the largest micro-batch."""
    model_pass, training = job.pass_memory, job.config.training
    critic = isinstance(training, PPOTraining) and training.ppo.critic != "shared"
    # With the full KL in the loss, the policy runs a second forward.
    two_forwards = isinstance(training, PPOTraining) and (
        training.ppo.kl_in != "reward" and training.ppo.kl_estimator == "full"
    )

    def alive(group: MicroBatch) -> float:
        rows, longest = group
        saved = model_pass.saved(rows, longest) * (2 if two_forwards else 1)
        head = (
            model_pass.unembedding(rows * longest, weight_trains=job.config.lora is None)
            if _has_head(job)
            else 0.0
        )
        return (
            saved + model_pass.weight_casts() + max(model_pass.workspace(rows, longest, backward=True), head)
        )

    trained = 4.0 * job.trained_parameters * (2 if critic else 1)
    learn = stays | {"trained": trained, "gradients": trained, "optimiser state": _optimiser_state(job)}
    learn |= _with_allocator(job.on_cpu, max(map(alive, groups)))
    if job.on_cpu and job.config.lora:
        learn["allocator"] += HEAP_FLOOR
    return learn


def _no_grad(
    model_pass: PassMemory, stays: dict[str, float], groups: list[MicroBatch], *, head: bool
) -> dict[str, float]:
    def alive(group: MicroBatch) -> float:
        rows, longest = group
        return max(
            model_pass.workspace(rows, longest), model_pass.unembedding(rows * longest) if head else 0.0
        )

    return stays | _with_allocator(model_pass.on_cpu, max(map(alive, groups)))


def _with_allocator(on_cpu: bool, alive: float) -> dict[str, float]:
    """Return the bytes alive in a pass, and the overhead of the allocator."""
    return {"activations": alive, "allocator": alive * (HEAP_SHARE if on_cpu else CUDA_RESERVED_SHARE)}


def _prefill_rows(prompts: int, longest: int) -> int:
    """Return the number of prompts of one prefill pass."""
    return min(prompts, max(MAX_PREFILL_TOKENS // longest, 1))


def _packed_weights(job: Job | ResponsesJob) -> float:
    """Return the bytes of the copy of the weights that decoding uses (`kernels.packed_linear`)."""
    if _dtype(job) != "bfloat16" or job.shape.parameters > MAX_PACKED_WEIGHTS:
        return 0.0
    if isinstance(job, Job) and job.config.lora is None:  # trained weights are float32 and are not packed
        return 0.0
    unembedding = job.shape.vocab_size * job.shape.hidden_size if job.on_cpu else 0  # a GPU does not pack it
    return float(matmul_itemsize(2, on_cpu=job.on_cpu) * (job.shape.linear_parameters + unembedding))


def _has_head(job: Job) -> bool:
    return not isinstance(job.config.training, HeadTraining)


def supervised_micro_batches(job: Job) -> list[MicroBatch]:
    """Return the micro-batches of sampled optimiser steps of SFT, a reward model, a classifier or DPO."""
    training = job.config.training
    assert isinstance(training, SupervisedTraining | HeadTraining | DPOTraining)
    batches = job.rows.batches(training.batch_size)
    return [group for batch in batches for group in job.rows.micro_batches(batch, job.budget)]


def card_micro_batches(job: Job) -> list[MicroBatch]:
    """Return the micro-batches in which the card of a reward stage scores its held-out pairs; [] without a card."""
    training = job.config.training
    if not isinstance(training, RewardTraining) or not (pairs := min(training.card.pairs, job.rows.held_out)):
        return []
    return job.rows.micro_batches(job.rows.batches(pairs)[0], CARD_BATCH_TOKENS)


def rollout_micro_batches(job: Job, times: int = 1, parts: int = 1) -> list[MicroBatch]:
    """Return the micro-batches of sampled updates, or of one of the `parts` optimiser steps of each."""
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
