"""Pairs of failures: which rule a broken response meets, what a row says, and the stages that use pairs of people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from review.reviewed import attentive, cast, review_config, write_responses

from harken.cli.main import main
from harken.config import DataConfig, EvaluationConfig, files
from harken.config.review import HardNegativesConfig
from harken.config.stages import resolve_stages
from harken.data.parse import parse_preference_rows
from harken.errors import UserError
from harken.evaluation import suite
from harken.review.export import export_pairs, write_pairs
from harken.review.hard_negatives import choose_rule, run_hard_negatives
from harken.review.report import lock_and_report
from harken.review.stage import WaitingForVotes, run_review_stage
from harken.review.study import read_study
from harken.review.votes import VoteStore
from harken.run.folder import ReviewFolder
from harken.run.tables import read_rows

RULES = ("high_reward_broken", "repetition", "truncated")
CLEAN = "Rain falls from clouds because tiny drops of water become heavy."
LOOP = "It rains and it rains again. " * 8


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def response(prompt: int, policy: str, text: str, reward: float, stop: str = "end_of_turn") -> dict[str, Any]:
    return {
        "prompt_id": f"q{prompt}", "prompt": f"Question {prompt}?", "policy": policy, "response": text,
        "reward": reward, "stop": stop,
    }  # fmt: skip


def test_the_first_rule_that_holds() -> None:
    assert choose_rule(frozenset({"loop"}), 1.0, RULES) == "high_reward_broken"
    assert choose_rule(frozenset({"loop"}), 0.0, RULES) == "repetition"
    assert choose_rule(frozenset({"loop", "cap_hit"}), -1.0, ("truncated", "repetition")) == "truncated"
    assert choose_rule(frozenset({"cap_hit"}), -1.0, RULES) == "truncated"
    assert choose_rule(frozenset({"broken_off"}), 1.0, RULES, margin=1.0) == "truncated"
    assert choose_rule(frozenset({"mojibake"}), -1.0, RULES) is None
    assert (
        choose_rule(frozenset({"refusal", "overlong"}), 5.0, RULES) is None
    )  # what depends on the user's wishes


def test_rows_by_hand(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.jsonl",
        [
            response(0, "sft", CLEAN, 0.0), response(0, "base", f"{CLEAN} Then it stops.", -1.0),
            response(0, "ppo", LOOP, 2.0),
            response(1, "sft", "Snow is frozen water that falls in winter.", 3.0),
            response(1, "ppo", LOOP, 2.0), response(1, "base", LOOP, 1.0),
            response(2, "sft", "Wind moves the leaves of old trees.", 3.0),
            response(2, "ppo", "Rain falls from the", 1.0, "length"),
            response(3, "sft", LOOP, 0.0), response(3, "ppo", LOOP, 1.0),
            response(4, "sft", CLEAN, 0.0), response(4, "ppo", CLEAN, 1.0),
        ],
    )  # fmt: skip
    folder = run_hard_negatives(HardNegativesConfig(responses=path, strength=2.0), tmp_path / "H")
    rows = [json.loads(line) for line in folder.pairs.read_text().splitlines()]
    assert [(row["id"], row["rule"], row["chosen_policy"], row["rejected_policy"]) for row in rows] == [
        ("q0", "high_reward_broken", "sft", "ppo"),  # the clean response with the highest reward
        ("q1", "repetition", "sft", "ppo"),  # base's text is the same: one pair
        ("q2", "truncated", "sft", "ppo"),
    ]
    assert rows[0]["chosen"] == [{"role": "assistant", "content": CLEAN}]
    assert (rows[0]["chosen_score"], rows[0]["rejected_score"], rows[0]["preference_strength"]) == (
        0.0,
        2.0,
        2.0,
    )
    assert "repetition" in rows[0]["failures"] and "4-grams" in rows[0]["evidence"]["repetition"]
    assert "cap_hit" in rows[2]["failures"] and rows[0]["source"] == "hard-negatives"
    counts = json.loads(folder.manifest.read_text())["counts"]
    assert counts == {
        "pairs": 3, "added_to": 0, "high_reward_broken": 1, "repetition": 1, "truncated": 1, "repeated": 1,
        "no_clean": 2,
    }  # fmt: skip
    read, report = parse_preference_rows(DataConfig(path=str(folder.pairs), task="preference"))
    assert len(read) == 3 and report.dropped == {}
    before = folder.pairs.read_bytes()
    run_hard_negatives(HardNegativesConfig(responses=path, strength=2.0), tmp_path / "H")
    again = run_hard_negatives(HardNegativesConfig(responses=path, strength=2.0), tmp_path / "I")
    assert before == folder.pairs.read_bytes() == again.pairs.read_bytes()
    with pytest.raises(UserError, match="another configuration"):
        run_hard_negatives(HardNegativesConfig(responses=path), tmp_path / "H")


def test_pairs_are_added_to_those_of_the_first_reward_model(tmp_path: Path) -> None:
    rows = [response(0, "sft", CLEAN, 0.0), response(0, "ppo", LOOP, 2.0)]
    old = [{"prompt": f"P{i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(9)]
    old[3]["preference_strength"] = 0
    config = HardNegativesConfig(
        responses=write(tmp_path / "r.jsonl", rows), add_to=write(tmp_path / "old.jsonl", old), add_limit=4
    )
    folder = run_hard_negatives(config, tmp_path / "H")
    read, report = parse_preference_rows(DataConfig(path=str(folder.pairs), task="preference"))
    assert len(read) == 5 and report.dropped == {} and read[-1].rejected == LOOP
    assert {pair.chosen for pair in read[:4]} < {f"yes {i}" for i in range(9)}
    everything = run_hard_negatives(config.model_copy(update={"add_limit": None}), tmp_path / "I")
    read, _ = parse_preference_rows(DataConfig(path=str(everything.pairs), task="preference"))
    assert [pair.label for pair in read] == [1.0] * 3 + [0.5] + [1.0] * 6


def test_nothing_broken_and_no_rewards_are_refused(tmp_path: Path) -> None:
    clean = write(tmp_path / "a.jsonl", [response(0, "a", CLEAN, 0.0), response(0, "b", CLEAN, 1.0)])
    with pytest.raises(UserError, match="no pair can be made"):
        run_hard_negatives(HardNegativesConfig(responses=clean), tmp_path / "A")
    bare = write(tmp_path / "b.jsonl", [{"prompt": "Q?", "response": LOOP}])
    with pytest.raises(UserError, match="has no reward"):
        run_hard_negatives(HardNegativesConfig(responses=bare), tmp_path / "B")


def test_pairs_go_into_review_first(tmp_path: Path) -> None:
    rows = [response(i, p, CLEAN if p == "sft" else LOOP, 0.0) for i in range(4) for p in ("sft", "ppo")]
    path = write(tmp_path / "r.jsonl", rows)
    assert main(["hard-negatives", path, "--rules", "repetition", "--out", str(tmp_path / "H")]) == 0
    assert main(["review", "plan", str(tmp_path / "H")]) == 0
    assert main(["hard-negatives", path, "--rules", "worse", "--out", str(tmp_path / "I")]) == 2


def test_a_stage_waits_for_votes_and_then_exports_them(tmp_path: Path) -> None:
    config = review_config(tmp_path)
    folder = ReviewFolder(tmp_path / "05_review")
    for _ in range(2):
        with pytest.raises(WaitingForVotes) as error:
            run_review_stage(config, folder.root)
        assert error.value.exit_code == 1
        assert f"Fix: run: harken review {folder.root}; after the votes: harken review report" in str(
            error.value
        )
    study = read_study(folder)
    store = VoteStore(folder.votes, study.hash)
    cast(store, study, attentive)
    store.close()
    with pytest.raises(WaitingForVotes):
        run_review_stage(config, folder.root)  # votes of an unlocked review are blinded
    lock_and_report(folder)
    assert run_review_stage(config, folder.root).pairs.exists()
    assert len(folder.pairs.read_text().splitlines()) == 20
    changed = folder.pairs.stat().st_mtime_ns
    run_review_stage(config, folder.root)
    assert folder.pairs.stat().st_mtime_ns == changed


def test_the_shipped_pipeline_trains_on_the_votes_and_leaves_their_prompts_out(tmp_path: Path) -> None:
    stages = {stage.name: stage for stage in resolve_stages(files.load_pipeline("review", []), tmp_path)}
    review = str(stages["review"].output)
    assert review.endswith("05_review/pairs.jsonl") and stages["rm_votes"].config.data.path == review
    assert stages["ppo_votes"].config.training.reward_model.checkpoint_path == str(stages["rm_votes"].output)
    assert stages["eval_votes"].config.leave_out == [review]
    assert stages["review"].config.policies["responses"].responses == str(stages["eval"].output)


def test_prompts_of_a_review_leave_the_next_evaluation(tmp_path: Path) -> None:
    base, ours = write_responses(tmp_path, prompts=20)
    config = review_config(tmp_path, prompts=20, items=7, gold=0.0)
    (tmp_path / "R").mkdir()
    folder = ReviewFolder(tmp_path / "R")
    with pytest.raises(WaitingForVotes):
        run_review_stage(config, folder.root)
    study = read_study(folder)
    store = VoteStore(folder.votes, study.hash)
    cast(store, study, attentive)
    write_pairs(tmp_path / "pairs.jsonl", export_pairs(study, store.votes()), "here")
    used = {json.loads(line)["id"] for line in (tmp_path / "pairs.jsonl").read_text().splitlines()}
    assert len(used) == 7
    given = {
        "policies": {"base": base, "ours": ours},
        "judges": ["intact"],
        "leave_out": [str(tmp_path / "pairs.jsonl")],
    }
    found = suite.run_evaluation(EvaluationConfig.model_validate(given), tmp_path / "E")
    assert {row["prompt_id"] for row in read_rows(found.responses)} == {f"q{i}" for i in range(20)} - used
    everything = given | {"leave_out": [base]}
    with pytest.raises(UserError, match="no prompt is left"):
        suite.run_evaluation(EvaluationConfig.model_validate(everything), tmp_path / "F")
