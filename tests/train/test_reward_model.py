"""Reward-model training on a tiny model: the loss by hand, accuracy, normalisation, and that it learns."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_backbone

from harken.config import RunConfig
from harken.errors import UserError
from harken.records import TokenPair
from harken.train.reward_model import RewardStage, _accuracy, _num_correct
from harken.train.sampler import batch_indices


def pairs(count: int = 24, noise: bool = False) -> list[TokenPair]:
    """Responses that end on byte 40 are preferred to those on byte 90."""
    draw = np.random.default_rng(0)
    found = []
    for i in range(count):
        prompt = tuple(int(t) for t in draw.integers(5, 200, 3 + i % 5))
        kind = {"domain": "ab"[i % 2], "language": "de" if i % 4 == 0 else "en"}
        found.append(TokenPair(f"p{i}", (*prompt, 40, 2), (*prompt, 90, 2), **kind))
    return found


def stage(rows: list[TokenPair], held_out: list[TokenPair] | None = None, **keys: Any) -> RewardStage:
    config = RunConfig.model_validate(
        {
            "dtype": "float32",
            "data": {"path": "rows"},
            "lora": {"rank": 4},
            "training": {"type": "reward", "lr": 5e-3, "batch_size": 8, "epochs": 4, **keys},
        }
    )
    return RewardStage(config, tiny_backbone(), Path("base"), rows, held_out or [])


LABELLED = [
    TokenPair("a", (5,), (6,), label=1.0, strength=3.0),
    TokenPair("b", (5,), (6,), label=0.5, strength=0.0),
    TokenPair("c", (5,), (6,), label=0.25, strength=2.0),
]
BETTER, WORSE = torch.tensor([1.0, 0.4, -0.3]), torch.tensor([0.2, 0.9, 0.5])


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


@pytest.mark.parametrize("strength", ["ignore", "weight", "margin"])
def test_the_loss_of_a_pair_by_hand(strength: str) -> None:
    """P11, S0-23, S2-06, S2-12, S2-23: soft labels, ties, weights max(1, s), margins scale × s, centring."""
    got = stage(LABELLED, strength=strength, margin_scale=0.5, centre_coef=0.1).loss(BETTER, WORSE, LABELLED)
    for i, pair in enumerate(LABELLED):
        gap = float(BETTER[i] - WORSE[i])
        want = -(pair.label * log_sigmoid(gap) + (1 - pair.label) * log_sigmoid(-gap))
        if strength == "weight":
            want *= max(1.0, pair.strength)
        if strength == "margin" and pair.label > 0.5:
            want = -log_sigmoid(gap - 0.5 * pair.strength)
        want += 0.1 * float(BETTER[i] + WORSE[i]) ** 2
        assert float(got[i]) == pytest.approx(want, rel=1e-5)


def test_ties_alone_have_no_accuracy() -> None:
    """An accuracy of 0 over no pair would be read as "ordered wrongly"."""
    ties = [TokenPair(f"p{i}", (5, i), (6, i), label=0.5, strength=0.0) for i in range(4)]
    trained = stage(pairs(), ties, selection_fraction=0.0)
    metrics = trained.evaluate(1)
    assert metrics["eval/pairs"] == 0.0 and metrics["eval/loss"] > 0
    assert not [name for name in metrics if "accuracy" in name or "margin" in name]
    assert "held-out" not in trained.summary({"loss": 1.0, "accuracy": 0.5} | metrics)
    assert trained.step_metrics(np.zeros((4, 2)), ties).keys() == {"reward/mean", "reward/std"}
    assert trained.summary({"loss": 1.0}) == "loss 1.000"


def test_label_smoothing() -> None:
    got = stage(LABELLED, label_smoothing=0.1, centre_coef=0.0).loss(BETTER, WORSE, LABELLED)
    want = -(0.9 * log_sigmoid(0.8) + 0.1 * log_sigmoid(-0.8))
    assert float(got[0]) == pytest.approx(want, rel=1e-5)


def test_accuracy_is_strict_and_ties_do_not_count() -> None:
    """S0-25: equal scores are wrong; label ties are left out; a label below one half turns the pair round."""
    rows = [TokenPair(str(i), (5,), (6,), label=label) for i, label in enumerate([1, 1, 1, 0.5, 0.2])]
    rewards = np.array([[2.0, 1.0], [1.0, 1.0], [0.0, 1.0], [5.0, 0.0], [0.0, 3.0]])
    assert _num_correct(rewards, rows) == 2
    assert _accuracy(rewards, rows) == {"accuracy": 0.5, "margin": (1 + 0 - 1 + 3) / 4}


def test_it_learns_what_is_preferred_and_reports_domains() -> None:
    rows = pairs(40)
    trained = stage(rows[:24], rows[24:])
    before = trained.evaluate(0)
    for number in range(trained.total):
        metrics = trained.step(number)
    after = trained.evaluate(trained.total)
    assert after["eval/accuracy"] == 1.0
    assert after["eval/loss"] < before["eval/loss"]
    assert 0.7 < after["eval/accuracy_low"] < after["eval/accuracy_high"] == 1.0
    assert {"eval/accuracy_a", "eval/accuracy_b"} <= set(after)
    assert metrics["accuracy"] == 1.0
    shares = [before[f"eval/accuracy_language_{name}"] for name in ("de", "en")]
    assert (4 * shares[0] + 12 * shares[1]) / 16 == pytest.approx(before["eval/accuracy"])
    german = stage(rows[:24], [row for row in rows[24:] if row.language == "de"])
    assert german.evaluate(0)["eval/accuracy"] == shares[0]


def test_the_split_into_micro_batches_changes_nothing() -> None:
    """P31 for pairs."""
    whole, split = stage(pairs(), micro_batch_tokens=10_000), stage(pairs(), micro_batch_tokens=20)
    a, b = whole.step(0), split.step(0)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_the_metrics_of_a_step_are_those_of_its_pairs() -> None:
    """Accuracy and margin of a batch in several micro-batches, against the rewards before the step."""
    rows = pairs()
    trained = stage(rows, micro_batch_tokens=60)  # several pairs each
    trained.step(0)
    batch = [rows[i] for i in batch_indices(1, len(rows), 8, trained.seed, trained.label)]
    with torch.no_grad(), trained.backbone.role(trained.adapter):
        gaps = torch.cat([torch.subtract(*trained._scores([row])) for row in batch])
    metrics = trained.step(1)
    assert metrics["margin"] == pytest.approx(float(gaps.mean()), abs=1e-4) and float(gaps.std()) > 0
    assert metrics["accuracy"] == pytest.approx(float((gaps > 0).float().mean()))


@pytest.mark.parametrize(("normalise", "spread"), [("none", None), ("centre", None), ("standardise", 1.0)])
def test_normalisation_is_measured_on_training_responses(
    normalise: str, spread: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P14."""
    trained = stage(pairs(), normalise=normalise)
    monkeypatch.setattr(trained.model, "save", lambda *arguments: None)
    monkeypatch.setattr("harken.train.head_stage.resolve", lambda name: None)
    monkeypatch.setattr("harken.train.head_stage.lineage_fingerprint", lambda source: "")
    trained.save(tmp_path)
    rows = [tokens for pair in trained.rows for tokens in (pair.chosen_tokens, pair.rejected_tokens)]
    scores = np.array([trained.model.standardize(v) for v in trained.model.raw_scores(rows, 1000)])
    if normalise == "none":
        assert (trained.model.offset, trained.model.scale) == (0.0, 1.0)
    else:
        assert scores.mean() == pytest.approx(0.0, abs=1e-5)
    if spread is not None:
        assert scores.std() == pytest.approx(spread, rel=1e-4)


def test_dropping_ties_may_leave_nothing() -> None:
    with pytest.raises(UserError, match="no preference is left"):
        stage([LABELLED[1]], ties="drop")
