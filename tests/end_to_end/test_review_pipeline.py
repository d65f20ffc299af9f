"""The shipped pipeline `review` on the tiny model: it waits for votes, takes them, and trains a second time on them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from read_page import read_page
from review.reviewed import Served, attentive
from tiny import save_tiny
from tiny_pipeline import write_rows

from harken.cli.main import main
from harken.review.outcomes import outcome_of, unblind
from harken.review.study import Study, read_study
from harken.review.votes import read_votes
from harken.run.folder import EvaluationFolder, ReviewFolder, RunFolder
from harken.run.tables import read_rows

ROOT = Path(__file__).resolve().parents[2]


def settings(root: Path) -> list[str]:
    """`--set` values that make the shipped pipeline as small as a test needs; its stages stay as they are."""
    pairs, prompts = f"{root}/pairs.jsonl", f"{root}/prompts.jsonl"
    train = {
        "training.batch_size": 4,
        "training.warmup_steps": 0,
        "lora": "{rank: 4}",
        "data.max_length": 160,
    }
    reward = {"training.card": "{pairs: 8, probe_pairs: 2}"}
    ppo = {
        "data.path": prompts, "data.max_length": 96, "data.eval_fraction": 0.2, "lora": "{rank: 4}",
        "training.warmup_steps": 0, "training.eval_every": 2, "checkpoints.every": 2,
        "training.ppo.updates": 2, "training.ppo.prompts_per_update": 4, "training.ppo.max_gen_len": 12,
    }  # fmt: skip
    evaluation = {"data.path": prompts, "data.max_length": 96, "max_gen_len": 12}
    stages: dict[str, dict[str, Any]] = {
        "sft": {**train, "data.path": pairs, "training.max_steps": 2, "training.eval_every": 2},
        "rm": {**train, **reward, "data.path": pairs},
        "ppo": ppo,
        "eval": evaluation,
        "review": {"items": 6, "calibration": 2, "gold": 0.0, "add_to": pairs, "add_limit": 12},
        "rm_votes": {**train, **reward},
        "ppo_votes": ppo,
        "eval_votes": evaluation,
    }
    chosen = {f"stages.{stage}.{key}": value for stage, keys in stages.items() for key, value in keys.items()}
    chosen |= {"model_name": f"{root}/model", "dtype": "float32", "tensorboard": "false"}
    return [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]


def vote_on_all(server: Served, study: Study) -> None:
    """Every rater votes on every item: gold right, else for the second policy."""
    for rater in study.tasks:
        state = server.state(rater)
        while state["task"] is not None:
            _, task = study.by_task[state["task"]["id"]]
            wanted = attentive(rater, task, study.item_of(task))
            side = next(side for side in ("left", "right") if outcome_of(side, task.first_left) == wanted)
            status, state = server.vote(rater, task=task.id, choice=side)
            assert status == 200, state


def test_review_then_a_second_reward_model_then_ppo_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny(tmp_path / "model")
    write_rows(tmp_path)
    prompts = [{"id": f"q{i}", "prompt": f"Count to {i}", "keywords": [str(i)]} for i in range(16)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    out = tmp_path / "out"
    command = ["pipeline", "review", "--output-dir", str(out), *settings(tmp_path)]
    assert main(command) == 1
    review = ReviewFolder(out / "05_review")
    assert f"waits for votes of people. Fix: run: harken review {review.root}" in capsys.readouterr().err
    study = read_study(review)
    server = Served([str(review.root)], tmp_path / "log")
    vote_on_all(server, study)
    server.kill()  # every vote is on the disk already
    assert main(["review", "report", str(review.root)]) == 0
    assert f"next     run the pipeline of {out} again" in capsys.readouterr().out
    assert main(command) == 0

    rows = [json.loads(line) for line in review.pairs.read_text().splitlines()]
    voted = [row for row in rows if row["source"] == "human-review"]
    assert len(rows) == 18 and len(voted) == 6, "the votes are added to others"
    winners = {
        vote.item.id: vote.item.policies[1] for vote in unblind(study, read_votes(review.votes, study.hash))
    }
    assert sorted(row["chosen_policy"] for row in voted) == sorted(
        winners[item]
        for item in {task.item for own in study.tasks.values() for task in own if task.kind == "vote"}
    )
    (read,) = json.loads(RunFolder(out / "06_rm_votes").data_report.read_text())
    assert read["kept"] == 18
    _used_by_the_second_round(out, {row["id"] for row in voted})
    page = read_page(out / "09_report" / "report.html")
    assert [stage["name"] for stage in page["stages"] if stage["card"]] == ["rm", "rm_votes"]
    assert page["policies"] == ["SFT", "PPO", "PPO-votes"]
    capsys.readouterr()
    assert main(command) == 0
    assert capsys.readouterr().err.count("nothing to do") == 8


def _used_by_the_second_round(out: Path, reviewed: set[str]) -> None:
    """PPO is trained again from PPO on the second reward model, and evaluated on prompts that nobody voted on."""
    lineage: Mapping[str, Any] = json.loads(RunFolder(out / "07_ppo_votes").manifest.read_text())["lineage"]
    text = json.dumps(lineage)
    assert "06_rm_votes" in text and "03_ppo" in text
    evaluated = {row["prompt_id"] for row in read_rows(EvaluationFolder(out / "08_eval_votes").responses)}
    assert reviewed and evaluated == {f"q{i}" for i in range(16)} - reviewed


def simulation() -> ModuleType:
    spec = importlib.util.spec_from_file_location("simulate_votes", ROOT / "scripts" / "simulate_votes.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_simulated_raters_follow_the_gold_rule_but_for_their_errors(tmp_path: Path) -> None:
    simulate = simulation()
    prompts = simulate.demo_prompts()
    for policy, text in (
        ("base", "Well, no."),
        ("ours", "It is about {} and {} in the way that people say it."),
    ):
        rows = [
            {
                "prompt_id": prompt.id,
                "prompt": question,
                "response": text.format(*(prompt.details["keywords"] * 2)),
            }
            for question, prompt in list(prompts.items())[:40]
        ]
        (tmp_path / f"{policy}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    folder = ReviewFolder(tmp_path / "R")
    names = [str(tmp_path / "base.jsonl"), str(tmp_path / "ours.jsonl")]
    given = {"items": 30, "overlap": 0.0, "repeats": 0.0, "gold": 0.0, "calibration": 0}
    options = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    server = Served(
        [*names, "--raters", "sure,erring", *options, "--output-dir", str(folder.root)], tmp_path / "log"
    )
    for rater, errors in (("sure", 0.0), ("erring", 1.0)):
        chosen = simulate.vote_on_all(server.url(rater), prompts, rater, errors)
        assert sum(chosen.values()) == len(read_study(folder).tasks[rater])
    assert server.stop() == 0
    study = read_study(folder)
    votes = unblind(study, read_votes(folder.votes, study.hash))
    outcomes = {(vote.vote.rater, vote.outcome) for vote in votes}
    assert outcomes == {("sure", "second"), ("erring", "first")}
