"""Copies of a run's metrics: metrics.csv and Weights & Biases, by a stand-in for its package."""

from __future__ import annotations

import csv
import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from kill import stages

from harken.config.trackers import TrackerSettings, WandbSettings
from harken.errors import UserError
from harken.run import sinks
from harken.run.folder import RunFolder
from harken.run.tracking import Tracker
from harken.train.launch import train

WANDB = TrackerSettings(wandb=WandbSettings(project="mine"))


class FakeWandb(ModuleType):
    """What is called of the package, and with what."""

    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__("wandb")
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished, self.fails_at = 0, fails_at

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def init(self, **settings: Any) -> SimpleNamespace:
        self.begun.append(settings)
        return SimpleNamespace(log=self._log, finish=self._finish)

    def _log(self, metrics: dict[str, float], step: int) -> None:
        if step == self.fails_at:
            raise OSError("no connection")
        self.logged.append((step, metrics))

    def _finish(self) -> None:
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def track(run: RunFolder, settings: TrackerSettings, start: int = 0, stop: int = 3) -> None:
    with Tracker(run, 9, "ppo", False, sinks.open_sinks(settings, run, {"seed": 7})) as tracker:
        tracker.start(start)
        for step in range(start + 1, stop + 1):
            more = {"eval/kl, mean": 0.5} if step == 2 else {"bad": math.nan}
            tracker.log(step, {"loss": 1 / step, **more})


def test_csv_has_every_step_and_metric(tmp_path: Path) -> None:
    """S4-41: read back by Python's reader, against metrics.jsonl; resuming replaces the file."""
    run = RunFolder(tmp_path / "run")
    track(run, TrackerSettings(csv=True))
    track(run, TrackerSettings(csv=True), start=2, stop=4)
    lines = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    rows = list(csv.DictReader(run.metrics_csv.open(newline="")))
    assert list(rows[0]) == ["step", "loss", "bad", "nonfinite", "eval/kl, mean"]
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4]
    for row, line in zip(rows, lines, strict=True):
        for name in ("loss", "eval/kl, mean"):
            assert row[name] == ("" if line.get(name) is None else repr(line[name]))
        assert row["bad"] == "" and row["nonfinite"] == " ".join(line.get("nonfinite", []))


def test_without_trackers_nothing_is_written_or_imported(tmp_path: Path, wandb: FakeWandb) -> None:
    track(RunFolder(tmp_path), TrackerSettings())
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"] and not wandb.begun


def test_wandb_gets_finite_metrics_and_a_resumed_run_goes_on(tmp_path: Path, wandb: FakeWandb) -> None:
    """S4-41: offline by default, in the run's folder, without console, code and git."""
    run = RunFolder(tmp_path / "03_ppo")
    track(run, WANDB)
    track(run, WANDB, start=2, stop=4)
    track(RunFolder(tmp_path / "other"), TrackerSettings(wandb=WandbSettings(project="mine", mode="online")))
    assert wandb.logged[:3] == [
        (1, {"loss": 1.0}),
        (2, {"loss": 0.5, "eval/kl, mean": 0.5}),
        (3, {"loss": 1 / 3}),
    ]
    assert [step for step, _ in wandb.logged[3:5]] == [3, 4] and wandb.finished == 3
    first, again, other = wandb.begun
    assert first == again and first["id"] != other["id"]
    assert (first["mode"], first["project"], first["name"]) == ("offline", "mine", "03_ppo")
    assert (first["dir"], first["config"], first["resume"]) == (str(run.root), {"seed": 7}, "allow")
    assert first["settings"] == {"console": "off", "disable_git": True, "save_code": False}
    assert other["mode"] == "online"


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_a_failing_tracker_does_not_end_the_run(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no connection")

    fake = FakeWandb(fails_at=2 if fails == "log" else None)
    if fails != "log":
        monkeypatch.setattr(fake, {"init": "init", "finish": "_finish"}[fails], fail)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    run = RunFolder(tmp_path)
    track(run, WANDB)
    assert len(run.metrics.read_text().splitlines()) == 3
    assert "the run continues: " in capsys.readouterr().err
    assert len(fake.logged) == {"init": 0, "log": 1, "finish": 3}[fails]


def test_a_missing_package_is_an_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import raises ImportError
    stages.save_tiny(tmp_path / "model", hidden=16, layers=1)
    config = stages.run_config(tmp_path, "sft", trackers=WANDB.model_dump())
    with pytest.raises(UserError, match=r"trackers.wandb: .*Fix: install it"):
        train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_has_both_and_the_same_weights_as_without(tmp_path: Path, wandb: FakeWandb) -> None:
    stages.make_world(tmp_path)
    trackers = TrackerSettings(csv=True, wandb=WandbSettings(project="mine")).model_dump()
    run = train(stages.run_config(tmp_path, "sft", trackers=trackers), tmp_path / "run")
    assert len(wandb.logged) == len(run.metrics.read_text().splitlines()) == 4
    assert len(run.metrics_csv.read_text().splitlines()) == 5
    assert wandb.begun[0]["config"]["training"]["max_steps"] == 4
    plain = RunFolder(tmp_path / "sft")
    name = "model.safetensors"
    assert (run.final / name).read_bytes() == (plain.final / name).read_bytes()
