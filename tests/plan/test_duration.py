"""Seconds: tokens against those that really go through the trunk, and the arithmetic of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_plan import NOTHING, settings, stage, write_rows

from harken.card.build import RESPONSES_PER_PROBE
from harken.config import RunConfig
from harken.kernels.packing import PackedSequence
from harken.models.backbone import Backbone
from harken.plan.duration import duration
from harken.plan.phases import phases
from harken.train.launch import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plan")
    write_rows(root)
    return root


class Counting:
    """Places that forwards of whole rows read, with and without gradients."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward
        self.training = self.looking = 0

    def __call__(self, backbone: Backbone, layout: PackedSequence, **inputs: Any) -> torch.Tensor:
        if torch.is_grad_enabled():
            self.training += layout.tokens.numel()
        else:
            self.looking += layout.tokens.numel()
        result: torch.Tensor = self.forward(backbone, layout, **inputs)
        return result


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    counter = Counting(Backbone.forward_packed)
    monkeypatch.setattr(Backbone, "forward_packed", lambda *a, **k: counter(*a, **k))
    return counter


@pytest.mark.parametrize("kind", ["sft", "reward"])
def test_trained_tokens_are_those_of_a_run(
    folder: Path, tmp_path: Path, counting: Counting, kind: str
) -> None:
    """One pass over all rows. The plan samples batches, so it is near, not exact."""
    keys = {"batch_size": 8, "epochs": 1, "eval_every": 100, "micro_batch_tokens": 300}
    config = RunConfig.model_validate(settings(folder, kind, **keys) | {"tensorboard": False})
    train(config, tmp_path / "run")
    job = stage(folder, kind, **keys)
    reported = duration(job, replace(NOTHING, training=1.0))
    assert reported.steps == 5
    assert reported.total == pytest.approx(counting.training * job.shape.layers, rel=0.1)


def test_an_update_of_ppo_by_hand(folder: Path) -> None:
    """Every response as long as it may be, one micro-batch, prompts of one length: all counts are exact."""
    data = {"path": str(folder / "none.jsonl"), "max_length": 40, "limit": 100}
    job = stage(
        folder, "ppo", run={"data": data}, ppo={"epochs": 3, "trace_every": 10}, micro_batch_tokens=10_000
    )
    tokens, response_masks, layers = 8 * (40 + 16), 8 * 16, job.shape.layers
    reported = {
        "training": 3 * tokens * layers,
        "head_training": 3 * response_masks,
        # The reference, and at every tenth update the policy again; a random reward reads once; prompts once. The old
        # policy's forward is the first that is learnt from.
        "forward": (1.1 * tokens + tokens + 8 * 40) * layers,
        "head_forward": 1.1 * response_masks,
        "decode": 16 * layers,
        "sample": 16,
    }
    for name, units in reported.items():
        assert duration(job, replace(NOTHING, **{name: 1.0})).step == pytest.approx(units), name


def test_more_responses_than_slots_take_more_rounds(folder: Path) -> None:
    rates = replace(NOTHING, sample=1.0)
    few, many = (stage(folder, "ppo", ppo={"prompts_per_update": n}) for n in (8, 192))
    assert duration(few, rates).step == 16
    assert duration(many, rates).step == 3 * 16


def test_samples_of_a_prompt_share_its_reading(folder: Path) -> None:
    alone, shared = (
        stage(folder, "ppo", ppo={"prompts_per_update": n, "samples_per_prompt": 8 // n}) for n in (8, 2)
    )
    first, second = (
        duration(job, replace(NOTHING, forward=1.0)).parts["generate"] for job in (alone, shared)
    )
    # Not a quarter: different prompts share what the chat template puts before them.
    assert second == pytest.approx(alone.shape.layers * alone.rows.prefill_tokens(2, 32))
    assert second < 0.4 * first


def test_the_time_of_a_run_is_steps_plus_overhead(folder: Path) -> None:
    data = {"path": str(folder / "pairs.jsonl"), "max_length": 256, "eval_fraction": 0.2}
    job = stage(folder, "sft", run={"data": data}, batch_size=8, epochs=2, eval_every=4)
    reported = duration(job, replace(NOTHING, forward=1.0, training=1.0))
    assert reported.steps == 2 * -(-job.rows.train // 8)  # type: ignore[operator]
    # An evaluation every fourth step, one at the end, two around the merge; a token costs as much as one that trains.
    looks = reported.steps // 4 + 3
    beside = looks * job.rows.held_out * reported.step / 8
    assert reported.total == pytest.approx(reported.steps * reported.step + beside)


def test_a_reward_stage_ends_with_its_card(folder: Path) -> None:
    """The held-out pairs and the responses of every probe go once through the model; probes stop at their minutes."""
    data = {"path": str(folder / "pairs.jsonl"), "max_length": 256, "eval_fraction": 0.2}
    keys = {"batch_size": 8, "epochs": 1, "normalise": "none", "eval_every": 100}

    def outside(**card: float) -> float:
        job = stage(folder, "reward", run={"data": data}, **keys, card=card)
        return duration(job, replace(NOTHING, forward=1e-3)).outside_steps

    nothing, pairs = outside(pairs=0), stage(folder, "reward", run={"data": data}, **keys).rows.held_out
    scoring = outside(pairs=200, probe_pairs=0) - nothing
    assert scoring > 0 and pairs < 200
    probes = outside(pairs=200, probe_pairs=2, minutes=1e6) - nothing - scoring
    assert probes == pytest.approx(2 * RESPONSES_PER_PROBE * scoring / (2 * pairs))
    assert outside(pairs=200, probe_pairs=2, minutes=1e-4) - nothing - scoring == pytest.approx(60e-4)
    job = stage(folder, "reward", run={"data": data}, **keys)
    assert {"evaluate", "card"} <= {phase.name for phase in phases(job, 0.0)}
    assert "card" not in {phase.name for phase in phases(stage(folder, "reward", **keys), 0.0)}


def test_an_unknown_number_of_rows_is_an_unknown_total(folder: Path) -> None:
    job = stage(folder, "sft", run={"data": {"path": str(folder / "none.jsonl")}})
    reported = duration(job, replace(NOTHING, training=1.0))
    assert reported.steps is None and reported.total is None and reported.step > 0
    assert duration(job.with_training(max_steps=3), NOTHING).steps == 3
