"""Memory that runs out: smaller micro-batches, and nothing else is different."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_stage import ppo_config
from tiny import tiny_backbone
from torch import Tensor

from harken.config import RunConfig
from harken.config.base import DataConfig
from harken.config.ppo import PtxSettings
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.records import TokenDemonstration, TokenPair
from harken.train.oom_retry import MicroBatcher, is_out_of_memory
from harken.train.ppo.learner import Ptx
from harken.train.ppo.stage import PPOStage
from harken.train.reward_model import RewardStage
from harken.train.sft import SupervisedStage

Fails = Callable[[int, int], bool]
"""Whether a forward runs out, by how many came before it and how many tokens, padding included, it holds."""

DEMONSTRATIONS = [
    TokenDemonstration(f"r{i}", (*range(9 + 20 * i, 13 + 21 * i), 2), (*[False] * 4, *[True] * (1 + i)))
    for i in range(8)
]
PAIRS = [TokenPair(f"p{i}", (*range(9, 10 + i), 40, 2), (*range(9, 10 + i), 90, 2)) for i in range(8)]


def limited(made: Backbone, fails: Fails, roles: Sequence[str] = ("policy", "reward")) -> Backbone:
    """It runs out of memory, as a GPU does, where `fails` says so: forwards with gradients of these roles count."""
    forward, calls = made.forward, itertools.count()

    def limited_forward(*kernel: Any, **inputs: Any) -> Tensor:
        hidden = forward(*kernel, **inputs)
        counts = torch.is_grad_enabled() and made._role in roles
        if counts and fails(next(calls), inputs["input_ids"].numel()):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return hidden

    made.forward = limited_forward  # type: ignore[method-assign]
    return made


def never(call: int, tokens: int) -> bool:
    return False


def second(call: int, tokens: int) -> bool:
    """So late that there are gradients and measures to forget."""
    return call == 1


def above_ten(call: int, tokens: int) -> bool:
    return tokens > 10


def config(kind: str, **keys: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "dtype": "float32",
            "data": {"path": "rows"},
            "lora": {"rank": 4, "dropout": 0.2},
            "training": {"type": kind, "lr": 1e-2, "batch_size": 8, "epochs": 4, **keys},
        }
    )


def supervised(fails: Fails, **keys: Any) -> SupervisedStage:
    made = limited(tiny_backbone(), fails)
    return SupervisedStage(config("sft", **keys), made, DEMONSTRATIONS, DEMONSTRATIONS)


def reward(fails: Fails, **keys: Any) -> RewardStage:
    return RewardStage(config("reward", **keys), limited(tiny_backbone(), fails), Path("base"), PAIRS, PAIRS)


def run(stage: Any, steps: int) -> list[dict[str, float]]:
    """As the loop does it: a step's draws come from its number."""
    found = []
    for number in range(steps):
        torch.manual_seed(number)
        metrics = stage.step(number)
        found.append({k: v for k, v in metrics.items() if "time/" not in k and "per_second" not in k})
    return found


@pytest.mark.parametrize("make", [supervised, reward])
def test_a_run_that_ran_out_is_the_run_with_that_budget(make: Callable[..., Any]) -> None:
    """Bit for bit, adapter dropout and the failed step included; the first micro-batch had fitted."""
    failing = make(second, micro_batch_tokens=64)
    ran_out = run(failing, 3)
    budget = failing.micro_batcher.tokens
    assert 2 <= budget <= 32
    straight = make(never, micro_batch_tokens=budget)
    assert run(straight, 3) == ran_out
    assert straight.micro_batcher.tokens == budget
    assert ran_out[0]["memory/micro_batch_tokens"] == budget
    one, two = failing.tensors(), straight.tensors()
    assert all(torch.equal(one[name], two[name]) for name in two)
    assert failing.evaluate(3) == straight.evaluate(3)


@pytest.mark.parametrize("make", [supervised, reward])
def test_a_resumed_run_keeps_the_micro_batch_that_fitted(make: Callable[..., Any]) -> None:
    first = make(second, micro_batch_tokens=64)
    run(first, 1)
    other = make(never, micro_batch_tokens=64)
    other.load(first.tensors(), first.state())
    assert other.micro_batcher.tokens == first.micro_batcher.tokens < 64


