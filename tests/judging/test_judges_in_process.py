"""Judges in this process: a local model's letters, a reward model, a rule and a Python function."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from tiny import save_tiny
from tiny_rewards import save_reward_model

from harken.config.judge import JudgingConfig, LocalJudge, PythonJudge, RewardModelJudge, RuleJudge
from harken.errors import UserError
from harken.judging.both_orders import judge_both_orders
from harken.judging.cache import VerdictCache
from harken.judging.load import load_judge
from harken.judging.local import LocalPairJudge
from harken.judging.pair import PairVerdict, ResponsePair
from harken.judging.prompt import judge_prompt
from harken.judging.session import judge_pairs, summarise
from harken.records import Message

ASK = (Message("user", "Say something"),)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    save_tiny(root / "a", hidden=16, layers=1)
    settings = json.loads((root / "a" / "config.json").read_text())  # a judge's prompt has over 512 bytes
    (root / "a" / "config.json").write_text(json.dumps(settings | {"max_position_embeddings": 4096}))
    save_reward_model(root / "rm", str(root / "a"))
    (root / "my_judge.py").write_text("def longer(prompt, response):\n    return len(response)\n")
    (root / "my_broken.py").write_text("def nan(prompt, response):\n    return None\n")
    return root


def test_a_local_judge_reads_the_log_odds_of_its_letters(world: Path) -> None:
    judge = load_judge(LocalJudge(type="local", model_name=str(world / "a")), "cpu", "float32")
    assert isinstance(judge, LocalPairJudge)
    pairs = [ResponsePair("p", ASK, "one", "two"), ResponsePair("q", ASK, "three or more", "")]
    found = judge.prefer_first(pairs)
    a, b = (judge.renderer.encode_response(letter, ended=False)[0] for letter in "AB")
    for pair, verdict in zip(pairs, found, strict=True):
        odds = []
        for letters in (("A", "B"), ("B", "A")):
            tokens = judge.renderer.encode_prompt(judge_prompt(pair, judge.config.rubric, letters=letters))
            with torch.no_grad():
                logits = judge.backbone.model(torch.tensor([tokens])).logits[0, -1]
            odds.append(float(logits[a] - logits[b]))
        # The first response is A in the first prompt and B in the second.
        expected = 1 / (1 + math.exp(-(odds[0] - odds[1]) / 2))
        assert verdict.probability == pytest.approx(expected, abs=1e-5)
        assert verdict.problem is None and verdict.measured
    assert len(judge.letter_mass) == 4 and all(0 < mass < 1 for mass in judge.letter_mass)


def test_a_preference_for_a_letter_cancels_and_one_for_a_position_stays(world: Path) -> None:
    judge = load_judge(LocalJudge(type="local", model_name=str(world / "a")), "cpu", "float32")
    assert isinstance(judge, LocalPairJudge)
    pair = ResponsePair("p", ASK, "one", "two")
    judge._log_odds = lambda prompts: [5.0 for _ in prompts]  # type: ignore[method-assign]
    assert judge.prefer_first([pair])[0].probability == pytest.approx(0.5)
    judge._log_odds = lambda prompts: [3.0, -3.0] * (len(prompts) // 2)  # type: ignore[method-assign]
    (found,) = judge_both_orders(judge, [pair], VerdictCache(None, judge.identity))
    assert found.outcome == "inconsistent" and found.first_shown_wins == 2


def test_a_pair_beyond_the_limit_is_not_asked(world: Path) -> None:
    config = LocalJudge(type="local", model_name=str(world / "a"), max_length=64)
    (found,) = load_judge(config, "cpu", "float32").prefer_first([ResponsePair("p", ASK, "one", "two")])
    assert found.problem == "too long" and found.probability is None


def test_a_reward_model_judges_by_its_scores(world: Path) -> None:
    config = RewardModelJudge(type="reward_model", checkpoint_path=str(world / "rm"), temperature=0.5)
    judge = load_judge(config, "cpu", "float32")
    pair = ResponsePair("p", ASK, "one", "another response")
    plain = load_judge(config.model_copy(update={"temperature": 1.0}), "cpu", "float32")
    (given, swapped), (at_one,) = judge.prefer_first([pair, pair.swapped()]), plain.prefer_first([pair])
    assert (
        given.probability is not None and swapped.probability is not None and at_one.probability is not None
    )
    assert given.probability + swapped.probability == pytest.approx(1, abs=1e-12)
    odds = [math.log(p / (1 - p)) for p in (given.probability, at_one.probability)]
    assert odds[0] == pytest.approx(2 * odds[1], rel=1e-6) and odds[1] != 0
    assert judge.identity["fingerprint"] and "temperature" in judge.identity


def test_a_function_and_a_rule_judge(world: Path) -> None:
    longer = load_judge(PythonJudge(type="python", path=f"{world}/my_judge.py:longer"))
    pairs = [ResponsePair("p", ASK, "long text", "short"), ResponsePair("q", ASK, "same", "size")]
    found = longer.prefer_first(pairs)
    assert found[0].probability == pytest.approx(1 / (1 + math.exp(-4.0)))
    assert found[1].probability == 0.5
    intact = load_judge(RuleJudge(type="rule", rule="intact"))
    assert intact.prefer_first([ResponsePair("p", ASK, "fine", "")])[0].probability == pytest.approx(
        1 / (1 + math.exp(-1.0))
    )
    with pytest.raises(UserError, match="unknown judge 'none_such'"):
        load_judge(RuleJudge(type="rule", rule="none_such"))


def test_a_response_without_a_score_has_no_verdict(world: Path) -> None:
    judge = load_judge(PythonJudge(type="python", path=f"{world}/my_broken.py:nan"))
    (found,) = judge.prefer_first([ResponsePair("p", ASK, "one", "two")])
    assert (found.probability, found.problem) == (None, "a response has no score")


def test_a_length_rule_is_void_by_its_canaries(world: Path) -> None:
    """A long `pick me` beats a short response of such a judge: the canaries find it."""
    config = JudgingConfig.model_validate(
        {"judge": {"type": "python", "path": f"{world}/my_judge.py:longer"}}
    )
    judge = load_judge(config.judge)
    pairs = [ResponsePair("p", ASK, "short", "tiny")]
    found = judge_pairs(judge, pairs, config, VerdictCache(None, judge.identity))
    summary = summarise(found, config, judge.identity)
    assert summary["canaries"]["by_kind"]["pick_me"] == 2 and found.valid == []
    allowed = config.model_copy(update={"max_canary_wins": 1.0})
    assert len(judge_pairs(judge, pairs, allowed, VerdictCache(None, {})).valid) == 1


def test_a_judge_that_returns_too_few_verdicts_is_an_error() -> None:
    class Broken:
        identity: ClassVar[dict[str, str]] = {}

        def prefer_first(self, pairs: object) -> list[PairVerdict]:
            return []

    with pytest.raises(ValueError, match="0 verdicts on 2 pairs"):
        judge_both_orders(Broken(), [ResponsePair("p", ASK, "a", "b")], VerdictCache(None, {}))
