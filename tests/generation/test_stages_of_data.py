"""Generate, score and pair: what depends on what, what is kept, what is refused, and that training reads the result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from kill.children import tree
from tiny import save_tiny, tiny_tokenizer
from tiny_rewards import save_reward_model

from harken.cli.main import main
from harken.config import DataConfig, EvaluationConfig, GenerationConfig, PairsConfig, ScoringConfig
from harken.data.chat import Renderer
from harken.data.parse import parse_demonstration_rows, parse_preference_rows
from harken.errors import UserError
from harken.evaluation import responses as evaluated
from harken.evaluation import suite
from harken.generation import generate, score
from harken.generation.generate import run_generate
from harken.generation.pairs import run_pairs
from harken.generation.score import run_score
from harken.models.resolve import ModelSource, resolve
from harken.models.roles import RewardModel
from harken.records import Message
from harken.run import manifest
from harken.run.tables import read_rows

DEVICE = {"dtype": "float32", "device": "cpu"}
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {}}}]


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().split("\n") if line]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    save_tiny(root / "a", hidden=16, layers=1)
    save_tiny(root / "b", seed=1, hidden=16, layers=1)
    save_reward_model(root / "rm", str(root / "a"))
    rows = [{"id": f"q{i}", "prompt": f"Ask {i}", "topic": f"t{i % 2}"} for i in range(5)]
    rows[0] |= {"keywords": ["rain"], "reference": "It rains."}
    rows[1] |= {"tools": TOOLS}
    lines(root / "prompts.jsonl", rows)
    return root


def generation(world: Path, **changes: Any) -> GenerationConfig:
    settings = {
        "policies": {"a": str(world / "a"), "b": {"model_name": str(world / "b"), "temperature": 0.7}},
        "data": {"path": str(world / "prompts.jsonl")},
        "samples": 3,
        "max_gen_len": 6,
        "keep": ["topic"],
        **DEVICE,
    }
    return GenerationConfig.model_validate(settings | changes)


@pytest.fixture(scope="module")
def made(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_generate(generation(world), tmp_path_factory.mktemp("made") / "R").root


def by_key(folder: Path) -> dict[tuple[str, str, int], str]:
    rows = read_rows(folder / "responses.parquet")
    return {(row["policy"], row["prompt_id"], row["sample"]): row["response"] for row in rows}


def test_every_policy_prompt_and_sample_has_one_row(world: Path, made: Path) -> None:
    rows = read_rows(made / "responses.parquet")
    assert [(r["policy"], r["prompt_id"], r["sample"]) for r in rows] == [
        (policy, f"q{i}", sample) for policy in "ab" for i in range(5) for sample in range(3)
    ]
    first = rows[0]
    assert json.loads(first["messages"]) == [{"role": "user", "content": "Ask 0"}]
    assert (first["topic"], first["reference"]) == ("t0", "It rains.")
    assert json.loads(first["details"]) == {"keywords": ["rain"]}
    assert json.loads(rows[3]["tools"]) == TOOLS
    assert all(1 <= row["response_tokens"] <= 6 and row["stop"] in ("length", "end_of_turn") for row in rows)
    record = manifest.read_manifest(made / "manifest.json")
    assert (
        set(record["lineage"]["policies"]) == {"a", "b"}
        and len(record["lineage"]["data"]["fingerprint"]) == 64
    )
    assert record["counts"]["a"]["responses"] == 15
    assert record["counts"]["b"]["tokens"] == sum(r["response_tokens"] for r in rows if r["policy"] == "b")


def test_a_response_does_not_depend_on_other_prompts_policies_and_samples(
    world: Path, made: Path, tmp_path: Path
) -> None:
    whole = by_key(made)
    some = lines(tmp_path / "some.jsonl", read_lines(world / "prompts.jsonl")[3:])
    alone = generation(world, policies={"a": str(world / "a")}, data={"path": some}, samples=2)
    found = by_key(run_generate(alone, tmp_path / "R").root)
    assert len(found) == 4 and all(whole[key] == text for key, text in found.items())


def test_two_names_of_one_model_sample_independently_and_the_seed_acts(world: Path, tmp_path: Path) -> None:
    twice = generation(world, policies={"x": str(world / "a"), "y": str(world / "a")})
    found = by_key(run_generate(twice, tmp_path / "R").root)
    assert sum(found["x", *key[1:]] == text for key, text in found.items() if key[0] == "y") < 3
    other = by_key(run_generate(twice.model_copy(update={"seed": 1}), tmp_path / "S").root)
    assert sum(other[key] == text for key, text in found.items()) < 6


def test_an_interrupted_generation_resumes_to_the_same_bytes(
    world: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    whole = run_generate(generation(world), tmp_path / "whole").root
    folder = tmp_path / "cut"

    def end(*given: object, **named: object) -> None:
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(generate, "write_rows", end)
        with pytest.raises(InterruptedError):
            run_generate(generation(world), folder)
    shards = sorted((folder / "shards").iterdir())
    assert [path.name for path in shards] == ["responses-00-000000.jsonl", "responses-01-000000.jsonl"]
    shards[1].unlink()
    with pytest.raises(UserError, match="temperature"):
        run_generate(generation(world, temperature=0.5), folder)
    asked: list[str] = []
    load = evaluated.load_engine
    monkeypatch.setattr(
        evaluated, "load_engine", lambda source, *given: (asked.append(source.name), load(source, *given))[1]
    )
    run_generate(generation(world), folder)
    assert asked == [str(world / "b")] and tree(folder) == tree(whole)
    run_generate(generation(world), folder)  # finished: nothing is made again
    assert len(asked) == 1
    with pytest.raises(UserError, match="another configuration"):
        run_generate(generation(world, samples=2), folder)


def test_other_weights_are_refused(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = generation(world, policies={"a": str(world / "a")}, samples=1, max_gen_len=1)
    folder = run_generate(small, tmp_path / "R")
    before = tree(folder.root)
    monkeypatch.setattr(ModelSource, "fingerprint", "another")
    with pytest.raises(UserError, match=r"fingerprints\.a"):
        run_generate(small, folder.root)
    assert tree(folder.root) == before


def scoring(made: Path, **changes: Any) -> ScoringConfig:
    return ScoringConfig.model_validate({"responses": str(made), "judges": ["intact"], **DEVICE} | changes)


def test_an_evaluations_table_is_scored_by_its_texts_and_keeps_every_column(
    world: Path, tmp_path: Path
) -> None:
    settings = {
        "policies": {"a": str(world / "a"), "b": str(world / "b")},
        "reward_model": str(world / "rm"),
        "judges": ["intact"],
        "data": {"path": str(world / "prompts.jsonl")},
        "max_gen_len": 6,
        **DEVICE,
    }
    evaluation = suite.run_evaluation(EvaluationConfig.model_validate(settings), tmp_path / "E")
    judges = [
        {"type": "model", "checkpoint_path": str(world / "rm"), "name": "rm"},
        {"type": "column", "path": "reward"},
    ]
    found = read_rows(run_score(scoring(evaluation.root, judges=judges), tmp_path / "S").responses)
    before = read_rows(evaluation.responses)
    model, renderer = (
        RewardModel.load(resolve(str(world / "rm")), torch.float32, "cpu"),
        Renderer(tiny_tokenizer()),
    )
    for row in found:
        prompt = renderer.encode_prompt(
            tuple(Message.from_dict(turn) for turn in json.loads(row["messages"]))
        )
        response = renderer.encode_response(row["response"], row["stop"] == "end_of_turn")
        (raw,) = model.raw_scores([[*prompt, *response]], 4096)
        assert row["score_rm"] == row["reward"] == pytest.approx(model.standardize(raw), abs=1e-4)
    assert [row["score_reward"] for row in found] == [row["reward"] for row in before]
    kept = (
        "prompt_id",
        "policy",
        "sample",
        "messages",
        "response",
        "prompt_tokens",
        "response_tokens",
        "stop",
    )
    for new, old in zip(found, before, strict=True):
        assert all(new[name] == old[name] for name in (*kept, "score_intact", "cap_hit"))
    names = list(found[0])
    assert names.index("reward") < names.index("score_rm") < names.index("score_reward")


def test_scorers_see_the_prompts_details_references_and_tools(
    made: Path, world: Path, tmp_path: Path
) -> None:
    code = tmp_path / "mine.py"
    code.write_text(
        "def seen(prompt, response, reference, row):\n"
        "    return float(reference == 'It rains.') + 2 * ('keywords' in row)\n"
    )
    folder = run_score(
        scoring(made, judges=[{"type": "python", "path": f"{code}:seen"}, "demo_gold"]), tmp_path / "S"
    )
    rows = read_rows(folder.responses)
    assert {row["score_seen"] for row in rows if row["prompt_id"] == "q0"} == {3.0}
    assert {row["score_seen"] for row in rows if row["prompt_id"] != "q0"} == {0.0}
    assert all((row["score_demo_gold"] is not None) == (row["prompt_id"] == "q0") for row in rows)


def test_a_primary_scorer_without_a_score_is_refused(made: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gives no score"):
        run_score(scoring(made, judges=["demo_gold"]), tmp_path / "S")


def test_foreign_responses_keep_their_rows_and_columns(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {
            "question": "Why?",
            "output": "Because.",
            "generator": "x",
            "reward": 0.5,
            "note": "n" * 300,
            "meta": {"k": 1},
        },
        {"question": "Why?", "output": None, "generator": "x", "reward": 0.1, "note": "failed", "meta": None},
        {"question": "Who?", "output": "You", "generator": "x", "reward": 0.9, "note": 3, "meta": [2]},
    ]
    path = lines(tmp_path / "theirs.jsonl", rows)
    folder = run_score(scoring(Path(path), columns={"prompt": "question"}), tmp_path / "S")
    found = read_rows(folder.responses)
    assert [row["response"] for row in found] == ["Because.", None, "You"]
    assert [row["score_intact"] for row in found] == [1.0, None, 1.0]
    assert [row["reward"] for row in found] == [1.0, None, 1.0]
    assert [row["score_reward"] for row in found] == [0.5, 0.1, 0.9]
    assert [json.loads(row["note"]) for row in found] == ["n" * 300, "failed", 3]
    assert [row["meta"] and json.loads(row["meta"]) for row in found] == [{"k": 1}, None, [2]]
    assert manifest.read_manifest(folder.manifest)["counts"] == {
        "responses": 3, "without_response": 1, "scored": {"score_intact": 2},
    }  # fmt: skip


def test_no_score_is_replaced_and_other_responses_are_refused(
    made: Path, world: Path, tmp_path: Path
) -> None:
    scored = run_score(scoring(made), tmp_path / "S")
    with pytest.raises(UserError, match="score_intact already"):
        run_score(scoring(scored.root), tmp_path / "T")
    other = run_generate(generation(world, seed=5), tmp_path / "R")
    with pytest.raises(UserError, match=r"fingerprints\.responses"):
        run_score(scoring(scored.root, responses=str(other.root)), scored.root)
    run_score(scoring(made), scored.root)  # the same command: nothing to do


def pairing(responses: Path, **changes: Any) -> PairsConfig:
    return PairsConfig.model_validate({"responses": str(responses)} | changes)


@pytest.fixture(scope="module")
def scored(made: Path, world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rm = {"type": "model", "checkpoint_path": str(world / "rm"), "name": "rm"}
    return run_score(scoring(made, judges=[rm, "intact"]), tmp_path_factory.mktemp("scored") / "S").root


def test_pairs_name_both_sides_and_training_reads_them(scored: Path, tmp_path: Path) -> None:
    folder = run_pairs(pairing(scored, strength="difference"), tmp_path / "P")
    written = read_lines(folder.pairs)
    table = read_rows(scored / "responses.parquet")
    assert [row["id"] for row in written] == [f"q{i}" for i in range(5)]
    for row in written:
        own = [one for one in table if one["prompt_id"] == row["id"]]
        best, worst = max(own, key=lambda one: one["reward"]), min(own, key=lambda one: one["reward"])
        for side, one in (("chosen", best), ("rejected", worst)):
            assert row[side] == [{"role": "assistant", "content": one["response"]}]
            assert row[f"{side}_policy"] == one["policy"] and row[f"{side}_sample"] == one["sample"]
            assert row[f"{side}_score"] == one["reward"]
        assert row["preference_strength"] == best["reward"] - worst["reward"] and row["scorer"] == "rm"
    read, report = parse_preference_rows(DataConfig(path=str(folder.pairs)))
    assert report.layout == "prompt_chosen_rejected" and not report.dropped
    assert [one.prompt.id for one in read] == [row["id"] for row in written]
    assert [one.chosen for one in read] == [row["chosen"][0]["content"] for row in written]
    assert [one.strength for one in read] == [row["preference_strength"] for row in written]
    assert [one.written_by for one in read] == [
        (row["chosen_policy"], row["rejected_policy"]) for row in written
    ]
    assert json.loads(read[1].prompt.tools) == TOOLS
    assert {one.label for one in read} == {1.0} and {one.rater for one in read} == {"rm"}


def test_kept_ties_are_read_with_label_one_half(scored: Path, tmp_path: Path) -> None:
    folder = run_pairs(pairing(scored, score="score_intact", ties="keep", how="all"), tmp_path / "P")
    read, _ = parse_preference_rows(DataConfig(path=str(folder.pairs)))
    written = read_lines(folder.pairs)
    ties = [row["preference_strength"] == 0 for row in written]
    assert [one.label == 0.5 for one in read] == ties
    counts = manifest.read_manifest(folder.manifest)["counts"]
    assert counts["ties_kept"] == sum(ties) > 0 and counts["pairs"] == len(written)


def test_the_best_of_each_prompt_is_a_demonstration(scored: Path, tmp_path: Path) -> None:
    folder = run_pairs(pairing(scored, how="best"), tmp_path / "B")
    table = read_rows(scored / "responses.parquet")
    read, report = parse_demonstration_rows(DataConfig(path=str(folder.demonstrations)))
    assert not report.dropped and len(read) == 5
    for one in read:
        own = [row for row in table if row["prompt_id"] == one.prompt.id]
        assert one.response == max(own, key=lambda row: row["reward"])["response"]


def test_a_response_that_looks_like_a_transcript_stays_whole(tmp_path: Path) -> None:
    text = "\n\nHuman: more?\n\nAssistant: yes"
    rows = [{"prompt": "Say", "response": r, "reward": s} for r, s in ((text, 1.0), ("No.", 0.0))]
    folder = run_pairs(pairing(Path(lines(tmp_path / "r.jsonl", rows))), tmp_path / "P")
    read, _ = parse_preference_rows(DataConfig(path=str(folder.pairs)))
    assert [(one.chosen, one.rejected) for one in read] == [(text, "No.")]


def test_truncated_empty_and_unscored_responses_are_counted(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": "Say", "response": "cut", "reward": 9.0, "finish_reason": "length"},
        {"prompt": "Say", "response": "good.", "reward": 1.0, "finish_reason": "stop"},
        {"prompt": "Say", "response": "bad.", "reward": 0.0, "finish_reason": "stop"},
        {"prompt": "Say", "response": " ", "reward": -5.0},
        {"prompt": "Say", "response": "none"},
        {"prompt": "Say", "response": None, "reward": 0.0},
        {"prompt": "Alone", "response": "x", "reward": 0.0},
    ]
    path = Path(lines(tmp_path / "r.jsonl", rows))
    folder = run_pairs(pairing(path, truncated="drop"), tmp_path / "P")
    (pair,) = read_lines(folder.pairs)
    assert (pair["chosen_score"], pair["rejected_score"]) == (1.0, 0.0)
    assert manifest.read_manifest(folder.manifest)["counts"] == {
        "pairs": 1, "responses": 7, "prompts": 2, "truncated": 1, "empty": 1, "unscored": 1, "failed": 1,
        "without_pair": 1,
    }  # fmt: skip
    (pair,) = read_lines(run_pairs(pairing(path), tmp_path / "K").pairs)
    assert pair["chosen_score"] == 9.0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"score": "score_rm2"}, "no response has a number"),
        ({"how": "margin", "margin": 1e6}, "no pair can be made"),
    ],
)
def test_a_missing_score_and_no_pairs_are_errors(
    scored: Path, tmp_path: Path, changes: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UserError, match=problem):
        run_pairs(pairing(scored, **changes), tmp_path / "P")


def test_the_commands_end_to_end(world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, r, s, p = str(world / "prompts.jsonl"), *(str(tmp_path / name) for name in "RSP")
    common = ["--set", "dtype=float32"]
    arguments = ["--prompts", prompts, "--samples", "2", "--max-gen-len", "4", "--out", r, *common]
    assert main(["generate", f"tiny={world / 'a'}", *arguments]) == 0
    assert main(["score", r, "--with", str(world / "rm"), "--with", "intact", "--out", s, *common]) == 0
    assert main(["pairs", s, "--how", "all", "--out", p]) == 0
    assert "5 pairs of 10 responses to 5 prompts" in capsys.readouterr().err
    assert main(["verify", str(tmp_path)]) == 0
    assert main(["pairs", s, "--how", "margin"]) == 2
    assert "Fix: set both" in capsys.readouterr().err


def test_a_file_of_settings_gives_the_same_as_options(made: Path, tmp_path: Path) -> None:
    lines(
        tmp_path / "r.jsonl",
        [{"prompt": "Say", "response": r, "reward": s} for r, s in (("a", 1.0), ("b", 0.0))],
    )
    (tmp_path / "p.yml").write_text(f"type: pairs\nresponses: {tmp_path / 'r.jsonl'}\nhow: all\n")
    assert main(["pairs", "--config", str(tmp_path / "p.yml"), "--out", str(tmp_path / "P")]) == 0
    assert main(["pairs", str(tmp_path / "r.jsonl"), "--how", "all", "--out", str(tmp_path / "Q")]) == 0
    assert (tmp_path / "P" / "pairs.jsonl").read_bytes() == (tmp_path / "Q" / "pairs.jsonl").read_bytes()
    assert main(["score", "--config", str(tmp_path / "p.yml")]) == 2


def test_two_folders_of_responses_are_compared(
    world: Path, made: Path, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = run_score(scoring(made, judges=["intact"]), tmp_path / "S")
    assert main(["compare", str(scored), str(other.root)]) == 0
    out = capsys.readouterr().out
    assert "judges" in out and f"a ({scored})"[:12] in out and "win rate" in out
    again = shutil.copytree(made, tmp_path / "again")
    assert main(["compare", str(made), str(again)]) == 0
    assert "no setting differs" in (out := capsys.readouterr().out) and "harken score" in out
    assert main(["compare", str(made), str(world / "a")]) == 2


def test_score_names_put_the_primary_first() -> None:
    both = scoring(Path("x.jsonl"), reward_model="outputs/02_rm")
    assert score.score_names(both) == ["score_reward_model", "score_intact"]
