"""SIGTERM and SIGINT at every forward of every kind of work: exit code, status, and what comes out in the end."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from kill import stages
from kill.children import differences, run, tree
from kill.signals import stopped_at, without_seconds

from harken.run import checkpoint


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    run(lambda folder: stages.make_world(root), root.with_name("making"))
    return root


@pytest.mark.parametrize(("kind", "every"), [("sft", 2), ("reward", 2), ("ppo", 13), ("evaluation", 1)])
def test_a_signal_at_any_forward_loses_nothing(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, every: int
) -> None:
    """The child leaves with 143, says so in status.json, and the same work goes on to the same end."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    work = stages.work(world, kind)
    run(work, tmp_path / "whole")
    expected = tree(tmp_path / "whole")
    codes = []
    for forward in range(1, 200, every):
        folder = tmp_path / f"cut-{forward}"
        codes.append(stopped_at(work, folder, forward))
        if codes[-1] == 0:  # it was done before it came so far
            break
        status = folder / "status.json"
        if status.exists():
            told = json.loads(status.read_text())
            assert (told["state"], told["stopped_because"]) == ("stopped", "interrupted by SIGTERM")
            kept = checkpoint.latest(folder / "checkpoints")
            assert told["completed"] == (kept.step if kept else 0)
        run(work, folder)
        odd = differences(expected, tree(folder))
        assert set(odd) <= {"metrics.jsonl"}, f"stopped at forward {forward}"
        if odd:
            lines = [without_seconds(tmp_path / name / "metrics.jsonl") for name in ("whole", folder.name)]
            assert lines[0] == lines[1]
    assert len(codes) > 5 and set(codes) == {143, 0}


def test_a_step_that_is_interrupted_is_the_only_one_lost(world: Path, tmp_path: Path) -> None:
    """With a checkpoint every hundred steps, the one of the signal is there all the same."""
    config = stages.run_config(world, "sft", checkpoints={"every": 100, "keep": 2})
    work = stages.training(config)
    done = set()
    for forward in range(1, 30):
        folder = tmp_path / f"{forward}"
        if stopped_at(work, folder, forward, signal.SIGINT) != 130:
            break
        if not (folder / "status.json").exists():  # it was still loading
            continue
        told = json.loads((folder / "status.json").read_text())
        lines = (folder / "metrics.jsonl").read_text().splitlines() if told["completed"] else []
        assert told["completed"] - len(lines) in (0, 1)
        done.add(told["completed"])
    assert done == {0, 1, 2, 3, 4}
