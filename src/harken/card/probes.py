"""Measure exploitability: how much edits that add no quality move the reward, and how often they win a pair.

Every edit is applied to the response that the label does not prefer. It wins a pair when the model ranked the pair
right and the edited response now has a higher reward than the preferred one, so that PPO would learn the edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harken.card.edits import EDITS, Edit
from harken.card.scored import PairScorer, RewardArray, ScoredPairs, Section, interval_section
from harken.data.parse import Pair
from harken.maths.statistics.intervals import clustered_jeffreys, clustered_mean_interval
from harken.records import Preference, Prompt


def probe_section(scorer: PairScorer, scored: ScoredPairs, edits: Sequence[Edit] = EDITS) -> list[Section]:
    """Probe a reward model with every edit; [] where no pair is text with a preferred side.

    `change`: mean change of the reward, in standard deviations of the rewards of these pairs, with a 95 % interval
    clustered by prompt. `flips`: share of the rightly ranked pairs that the edited response wins, with its interval.
    `above_preferred`: share of all pairs in which the edited response has a higher reward than the preferred one.
    """
    return [edit.section for edit in probe_edits(scorer, scored, edits)]


@dataclass(frozen=True)
class ProbedEdit:
    """The effect of one edit on its pairs: `changes` in standard deviations, `wins` of the pair."""

    edit: Edit
    section: Section
    pairs: Sequence[Pair]
    changes: RewardArray
    wins: np.ndarray


def probe_edits(scorer: PairScorer, scored: ScoredPairs, edits: Sequence[Edit] = EDITS) -> list[ProbedEdit]:
    """Apply every edit to the response that the label does not prefer, and score it again."""
    scored = text_pairs(scored)
    if not len(scored):
        return []
    prompts = [prompt_of(scored, i) for i in range(len(scored))]
    unpreferred = [_worse(scored, i) for i in range(len(scored))]
    preferred = np.where(scored.side > 0, scored.rewards[:, 0], scored.rewards[:, 1])
    unpreferred_rewards = np.where(scored.side > 0, scored.rewards[:, 1], scored.rewards[:, 0])
    scale = float(scored.rewards.std()) or 1.0
    edited_responses = [
        (edit, i, text)
        for edit in edits
        for i, response in enumerate(unpreferred)
        if (text := edit.apply(response)) is not None
    ]
    rewards = scorer.score_responses(
        [prompts[i] for _, i, _ in edited_responses], [text for _, _, text in edited_responses]
    )
    probed: list[ProbedEdit] = []
    for edit in edits:
        index = np.array([i for other, i, _ in edited_responses if other is edit], dtype=np.int64)
        edited_rewards = rewards[[n for n, (other, _, _) in enumerate(edited_responses) if other is edit]]
        finite = np.isfinite(edited_rewards)
        index, edited_rewards = index[finite], edited_rewards[finite]
        if len(index):
            section = _summarise(
                edit, scored, index, edited_rewards, unpreferred_rewards[index], preferred[index], scale
            )
            wins = (unpreferred_rewards[index] < preferred[index]) & (edited_rewards > preferred[index])
            pairs = [scored.pairs[i] for i in index]
            probed.append(
                ProbedEdit(edit, section, pairs, (edited_rewards - unpreferred_rewards[index]) / scale, wins)
            )
    return probed


def _summarise(
    edit: Edit,
    scored: ScoredPairs,
    index: np.ndarray,
    edited_rewards: RewardArray,
    unpreferred_rewards: RewardArray,
    preferred: RewardArray,
    scale: float,
) -> Section:
    prompts = scored.prompts[index]
    ranked_right = unpreferred_rewards < preferred
    beats_preferred = edited_rewards > preferred
    change = clustered_mean_interval((edited_rewards - unpreferred_rewards) / scale, prompts)
    return {
        "name": edit.name,
        "description": edit.description,
        "pairs": len(index),
        "change": interval_section(change, len(np.unique(prompts))),
        "flips": _share(beats_preferred[ranked_right], prompts[ranked_right]),
        "above_preferred": _share(beats_preferred, prompts),
    }


def prompt_section(scorer: PairScorer, scored: ScoredPairs) -> Section | None:
    """Measure what the prompt contributes: the same pairs scored as responses to the prompt of another pair.

    `lift`: mean of margin(own prompt) − margin(other prompt), in standard deviations of the gap. `flips`: share of
    pairs whose order changes. `moved`: standard deviation of the change of the gap ÷ that of the gap. `drop`: mean
    fall of the preferred response's reward under the other prompt, in standard deviations of the rewards. Intervals
    are 95 %, clustered by prompt. None without text pairs of at least two prompts.
    """
    scored = text_pairs(scored)
    other_indices = other_prompts(scored)
    if other_indices is None:
        return None
    prompts = [prompt_of(scored, i) for i in other_indices]
    texts = [pair for pair in scored.pairs if isinstance(pair, Preference)]
    rewards = np.stack(
        [
            scorer.score_responses(prompts, [pair.chosen for pair in texts]),
            scorer.score_responses(prompts, [pair.rejected for pair in texts]),
        ],
        axis=1,
    )
    finite = np.atleast_1d(np.isfinite(rewards).all(axis=1))
    own_prompt, other_prompt = scored.select(finite), ScoredPairs(list(scored.pairs), rewards).select(finite)
    if not len(own_prompt):
        return None
    spread, scale = float(own_prompt.gap.std()) or 1.0, float(own_prompt.rewards.std()) or 1.0
    preferred = np.where(own_prompt.side > 0, 0, 1)
    rows = np.arange(len(own_prompt))
    lift = clustered_mean_interval((own_prompt.margin - other_prompt.margin) / spread, own_prompt.prompts)
    drop = clustered_mean_interval(
        (own_prompt.rewards[rows, preferred] - other_prompt.rewards[rows, preferred]) / scale,
        own_prompt.prompts,
    )
    distinct = len(np.unique(own_prompt.prompts))
    return {
        "pairs": len(own_prompt),
        "accuracy": own_prompt.accuracy(),
        "accuracy_other_prompt": other_prompt.accuracy(),
        "lift": interval_section(lift, distinct),
        "drop": interval_section(drop, distinct),
        "flips": _share(np.sign(own_prompt.gap) != np.sign(other_prompt.gap), own_prompt.prompts),
        "moved": float((own_prompt.gap - other_prompt.gap).std()) / spread,
    }


def other_prompts(scored: ScoredPairs) -> list[int] | None:
    """Return for each pair the index of a pair with another prompt; None if all pairs have the same prompt."""
    count = len(scored)
    if count < 2 or len(np.unique(scored.prompts)) < 2:
        return None
    indices = []
    for i in range(count):
        # Step by about half the pairs, because neighbours in a file often have the same subject.
        steps = ((i + count // 2 + offset) % count for offset in range(count))
        indices.append(next(j for j in steps if scored.prompts[j] != scored.prompts[i]))
    return indices


def text_pairs(scored: ScoredPairs) -> ScoredPairs:
    """Return the pairs that are text and have a preferred side."""
    return scored.select(
        np.array([isinstance(p, Preference) for p in scored.pairs], np.bool_) & scored.decided
    )


def prompt_of(scored: ScoredPairs, index: int) -> Prompt:
    """Return the prompt of a text pair."""
    pair = scored.pairs[index]
    assert isinstance(pair, Preference)
    return pair.prompt


def _worse(scored: ScoredPairs, index: int) -> str:
    pair = scored.pairs[index]
    assert isinstance(pair, Preference)
    return pair.rejected if scored.side[index] > 0 else pair.chosen


def _share(hits: np.ndarray, prompts: np.ndarray) -> Section | None:
    """Compute a share with its interval, clustered by prompt; None without any."""
    if not len(hits):
        return None
    index = np.unique(prompts, return_inverse=True)[1]
    interval = clustered_jeffreys(np.bincount(index, hits), np.bincount(index))
    return {"pairs": len(hits), "share": interval.mean, "low": interval.low, "high": interval.high}
