"""A review of a training run that goes on: what is compared, and how its votes reach the run and its health monitor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from review.reviewed import cast

from harken.cli.main import main
from harken.health.monitor import Monitor
from harken.records import Message, Prompt, Rollout, Score, ScoredRollout
from harken.review.live import reviewed_run, run_behind
from harken.review.report import lock_and_report
from harken.review.study import Study, read_study
from harken.review.votes import VoteStore
from harken.run.folder import ReviewFolder, RunFolder
from harken.run.live_votes import live_vote_metrics
from harken.run.tables import write_scored_rollouts

PROMPTS = 16


def record(run: Path, update: int, reward: float) -> None:
    """Held-out responses as a run records them after an update."""
    rows = []
    for i in range(PROMPTS):
        prompt = Prompt(f"q{i}", (Message("user", f"Question {i}?"),))
        text = f"Answer {i} of update {update // 10}, in a sentence of its own."
        rollout = Rollout(prompt, 0, (1, 2), (3, 4), (-1.0, -1.0), text, "end_of_turn", f"update-{update}")
        rows.append(ScoredRollout(rollout, (Score("reward_model", reward + 0.01 * (i % 3) * update),)))
    write_scored_rollouts(run / "held_out" / f"update-{update:06d}.parquet", rows, step=update)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A PPO run with three held-out evaluations, which trains: it has no final/ and no checksums."""
    root = tmp_path / "ppo"
    root.mkdir()
    (root / "config.yml").write_text("training: {type: ppo}\n")
    for update, reward in ((0, 0.0), (10, 0.5), (20, 1.0)):
        record(root, update, reward)
    return root


def reviewed(run: Path, prefers: str) -> tuple[Study, dict[str, Any]]:
    """Plan a review of the run as the command does, vote, and report."""
    folder = ReviewFolder(run.parent / f"review-{prefers}")
    command = ["review", str(run), "--raters", "anna,ben", "--output-dir", str(folder.root)]
    assert main([*command, "--out", str(folder.root / "pack.html")]) == 0
    study = read_study(folder)
    store = VoteStore(folder.votes, study.hash)
    cast(store, study, lambda rater, task, item: prefers)
    store.close()
    return study, lock_and_report(folder)


def test_the_latest_held_out_responses_are_compared_with_those_before_training(run: Path) -> None:
    study, _ = reviewed(run, "first")
    assert study.policies == ["update 0", "update 20"]
    assert len({item.prompt_id for item in study.items.values()}) == PROMPTS
    found = run_behind(study.config)
    assert found is not None and (found.run.root, found.first, found.last) == (run, 0, 20)


def test_votes_that_do_not_follow_the_reward_are_an_alarm(run: Path) -> None:
    """S2-94: the learned reward rises while raters prefer the responses before training."""
    assert live_vote_metrics(RunFolder(run)) == {}
    _, figures = reviewed(run, "first")
    metrics = live_vote_metrics(RunFolder(run))
    assert (metrics["votes/update"], metrics["votes/decided"], metrics["votes/win_rate"]) == (20, PROMPTS, 0)
    # By hand: 1.0 for every prompt, and 0.2 · (i mod 3) more.
    assert metrics["votes/reward_change"] == pytest.approx(1 + 0.2 * sum(i % 3 for i in range(16)) / 16)
    assert 1 < metrics["votes/reward_change_low"] < metrics["votes/reward_change"]
    assert "raters prefer those after update 20 in 0% of 16 decided items" in figures["live"]["sentence"]
    assert figures["live"]["sentence"] in ReviewFolder(run.parent / "review-first").markdown.read_text()
    report = Monitor((), "ppo").update(21, metrics)
    (found,) = (one for one in report.findings if one.name == "votes_disagree")
    assert found.level == "unhealthy" and "update 20" in found.what
    assert Monitor(["votes_disagree"], "ppo").update(21, metrics).status == "unhealthy"


def test_votes_that_follow_the_reward_are_none(run: Path) -> None:
    reviewed(run, "second")
    metrics = live_vote_metrics(RunFolder(run))
    assert metrics["votes/win_rate"] == 1.0 and metrics["votes/low"] > 0.5
    assert Monitor((), "ppo").update(21, metrics).findings == ()


def test_ties_alone_say_nothing(run: Path) -> None:
    _, figures = reviewed(run, "tie")
    assert "live" not in figures and not RunFolder(run).live_votes.exists()


def test_a_damaged_file_of_votes_does_not_stop_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reviewed(run, "first")
    path = RunFolder(run).live_votes
    path.write_text(json.dumps(json.loads(path.read_text()) | {"win_rate": "high"}))
    capsys.readouterr()
    assert live_vote_metrics(RunFolder(run)) == live_vote_metrics(RunFolder(run)) == {}
    assert capsys.readouterr().err.count("the votes are ignored") == 1


def test_a_run_without_two_evaluations_says_what_to_do(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for update in (10, 20):
        (run / "held_out" / f"update-{update:06d}.parquet").unlink()
    assert main(["review", "plan", str(run)]) == 2
    assert "one held-out evaluation so far, after update 0" in capsys.readouterr().err
    (run / "held_out" / "update-000000.parquet").unlink()
    assert main(["review", "plan", str(run)]) == 2
    assert "data.eval_fraction" in capsys.readouterr().err


def test_the_start_and_the_latest_are_found_again_from_the_settings(run: Path) -> None:
    found = reviewed_run(run)
    assert list(found.policies()) == ["update 0", "update 20"]
    assert all(Path(path).is_file() for path in found.policies().values())
