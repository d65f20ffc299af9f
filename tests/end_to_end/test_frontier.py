"""`harken frontier` on a run that was trained: best of n by the run's own reward, and the page that shows it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from kill import stages
from read_page import read_page

from harken.cli.main import main
from harken.evaluation import frontier
from harken.maths.theory import best_of_n_kl


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    stages.make_world(root)
    stages.work(root, "ppo")(root / "ppo")
    return root


def test_best_of_n_is_measured_by_the_runs_own_reward_and_drawn(
    world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = []
    measure = frontier.curve_points

    def kept(table: dict[str, list[list[float]]], n: int) -> list[dict[str, object]]:
        tables.append(table)
        return measure(table, n)

    monkeypatch.setattr(frontier, "curve_points", kept)
    assert main(["frontier", str(world / "ppo"), "--best-of", "6"]) == 0
    printed = capsys.readouterr().out
    assert "best of 6" in printed and "update 2" in printed
    points = json.loads((world / "ppo/best_of_n/curve.json").read_text())["points"]
    assert [point["n"] for point in points] == [1, 2, 4, 6]
    assert [point["kl"] for point in points] == pytest.approx([best_of_n_kl(n) for n in (1, 2, 4, 6)])
    (table,) = tables
    rewards = np.array(table["reward"])
    assert rewards.shape == (3, 6)
    assert points[0]["reward"]["value"] == pytest.approx(rewards.mean())
    assert points[-1]["reward"]["value"] == pytest.approx(rewards.max(axis=1).mean())
    assert points[0]["reward"]["value"] <= points[1]["reward"]["value"] <= points[2]["reward"]["value"]
    assert main(["frontier", str(world / "ppo"), "--best-of", "6"]) == 0
    assert "nothing to do" in capsys.readouterr().err and len(tables) == 1
    assert main(["frontier", str(world / "ppo"), "--best-of", "4"]) == 2
    assert "n: 6 → 4" in capsys.readouterr().err
    assert main(["report", str(world / "ppo")]) == 0
    charts = read_page(world / "ppo/05_report/report.html")["stages"][0]["charts"]
    drawn = next(chart for chart in charts if chart["title"] == "Held-out reward against KL")
    assert drawn["series"][1]["points"] == [[p["kl"], p["reward"]["value"]] for p in points]


@pytest.mark.parametrize(
    ("folder", "problem"), [("rm", "this is not a PPO run"), ("model", "this folder has no run")]
)
def test_other_folders_are_refused(
    world: Path, capsys: pytest.CaptureFixture[str], folder: str, problem: str
) -> None:
    assert main(["frontier", str(world / folder)]) == 2
    assert problem in capsys.readouterr().err