def test_it_is_said_once_and_plainly(capsys: pytest.CaptureFixture[str]) -> None:
    run(supervised(second, micro_batch_tokens=64), 3)
    message = [line for line in capsys.readouterr().err.splitlines() if "out of memory" in line]
    assert message == [
        "SFT: out of memory; the step starts again with micro_batch_tokens 28 instead of 64, "
        "and the same effective batch"
    ]


def test_a_row_that_does_not_fit_ends_the_run_with_advice() -> None:
    with pytest.raises(UserError, match=r"a forward of 12 tokens .*gradient_checkpointing") as error:
        run(supervised(above_ten, micro_batch_tokens=64), 1)
    assert "\n" not in str(error.value)


def test_other_errors_are_not_swallowed() -> None:
    budget = MicroBatcher(10, "SFT", tiny_backbone())
    for error in (RuntimeError("shapes do not match"), ValueError("can't allocate memory"), KeyError("x")):
        assert not is_out_of_memory(error)

    def broken() -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        budget.retry_on_oom(broken)
    assert budget.tokens == 10


def test_torchs_out_of_memory_error_on_a_cpu_is_recognised() -> None:
    """The real error, of an allocation no machine can make."""
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 58, dtype=torch.uint8)
    assert is_out_of_memory(error.value)
    assert is_out_of_memory(MemoryError())


@pytest.mark.parametrize(
    ("tokens", "rows", "lengths", "halved"),
    [(100, 1, [9, 9, 9], 13), (100, 2, [9, 9, 9], 27), (12, 1, [40, 6, 6], 6), (4096, 1, [50] * 7, 175)],
)
def test_the_next_size_is_half_the_tried_one(tokens: int, rows: int, lengths: list[int], halved: int) -> None:
    """Not half of a budget that was never full: the next attempt has to differ."""
    budget = MicroBatcher(tokens, "SFT", tiny_backbone())
    # No two rows begin alike.
    items = [[[100 * side + i, *[7] * (n - 1)] for side in range(rows)] for i, n in enumerate(lengths)]
    failures = iter([True, False])

    def attempt() -> int:
        groups = budget.split(items)
        if next(failures):
            raise MemoryError
        return len(groups)

    once = len(budget.split(items))
    assert budget.retry_on_oom(attempt) > once
    assert budget.tokens == halved


# -- PPO ------------------------------------------------------------------------------------------


PTX = Ptx(DEMONSTRATIONS, PtxSettings(data=DataConfig(path="rows"), coef=0.5, batch_size=8))


@pytest.mark.sample(1)
@pytest.mark.parametrize("where", ["policy", "critic", "ptx"])
def test_ppo_counts_no_failed_attempt(make_stage: Callable[..., PPOStage], where: str) -> None:
    """Weights and every mean, to 1e-5: the old log-probabilities were measured in other micro-batches."""
    keys: dict[str, Any] = {"ppo": {"critic": "adapter"} if where == "critic" else {}}
    ptx = PTX if where == "ptx" else None
    stages = []
    for fails, budget in ((second, 90), (never, None)):
        keys["micro_batch_tokens"] = budget or stages[0].learner.micro_batcher.tokens
        stage = make_stage(ppo_config(**keys), folder=str(budget), ptx=ptx)
        # Three rollouts and eight demonstrations a step: `second` is a micro-batch of what the role is called for.
        limited(stage.policy.backbone, fails, ("critic",) if where == "critic" else ("policy",))
        if where == "ptx":
            stage.learner._micro_batches = lambda minibatch: [minibatch]  # type: ignore[method-assign]
            stage.evaluator._micro_batches = lambda batch, rows=None: [  # type: ignore[method-assign]
                list(range(len(batch.tokens)) if rows is None else rows)
            ]
        stages.append(stage)
        if budget:
            ran_out = run(stage, 2)
            assert stage.learner.micro_batcher.tokens < budget
    failing, straight = stages
    for a, b in zip(run(straight, 2), ran_out, strict=True):
        assert a.keys() == b.keys()
        assert b == pytest.approx(a, rel=1e-4, abs=1e-5)
    one, two = failing.tensors(), straight.tensors()
    assert one.keys() == two.keys()
    for name in two:
        if name.startswith("parameter/"):
            assert torch.allclose(one[name], two[name], atol=1e-5), name
