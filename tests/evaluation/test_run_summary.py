"""What runs came to, from files written by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harken.errors import UserError
from harken.evaluation import run_summary
from harken.evaluation.run_summary import RunSummary
from harken.run.folder import RunFolder
from harken.run.tracking import Tracker


def written(root: Path, lines: list[dict[str, Any]], why: str = "finished") -> RunFolder:
    root.mkdir(exist_ok=True)
    (root / "metrics.jsonl").write_text(
        "".join(json.dumps({"step": number} | line) + "\n" for number, line in enumerate(lines, start=1))
    )
    state = "completed" if why == "finished" else "stopped"
    (root / "status.json").write_text(
        json.dumps({"state": state, "completed": len(lines), "stopped_because": why})
    )
    return RunFolder(root)


def line(reward: float | None, kl: float, **more: Any) -> dict[str, Any]:
    return {"reward/mean": reward, "kl/mean": kl, "response/cap_hit": 0.5, "seconds": kl, **more}


def test_the_end_of_a_run_is_its_last_three_updates(tmp_path: Path) -> None:
    """S2-92: reward, KL and truncated responses of the last three; held-out figures of the last evaluation."""
    lines = [
        line(100.0, 100.0, **{"eval/reward_mean": 7.0, "eval/judge_gold": 0.7}),
        line(1.0, 2.0, **{"eval/reward_mean": 8.0, "eval/judge_gold": 0.9}),
        line(3.0, 4.0),
        line(
            5.0,
            6.0,
            **{
                "health/status": 2.0,
                "health/kl_explosion": 2.0,
                "health/kl_drift": 2.0,
                "health/entropy": 0.0,
            },
        ),
    ]
    one = run_summary.summarize_run(written(tmp_path / "run", lines))
    assert one.figures == {
        "reward": 3.0,
        "kl_per_sequence": 4.0,
        "truncated_frac": 0.5,
        "seconds_per_update": 28.0,
        "held_out_reward": 8.0,
        "judge_gold": 0.9,
    }
    assert (one.state, one.updates, one.health, one.findings) == ("completed", 4, "unhealthy", ("kl_drift",))


def test_missing_measurements_are_left_out(tmp_path: Path) -> None:
    one = run_summary.summarize_run(
        written(tmp_path / "run", [line(None, 1.0), line(2.0, 3.0)], why="KL budget")
    )
    assert one.figures["reward"] == 2.0 and one.figures["kl_per_sequence"] == 2.0
    assert "held_out_reward" not in one.figures and one.health is None
    assert (one.state, one.why) == ("stopped", "KL budget")


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    run = written(tmp_path / "run", [line(1.0, 1.0)])
    with run.metrics.open("a") as file:
        file.write('{"step": 2, "rew')
    assert len(run_summary.read_metrics(run)) == 1
    assert run_summary.read_metrics(RunFolder(tmp_path / "none")) == []


def made(health: str | None = None, **figures: float) -> RunSummary:
    return RunSummary("completed", "finished", 1, figures, health)


def test_means_over_seeds_with_their_standard_error() -> None:
    """Of 1, 2 and 6: mean 3, deviation √7 (n − 1), standard error √(7/3)."""
    found = run_summary.mean_figures(
        [made(reward=1.0, truncated_frac=0.5), made(reward=2.0), made(reward=6.0)]
    )
    assert found["reward"].mean == 3.0 and found["reward"].runs == 3
    assert found["reward"].standard_error == pytest.approx((7 / 3) ** 0.5)
    assert found["truncated_frac"] == run_summary.Mean(0.5, None, 1)


def test_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    figures = {"reward": 1.5, "kl_per_sequence": 2.0, "truncated_frac": 0.25, "seconds_per_update": 9.96}
    groups = [
        ({"kl_coef": "0"}, [made("unhealthy", **figures), made("healthy", **figures | {"reward": 2.5})]),
        ({"kl_coef": "0.1"}, [made("healthy", **figures, judge_gold=0.5)]),
        ({"kl_coef": "1"}, []),
    ]
    assert run_summary.format_run_groups(groups).splitlines() == [
        "kl_coef  runs  reward        gold   KL nats/seq  truncated %  s/update    health",
        "0        2     +2.00 ± 0.50  –      2.00 ± 0.00  25 ± 0       10.0 ± 0.0  1 healthy, 1 unhealthy",
        "0.1      1     +1.50         +0.50  2.00         25           10.0        healthy",
        "1        0     –             –      –            –            –",
    ]


@pytest.mark.parametrize(
    "wrong", ['"loss": "low"', '"loss": [1]', '"loss": true', '"nonfinite": 3', '"step": "1"']
)
def test_a_line_no_run_writes_is_refused_with_its_number(wrong: str, tmp_path: Path) -> None:
    run = written(tmp_path / "run", [line(1.0, 1.0)])
    with run.metrics.open("a") as file:
        file.write(f'{{"step": 2, {wrong}}}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: not a line of metrics"):
        run_summary.read_metrics(run)


def test_every_line_that_a_tracker_writes_is_read(tmp_path: Path) -> None:
    """Metrics without a number, infinite ones, and the reason of a skipped step."""
    run = RunFolder(tmp_path)
    with Tracker(run, 3, "ppo", tensorboard=False) as tracker:
        tracker.start(0)
        tracker.log(1, {"reward/mean": 1.0, "kl/mean": None}, "")
        tracker.log(2, {"reward/mean": float("nan"), "kl/mean": float("inf")}, "")
        tracker.log(3, {"reward/mean": 2.0}, "", skipped="logprob is nan")
    lines = run_summary.read_metrics(run)
    assert [line["reward/mean"] for line in lines] == [1.0, None, 2.0]
    assert lines[1]["nonfinite"] == ["reward/mean", "kl/mean"] and lines[2]["skipped"] == "logprob is nan"
