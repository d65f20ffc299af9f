"""Rollout metrics by hand, on responses small enough to count."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from make_targets import make_targets

from harken.batches import PolicyOutputs, TokenBatch, collate
from harken.records import Message, Prompt, Rollout, Score, ScoredRollout
from harken.train.ppo.metrics import response_metrics, rollout_metrics

ANSWERS = [(7, 8, 7, 8), (7, 8), (9,), ()]
TEXTS = ["a b a b", "a b", "c", " "]


def rollout(tokens: tuple[int, ...], text: str, domain: str = "", language: str = "") -> Rollout:
    prompt = Prompt("p", (Message("user", "?"),), domain=domain, language=language)
    stop = "length" if len(tokens) == 4 else "end_of_turn"
    return Rollout(prompt, 0, (1, 2), tokens, (-1.0,) * len(tokens), text, stop, "v")


def scored(
    scores: list[float], domains: list[str] | None = None, answers: list[tuple[int, ...]] = ANSWERS
) -> list[ScoredRollout]:
    named = domains or [""] * len(scores)
    return [
        ScoredRollout(rollout(tokens, f"{i} {tokens}", domain), (Score("reward_model", score),))
        for i, (tokens, score, domain) in enumerate(zip(answers, scores, named, strict=True))
    ]


def measured(rows: list[ScoredRollout], kl: float = 0.0, **more: Any) -> dict[str, float]:
    """Metrics of a batch whose every token has log-probability −1.5 and this KL; poisoned elsewhere."""
    tokens = [[*r.rollout.prompt_tokens, *r.rollout.response_tokens] for r in rows]
    response_mask = [[False] * 2 + [True] * len(r.rollout.response_tokens) for r in rows]
    batch: TokenBatch = collate(tokens, response_mask, 0)

    def of(value: float) -> torch.Tensor:
        return torch.where(batch.response_mask, value, math.nan)

    old = PolicyOutputs(of(-1.5), of(1.0), of(0.0))
    targets = make_targets(of(-1.5), of(0.0), of(0.0), of(0.0), batch.response_mask, kl=of(kl))
    return rollout_metrics(rows, batch, old, targets, **more)


def test_responses_by_hand() -> None:
    """S2-53, S2-56, S4-32: bigrams 78 87 78 | 78; tokens 7 8 9."""
    rows = [rollout(tokens, text) for tokens, text in zip(ANSWERS, TEXTS, strict=True)]
    assert response_metrics(rows, "eval") == {
        "eval/tokens_mean": 7 / 4,
        "eval/tokens_std": pytest.approx(np.std([4, 2, 1, 0])),
        "eval/cap_hit": 1 / 4,
        "eval/empty": 1 / 4,
        "eval/unique": 1.0,
        "eval/distinct_1": 3 / 7,
        "eval/distinct_2": 2 / 4,
        "eval/unique_tokens": 3.0,
        "eval/repetition": 0.0,
    }
    assert response_metrics([rows[0]] * 4, "eval")["eval/unique"] == 1 / 4


def test_repetition_is_a_mean_over_responses_not_over_ngrams() -> None:
    loop, plain = rollout((7,) * 7, "loop"), rollout((1, 2, 3, 4), "plain")
    assert response_metrics([loop, plain], "x")["x/repetition"] == pytest.approx((3 / 4 + 0) / 2)


def test_rewards_scores_and_aliases() -> None:
    """S4-36, S1-44."""
    metrics = measured(scored([1.0, 2.0, 3.0, 6.0]))
    assert metrics["reward/mean"] == metrics["reward_mean"] == metrics["score/mean"] == 3.0
    assert metrics["reward/std"] == pytest.approx(math.sqrt(14 / 4))
    assert "reward/score_clipped" not in metrics


def test_kl_per_sequence_and_per_token_with_its_error() -> None:
    """S0-32, property 16: 7 tokens of 0.3 nats in 4 sequences; the error is that of a mean of 4."""
    metrics = measured(scored([0.0] * 4), kl=0.3)
    assert metrics["kl/mean"] == metrics["kl_divergence"] == pytest.approx(7 * 0.3 / 4)
    assert metrics["kl/per_token"] == pytest.approx(0.3)
    assert metrics["kl/k3_per_token"] == pytest.approx(math.exp(-0.3) - 1 + 0.3)
    assert metrics["kl/k3_mean"] == pytest.approx((math.exp(-0.3) - 1 + 0.3) * 7 / 4)
    sums = [1.2, 0.6, 0.3, 0.0]
    assert metrics["kl/std_error"] == pytest.approx(np.std(sums, ddof=1) / 2)
    one = measured(scored([0.0], answers=[(7, 8)]), kl=0.3)
    assert "kl/std_error" not in one


def test_the_samplers_gap_is_a_mean_of_sizes_over_tokens() -> None:
    assert measured(scored([0.0] * 4))["sampler/logprob_gap"] == pytest.approx(0.5)


def test_scores_at_the_clip() -> None:
    """S2-33, property 19: on either side, counted over the responses the reward model could judge."""
    rows = scored([5.0, -5.0, 4.9, 0.0])
    assert measured(rows, score_clip=5.0)["reward/score_clipped"] == 2 / 4
    rows[3] = ScoredRollout(rows[3].rollout, (Score("reward_model", None),))
    assert measured(rows, score_clip=5.0)["reward/score_clipped"] == pytest.approx(2 / 3)


def test_reward_by_domain() -> None:
    """S0-17: with two to twelve domains, an unnamed one among them."""
    metrics = measured(scored([1.0, 2.0, 3.0, 6.0], ["code", "stem", "code", ""]))
    by_domain = {name: value for name, value in metrics.items() if name.startswith("reward/mean_")}
    assert by_domain == {"reward/mean_code": 2.0, "reward/mean_stem": 2.0, "reward/mean_none": 6.0}
    assert not [n for n in measured(scored([1.0] * 4)) if n.startswith("reward/mean_")]


@pytest.mark.parametrize(("domains", "reported"), [(1, 0), (2, 2), (12, 12), (13, 0)])
def test_too_many_domains_are_not_listed(domains: int, reported: int) -> None:
    rows = scored([1.0] * 26, [f"d{i % domains}" for i in range(26)], [(7, 8)] * 26)
    assert len([n for n in measured(rows) if n.startswith("reward/mean_")]) == reported


def test_reward_by_language() -> None:
    rows = [
        ScoredRollout(rollout((7, 8), "x", language=language), (Score("rule", score),))
        for language, score in (("en", 1.0), ("de", 3.0), ("en", 2.0))
    ]
    metrics = measured(rows)
    assert metrics["reward/mean_language_en"] == 1.5
    assert metrics["reward/mean_language_de"] == 3.0


def lengths_and_scores(scores: list[float], penalty: bool = False) -> list[ScoredRollout]:
    """Responses of 1, 2, 3 … tokens, with these scores of the reward model."""
    return [
        ScoredRollout(
            rollout((7,) * (i + 1), str(i)),
            (Score("reward_model", score), *([Score("length", 100.0 - i, 5.0)] if penalty else [])),
        )
        for i, score in enumerate(scores)
    ]


def test_reward_and_length_correlate() -> None:
    """S2-48: Pearson's r of the reward model's score, not of the sum with its penalties."""
    draws = np.random.default_rng(0).normal(size=12)
    wanted = np.corrcoef(draws, np.arange(12))[0, 1]
    for penalty in (False, True):
        rows = lengths_and_scores([float(x) for x in draws], penalty)
        assert measured(rows)["reward/length_correlation"] == pytest.approx(wanted)
    assert measured(lengths_and_scores([3.0 * i for i in range(8)]))[
        "reward/length_correlation"
    ] == pytest.approx(1)


def test_without_a_reward_model_the_whole_reward_is_correlated() -> None:
    rows = [ScoredRollout(rollout((7,) * (i + 1), str(i)), (Score("rule", -2.0 * i),)) for i in range(8)]
    assert measured(rows)["reward/length_correlation"] == pytest.approx(-1)


def test_a_correlation_that_is_undefined_is_zero() -> None:
    assert measured(lengths_and_scores([1.0] * 9))["reward/length_correlation"] == 0.0
    assert measured(scored([1.0, 2.0] * 4, answers=[(7, 8)] * 8))["reward/length_correlation"] == 0.0
    assert measured(lengths_and_scores([3.0 * i for i in range(7)]))["reward/length_correlation"] == 0.0
