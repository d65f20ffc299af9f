"""Rank the responses to each prompt by their reward, and pair the best with the worst."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from harken.records import Rollout, ScoredRollout
from harken.train.dpo.examples import PreferenceExample, RatedResponse, TokenResponse


@dataclass(frozen=True)
class RankedPairs:
    """The best and the worst response of each prompt, and the number of prompts whose responses all tie."""

    examples: list[PreferenceExample]
    ties: int
    gap: float
    """Mean reward of the best minus that of the worst; 0 without pairs."""


def best_against_worst(scored: Sequence[ScoredRollout]) -> RankedPairs:
    """Pair the response with the highest reward with that of the lowest, for each prompt drawn.

    `scored` holds the samples of a prompt one after the other. Among equal rewards the earlier sample is taken. A
    prompt whose responses have one reward, or whose best and worst responses are the same tokens, is a tie.
    """
    groups: dict[tuple[int, str], list[ScoredRollout]] = defaultdict(list)
    draw = 0
    for row in scored:
        draw += row.rollout.sample == 0
        groups[draw, row.rollout.prompt.id].append(row)
    examples, gaps = [], []
    for (_, name), rows in groups.items():
        best = max(rows, key=lambda row: row.reward)
        worst = min(rows, key=lambda row: row.reward)
        if best.reward == worst.reward or best.rollout.response_tokens == worst.rollout.response_tokens:
            continue
        examples.append(PreferenceExample(name, _tokens(best.rollout), _tokens(worst.rollout)))
        gaps.append(best.reward - worst.reward)
    return RankedPairs(examples, len(groups) - len(examples), sum(gaps) / len(gaps) if gaps else 0.0)


def _tokens(rollout: Rollout) -> TokenResponse:
    return TokenResponse((*rollout.prompt_tokens, *rollout.response_tokens), len(rollout.prompt_tokens))


def rate_pairs(examples: Sequence[PreferenceExample]) -> list[RatedResponse]:
    """Take each pair as a thumb up for the first response and a thumb down for the second."""
    return [
        RatedResponse(example.id, side, desirable)
        for example in examples
        for side, desirable in zip(example.sides, (True, False), strict=True)
    ]
