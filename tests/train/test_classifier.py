"""Classifier training on tiny models: the loss by hand, metrics against scikit-learn, resume, and its uses."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kill import stages
from scipy.special import expit
from sklearn.metrics import brier_score_loss, precision_score, recall_score, roc_auc_score
from tiny import save_tiny, tiny_backbone

from harken.cli.main import main
from harken.config import RunConfig
from harken.errors import UserError
from harken.models.resolve import resolve
from harken.models.roles import read_card
from harken.records import TokenDemonstration
from harken.run import signals
from harken.run.signals import Stopped
from harken.train.classifier import ClassifierStage
from harken.train.launch import train


def responses(count: int = 40, seed: int = 0) -> list[TokenDemonstration]:
    """Responses with the byte 40 are positive, one in four; those with byte 90 are not."""
    draw = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        prompt = tuple(int(t) for t in draw.integers(5, 200, 3 + i % 5))
        tokens = (*prompt, 40 if i % 4 == 0 else 90, 2)
        mask = (*[False] * len(prompt), True, True)
        rows.append(TokenDemonstration(f"p{i}", tokens, mask, i % 4 == 0))
    return rows


def stage(
    rows: list[TokenDemonstration], held_out: list[TokenDemonstration] | None = None, **keys: Any
) -> ClassifierStage:
    config = RunConfig.model_validate(
        {
            "dtype": "float32",
            "data": {"path": "rows"},
            "lora": {"rank": 4},
            "training": {"type": "classifier", "lr": 5e-3, "batch_size": 8, "epochs": 4, **keys},
        }
    )
    return ClassifierStage(config, tiny_backbone(), Path("base"), rows, held_out or [])


def test_the_loss_of_a_step_by_hand() -> None:
    rows = responses(8)
    trained = stage(rows, class_weights="balanced", desirable_weight=2.0, batch_size=8)
    assert trained.weights == (2.0 * 8 / 4, 8 / 12)
    with torch.no_grad(), trained.backbone.role(trained.adapter):
        scores = [float(trained._scores([row])[0, 0]) for row in rows]
    want = 0.0
    for row, score in zip(rows, scores, strict=True):
        weight, sign = (4.0, 1) if row.desirable else (2 / 3, -1)
        want += weight * math.log1p(math.exp(-sign * score)) / 8
    metrics = trained.step(0)
    assert metrics["loss"] == pytest.approx(want, rel=1e-4)
    right = [score > 0 if row.desirable else score < 0 for row, score in zip(rows, scores, strict=True)]
    assert metrics["accuracy"] == np.mean(right)


def test_it_learns_and_its_scores_are_log_odds_of_the_positive_label() -> None:
    rows = responses(60)
    trained = stage(rows[:40], rows[40:], epochs=8)
    for number in range(trained.total):
        trained.step(number)
    after = trained.evaluate(trained.total)
    assert after["eval/accuracy"] == after["eval/auc"] == after["eval/recall"] == 1.0
    assert after["eval/auc_low"] < 1.0 and after["eval/rows"] == 20
    scores = trained._score(rows[40:], "")[:, 0]
    assert (np.sign(scores) == [1 if row.desirable else -1 for row in rows[40:]]).all()
    assert trained._calibrate() == "log_odds" and (trained.model.offset, trained.model.scale) == (0.0, 1.0)


def test_training_starts_near_even_odds() -> None:
    """Each response is near log 2 before the first step, while a gradient reaches the adapter."""
    trained = stage(responses())
    metrics = trained.step(0)
    assert abs(metrics["loss"] - math.log(2)) < 0.1
    assert any(bool(p.detach().abs().sum()) for n, p in trained.optimiser.parameters.items() if "lora_B" in n)


def test_held_out_metrics_are_those_of_scikit_learn() -> None:
    rows = responses(60)
    trained = stage(rows[:30], rows[30:])
    trained.step(0)
    log_odds = trained._score(rows[30:], "")[:, 0]
    found = trained.evaluate(1)
    positive = np.array([bool(row.desirable) for row in rows[30:]])
    called_bad = log_odds < 0
    assert found["eval/auc"] == pytest.approx(roc_auc_score(positive, log_odds))
    assert found["eval/brier"] == pytest.approx(brier_score_loss(positive, expit(log_odds)))
    assert found["eval/precision"] == pytest.approx(precision_score(~positive, called_bad))
    assert found["eval/recall"] == pytest.approx(recall_score(~positive, called_bad))
    assert found["eval/accuracy"] == pytest.approx(np.mean(called_bad != positive))
    for name in ("accuracy", "auc", "precision", "recall"):
        assert 0 <= found[f"eval/{name}_low"] <= found[f"eval/{name}"] <= found[f"eval/{name}_high"] <= 1


@pytest.mark.parametrize("positive", [1, 3])
def test_the_baseline_of_accuracy_is_the_more_frequent_held_out_label(positive: int) -> None:
    rows = responses(40)
    good, bad = [row for row in rows if row.desirable], [row for row in rows if not row.desirable]
    trained = stage([*good[4:], *bad[4:]], [*good[:positive], *bad[: 4 - positive]])
    found = trained.evaluate(0)
    assert found["eval/majority_accuracy"] == 3 / 4
    assert "(majority baseline 0.750)" in trained.summary({"loss": 0.7} | found)


def test_held_out_rows_of_one_label_have_no_area() -> None:
    rows = responses(20)
    found = stage(rows, [row for row in rows if row.desirable]).evaluate(0)
    assert "eval/auc" not in found and 0 <= found["eval/accuracy"] <= 1


def test_the_split_into_micro_batches_changes_nothing() -> None:
    whole, split = stage(responses(), micro_batch_tokens=10_000), stage(responses(), micro_batch_tokens=20)
    a, b = whole.step(0), split.step(0)
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
    assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-4)


def test_one_label_alone_cannot_be_trained_on() -> None:
    with pytest.raises(UserError, match="have the same label"):
        stage([row for row in responses() if row.desirable])


def final_files(run: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((run / "final").iterdir())}


def metric_lines(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if not k.startswith(("seconds", "memory/"))} for line in lines]


def test_a_stopped_run_resumes_with_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages.make_world(tmp_path)
    config = stages.run_config(tmp_path, "classifier")
    train(config, tmp_path / "whole")

    original, steps = ClassifierStage.step, []

    def stop_at_the_third(self: ClassifierStage, step: int) -> dict[str, float]:
        steps.append(step)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return original(self, step)

    monkeypatch.setattr(ClassifierStage, "step", stop_at_the_third)
    with pytest.raises((KeyboardInterrupt, Stopped)):
        train(config, tmp_path / "stopped")
    assert not signals.stopped_mid_step()
    train(config, tmp_path / "stopped")
    assert len(steps) > 3
    assert final_files(tmp_path / "stopped") == final_files(tmp_path / "whole")
    assert metric_lines(tmp_path / "stopped") == metric_lines(tmp_path / "whole")


def test_other_labels_are_other_rows(tmp_path: Path) -> None:
    """A label that is flipped after the run began is a change of its data."""
    stages.make_world(tmp_path)
    rows = [
        {"prompt": f"Q{i}?", "response": f"Answer {i}.", "label": "honest" if i % 2 else "faulty"}
        for i in range(10)
    ]
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = stages.run_config(tmp_path, "classifier", data={"path": str(path), "max_length": 64})
    once = config.model_copy(update={"training": config.training.model_copy(update={"max_steps": 2})})
    train(once, tmp_path / "run")
    (tmp_path / "run" / "status.json").unlink()
    rows[0]["label"], rows[1]["label"] = rows[1]["label"], rows[0]["label"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"training rows .* changed"):
        train(once, tmp_path / "run")


def test_a_classifier_is_a_detector_and_a_part_of_a_reward(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """S4-49: trained on labelled rows, then used by `harken sycophancy detect` and by PPO."""
    save_tiny(tmp_path / "model")
    rows = [
        {
            "prompt": f"Is it {i}? I think so.", "response": ("No, never." if good else "Yes!! You are right.") * 2,
            "label": 0 if good else 1, "details": {"truth": "never", "claim": str(i)}, "reference": "never",
        }
        for i in range(12) for good in (True, False)
    ]  # fmt: skip
    path = tmp_path / "labelled.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = RunConfig.model_validate(
        {
            "model_name": str(tmp_path / "model"), "dtype": "float32", "device": "cpu", "tensorboard": False,
            "data": {"path": str(path), "max_length": 128, "positive_label": 0, "eval_fraction": 0.25},
            "lora": {"rank": 4},
            "training": {"type": "classifier", "lr": 2e-2, "batch_size": 8, "epochs": 12, "eval_every": 4},
        }
    )  # fmt: skip
    train(config, tmp_path / "classifier")
    source = resolve(str(tmp_path / "classifier"))
    assert source.kind == "reward" and read_card(source.folder).offset == 0.0
    output = tmp_path / "figures.json"
    command = ["sycophancy", "detect", str(path), "--classifier", str(tmp_path / "classifier")]
    assert main([*command, "--device", "cpu", "--dtype", "float32", "--output", str(output)]) == 0
    capsys.readouterr()
    figures = json.loads(output.read_text())["classifier"]
    assert (
        figures["precision"]["value"] == figures["recall"]["value"] == 1.0
        and figures["brier"]["value"] < 0.05
    )
