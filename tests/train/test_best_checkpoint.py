"""The best step's weights become final, not the last's; and what PPO calls best."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_stage import ppo_config
from torch import Tensor

from harken.config import CheckpointSettings, HealthSettings
from harken.run import checkpoint
from harken.run.folder import RunFolder
from harken.train import loop
from harken.train.best_checkpoint import BestCheckpoint
from harken.train.loop import run_stage
from harken.train.ppo.stage import PPOStage


class Counting:
    """A stage whose only weight is the number of its steps, and whose selection metric is given."""

    label, total = "count", 5

    def __init__(self, values: Mapping[int, float], stop_after: int = 99) -> None:
        self.values, self.stop_after = values, stop_after
        self.weight, self.moment, self.done = torch.zeros(1), torch.zeros(1), 0

    def on_train_begin(self) -> None:
        pass

    def step(self, number: int) -> dict[str, float]:
        self.done = number + 1
        self.weight, self.moment = torch.full((1,), float(self.done)), torch.full((1,), -1.0)
        return {"loss": 0.0}

    def evaluate(self, done: int) -> dict[str, float]:
        return {"eval/metric": self.values.get(done, 0.0)}

    def selection_metric(self, metrics: Mapping[str, float]) -> float | None:
        return metrics.get("eval/metric") or None

    def stop_reason(self) -> str | None:
        return "enough" if self.done >= self.stop_after else None

    def summary(self, metrics: Mapping[str, float]) -> str:
        return ""

    def tensors(self) -> dict[str, Tensor]:
        return {"parameter/weight": self.weight, "adam/moment": self.moment}

    def state(self) -> dict[str, Any]:
        return {"done": self.done}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        self.weight, self.moment = tensors["parameter/weight"], tensors["adam/moment"]
        self.done = state["done"]

    def save(self, folder: Path) -> None:
        (folder / "weight").write_text(str(float(self.weight)))


def final_of(tmp_path: Path, stage: Counting) -> tuple[str, str]:
    run = RunFolder(tmp_path)
    run_stage(
        stage, run, seed=0, checkpoints=CheckpointSettings(every=2), eval_every=1, tensorboard=False,
        kind="sft", health=HealthSettings(), dtype="float32",
    )  # fmt: skip
    return (run.final / "weight").read_text(), run.status.read_text()


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({2: 3.0, 4: 1.0}, "2.0"),
        ({1: 1.0, 5: 2.0}, "5.0"),
        ({2: 1.0, 3: 1.0}, "2.0"),
        ({}, "5.0"),
        ({2: -math.inf, 4: -math.inf}, "2.0"),
        ({2: -math.inf, 4: 1.0}, "4.0"),
    ],
)
def test_final_is_the_best_step(tmp_path: Path, values: dict[int, float], wanted: str) -> None:
    """The highest metric wins, ties keep the earlier step; none measured: the last; none eligible: the first."""
    assert final_of(tmp_path, Counting(values))[0] == wanted


def test_no_room_for_the_best_ends_the_run_and_the_next_start_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Going on without it would end with other weights, and nobody would know."""
    save = checkpoint.save

    def full(folder: Path, *given: Any, **named: Any) -> bool:
        return folder.name != "best" and save(folder, *given, **named)

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(OSError, match="No space left"):
        final_of(tmp_path, Counting({2: 3.0, 4: 1.0}))
    monkeypatch.setattr(checkpoint, "save", save)
    assert final_of(tmp_path, Counting({2: 3.0, 4: 1.0}))[0] == "2.0"


def test_checkpoints_left_by_a_killed_save_are_removed(tmp_path: Path) -> None:
    """Killed after a new best had its name and before the one before it went."""
    for step in (1, 2):
        assert checkpoint.save(tmp_path, step, {}, {"selection_metric": float(step)}, keep=2)
    assert BestCheckpoint(tmp_path).step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["step-000002"]


