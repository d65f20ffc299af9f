"""An interrupted evaluation: what is there is not made again, what is missing is, and nothing else is mixed in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest
from kill import stages
from kill.children import tree

from harken.config import EvaluationConfig
from harken.errors import UserError
from harken.evaluation import responses, scorers, suite
from harken.records import Message, Prompt, Rollout
from harken.run.tables import read_rows


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    stages.make_world(root)
    return root


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two prompts and three sequences a part, so that five prompts make three parts a policy."""
    for name, size in (("prompts", 2), ("sequences", 3)):
        monkeypatch.setitem(responses.BATCH_SHAPE, name, size)


def evaluation(world: Path, **changes: Any) -> EvaluationConfig:
    return EvaluationConfig.model_validate(stages.evaluation_settings(world) | changes)


class Cut(Exception):
    """Stands for whatever ends a process."""


def truncated_before_the_comparison(world: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """An evaluation that has made all its parts and no more; their names."""

    def end(*given: object, **named: object) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(suite, "write_rows", end)
        with pytest.raises(Cut):
            suite.run_evaluation(evaluation(world), folder)
    return {path.name for path in (folder / "shards").iterdir()}


def test_missing_and_damaged_parts_are_made_again_and_no_others(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")  # the manifest says when
    suite.run_evaluation(evaluation(world), tmp_path / "whole")
    expected = tree(tmp_path / "whole")
    assert not (tmp_path / "whole" / "shards").exists()
    folder = tmp_path / "cut"
    names = truncated_before_the_comparison(world, folder, monkeypatch)
    shards = {f"responses-{policy:02d}-{start:06d}.jsonl" for policy in (0, 1) for start in (0, 2, 4)}
    assert shards < names and "scores-000000.jsonl" in names
    (folder / "shards" / "responses-01-000002.jsonl").unlink()
    damaged = folder / "shards" / "responses-00-000004.jsonl"
    damaged.write_bytes(damaged.read_bytes().replace(b"Ask", b"ask").replace(b"0", b"1"))
    asked: list[list[str]] = []
    generate = responses.InProcessEngine.generate

    def counted(self: Any, prompts: Any, *given: Any, **named: Any) -> Any:
        asked.append([prompt.id for prompt in prompts])
        return generate(self, prompts, *given, **named)

    monkeypatch.setattr(responses.InProcessEngine, "generate", counted)
    suite.run_evaluation(evaluation(world), folder)
    rows = read_rows(folder / "responses.parquet")
    in_order = [row["prompt_id"] for row in rows][:5]
    assert asked == [in_order[4:], in_order[2:4]]
    assert tree(folder) == expected


def test_equal_sequences_are_scored_once_across_shards(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same model twice, greedily: every response stands there twice, three to a part."""
    scored: list[tuple[int, ...]] = []
    raw_scores = scorers.RewardModel.raw_scores

    def counted(self: Any, sequences: Any, *given: Any) -> Any:
        scored.extend(map(tuple, sequences))
        return raw_scores(self, sequences, *given)

    monkeypatch.setattr(scorers.RewardModel, "raw_scores", counted)
    twice = {"a": str(world / "model"), "b": str(world / "model")}
    folder = suite.run_evaluation(evaluation(world, policies=twice, temperature=0.0), tmp_path / "twice")
    rows = read_rows(folder.responses)
    assert len(scored) == len(set(scored)) == 5
    rewards = {name: [row["reward"] for row in rows if row["policy"] == name] for name in twice}
    assert rewards["a"] == rewards["b"]


def test_no_model_is_loaded_for_stored_responses(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truncated_before_the_comparison(world, tmp_path / "cut", monkeypatch)
    monkeypatch.setattr(responses, "load_engine", lambda *given: pytest.fail("a model was read"))
    suite.run_evaluation(evaluation(world), tmp_path / "cut")


@pytest.mark.parametrize("change", ["setting", "prompts", "weights", "batch shape"])
def test_shards_of_other_settings_are_refused_with_the_difference(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    truncated_before_the_comparison(world, tmp_path / "cut", monkeypatch)
    before = tree(tmp_path / "cut")
    changes: dict[str, Any] = {}
    wanted = {
        "setting": "temperature",
        "prompts": "prompts",
        "weights": "fingerprints",
        "batch shape": "batch_shape",
    }
    if change == "setting":
        changes = {"temperature": 0.5}
    if change == "prompts":
        rows = [json.loads(line) for line in (world / "prompts.jsonl").read_text().splitlines()]
        other = tmp_path / "prompts.jsonl"
        other.write_text("".join(json.dumps(row | {"prompt": row["prompt"] + "?"}) + "\n" for row in rows))
        settings = stages.evaluation_settings(world)["data"]
        monkeypatch.setattr(suite.sources, "load_prompts", _reading(other, suite.sources.load_prompts))
        changes = {"data": settings}
    if change == "weights":
        monkeypatch.setattr(suite, "lineage_fingerprint", lambda source: "another")
    if change == "batch shape":
        monkeypatch.setitem(responses.BATCH_SHAPE, "slots", 16)
    with pytest.raises(UserError, match=wanted[change]):
        suite.run_evaluation(evaluation(world, **changes), tmp_path / "cut")
    assert tree(tmp_path / "cut") == before


def _reading(path: Path, load: Any) -> Any:
    """The same settings, another file behind their name."""
    return lambda data, **named: load(data.model_copy(update={"path": str(path)}), **named)


class _Letters:
    """Decodes token n as the n-th letter."""

    def decode_response(self, tokens: Any) -> str:
        return "".join(chr(ord("a") + token) for token in tokens)


def test_a_response_beyond_a_budget_ends_there_truncated() -> None:
    prompt = Prompt("p", (Message("user", "Spell."),))
    tokens = {"longer": (0, 1, 2, 3), "equal": (0, 1, 2), "shorter": (0,)}
    rollouts = [
        Rollout(
            prompt, 0, (9,), values, tuple(-float(v) for v in values), _Letters().decode_response(values),
            "end_of_turn", name,
        )
        for name, values in tokens.items()
    ]  # fmt: skip
    generated = responses.PolicyResponses(rollouts, cast(Any, _Letters()))
    longer, equal, shorter = responses.truncate_responses(generated, 3).rollouts
    assert (longer.text, longer.response_tokens, longer.stop) == ("abc", (0, 1, 2), "length")
    assert longer.sampler_logprobs == (0.0, -1.0, -2.0)
    assert [equal, shorter] == rollouts[1:]