def test_a_disk_too_small_for_two_checkpoints_is_reported_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A parameter and its two moments, four bytes each, twice: 24; what is no parameter once."""
    found: list[int] = []
    monkeypatch.setattr(loop, "require_disk_space", lambda folder, needed, what: found.append(needed))
    stage = Counting({})
    stage.tensors = lambda: {  # type: ignore[method-assign]
        "parameter/weight": torch.zeros(1), "adam/moment": torch.zeros(1), "reference/x": torch.zeros(10),
    }  # fmt: skip
    final_of(tmp_path, stage)
    assert found == [2 * (3 * 4 + 40)]


@pytest.mark.parametrize(("minutes", "kept"), [(None, [5]), (1e-9, [4, 5]), (60.0, [5])])
def test_a_checkpoint_is_due_by_time_too(tmp_path: Path, minutes: float | None, kept: list[int]) -> None:
    """A run of few long steps would otherwise have none for hours."""
    run = RunFolder(tmp_path)
    run_stage(
        Counting({}), run, seed=0, checkpoints=CheckpointSettings(every=100, minutes=minutes), eval_every=1,
        tensorboard=False, kind="sft", health=HealthSettings(), dtype="float32",
    )  # fmt: skip
    assert [path.name for path in sorted(run.checkpoints.iterdir())] == [f"step-{n:06d}" for n in kept]


def test_a_stage_may_end_the_run(tmp_path: Path) -> None:
    """S0-39: the status says what was asked, what was done, and why it stopped."""
    final, status = final_of(tmp_path, Counting({}, stop_after=3))
    assert final == "3.0"
    assert '"completed": 3' in status
    assert '"stopped_because": "enough"' in status


def test_patience_ends_a_run_that_no_longer_gains(tmp_path: Path) -> None:
    """S2-42: two evaluations without a better one after step 1 end the run at step 3; final is step 1."""
    run = RunFolder(tmp_path)
    stage = Counting({1: 2.0, 2: 1.0, 3: 1.5, 4: 9.0})
    run_stage(
        stage, run, seed=0, checkpoints=CheckpointSettings(), eval_every=1, tensorboard=False,
        kind="sft", health=HealthSettings(), dtype="float32", patience=2,
    )  # fmt: skip
    assert (run.final / "weight").read_text() == "1.0"
    assert stage.done == 3
    assert "patience" in run.status.read_text()


def test_a_best_of_before_a_resume_is_known(tmp_path: Path) -> None:
    stage = Counting({1: 2.0})
    stage.step(0)
    BestCheckpoint(tmp_path / "best").consider(1, stage, stage.evaluate(1))
    later = BestCheckpoint(tmp_path / "best")
    assert (later.step, later.metric) == (1, 2.0)
    later.consider(2, stage, {"eval/metric": 1.5})
    assert BestCheckpoint(tmp_path / "best").step == 1


# -- what PPO calls best --------------------------------------------------------------------------


def measured(**changed: float) -> dict[str, float]:
    usual = {"eval/reward_mean": 1.0, "eval/cap_hit": 0.2, "eval/empty": 0.0, "eval/repetition": 0.1}
    usual |= {"eval/change_demo_gold": 0.0, "eval/change_error_demo_gold": 0.05}
    names = {f"eval/{name}": value for name, value in changed.items() if name != "kl"}
    return usual | names | {"kl/mean": changed.get("kl", 1.0)}


@pytest.mark.parametrize(
    ("changed", "fit"),
    [
        ({}, True),
        ({"cap_hit": 0.24}, True),
        ({"cap_hit": 0.26}, False),
        ({"empty": 0.06}, False),
        ({"repetition": 0.16}, False),
        ({"change_demo_gold": -0.11}, False),
        ({"change_demo_gold": -0.09}, True),
        ({"kl": 9.0}, False),
    ],
)
def test_eligible_checkpoints(
    make_stage: Callable[..., PPOStage], changed: dict[str, float], fit: bool
) -> None:
    """Rates within 5 points of the start, no judge 2 standard errors below it, KL inside the budget."""
    stage = make_stage(ppo_config(ppo={"kl_budget": 8.0, "judges": ["demo_gold"]}))
    stage.heldout.baseline = measured()
    assert stage.selection_metric(measured(**changed)) == (1.0 if fit else -math.inf)


def test_without_a_held_out_measure_nothing_is_chosen(make_stage: Callable[..., PPOStage]) -> None:
    assert make_stage(ppo_config()).selection_metric({"kl/mean": 0.0}) is None


def test_a_judges_change_is_paired_with_the_start(make_stage: Callable[..., PPOStage]) -> None:
    """Mean and standard error of the differences prompt by prompt, by hand."""
    stage = make_stage(ppo_config(ppo={"judges": ["demo_gold"]}))
    first = stage.heldout.measure(0)
    assert first["eval/change_demo_gold"] == first["eval/change_error_demo_gold"] == 0.0
    stage.heldout.baseline_scores["demo_gold"] = [
        v - shift for v, shift in zip(stage.heldout.baseline_scores["demo_gold"], (0.1, 0.4), strict=True)
    ]
    later = stage.heldout.measure(1)
    assert later["eval/change_demo_gold"] == pytest.approx(0.25)
    assert later["eval/change_error_demo_gold"] == pytest.approx(0.15)


def test_the_probe_asks_the_same_prompts_with_the_same_draws(make_stage: Callable[..., PPOStage]) -> None:
    """S4-32: only the weights differ from one look to the next."""
    stage = make_stage(ppo_config(), rule=lambda r: float(sum(r.response_tokens)))
    one, two = stage.heldout.measure(0), stage.heldout.measure(3)
    assert one == two == stage.heldout.baseline
    assert {"eval/unique", "eval/tokens_mean", "eval/distinct_2", "eval/cap_hit"} <= one.keys()
    with torch.no_grad():
        for name, parameter in stage.policy.parameters().items():
            if "lora_B" in name:
                parameter.fill_(0.3)
    assert stage.heldout.measure(1) != one
