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
    return [one.section for one in probe_edits(scorer, scored, edits)]


@dataclass(frozen=True)
class ProbedEdit:
    """Hold what one edit did to the pairs it was applied to: `changes` in standard deviations, `wins` of the pair."""

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
    worse = [_worse(scored, i) for i in range(len(scored))]
    preferred = np.where(scored.side > 0, scored.rewards[:, 0], scored.rewards[:, 1])
    before = np.where(scored.side > 0, scored.rewards[:, 1], scored.rewards[:, 0])
    scale = float(scored.rewards.std()) or 1.0
    edited = [
        (edit, i, text)
        for edit in edits
        for i, old in enumerate(worse)
        if (text := edit.apply(old)) is not None
    ]
    rewards = scorer.score_responses([prompts[i] for _, i, _ in edited], [text for _, _, text in edited])
    found: list[ProbedEdit] = []
    for edit in edits:
        index = np.array([i for other, i, _ in edited if other is edit], dtype=np.int64)
        after = rewards[[n for n, (other, _, _) in enumerate(edited) if other is edit]]
        known = np.isfinite(after)
        index, after = index[known], after[known]
        if len(index):
            section = _summarise(edit, scored, index, after, before[index], preferred[index], scale)
            wins = (before[index] < preferred[index]) & (after > preferred[index])
            pairs = [scored.pairs[i] for i in index]
            found.append(ProbedEdit(edit, section, pairs, (after - before[index]) / scale, wins))
    return found


def _summarise(
    edit: Edit,
    scored: ScoredPairs,
    index: np.ndarray,
    after: RewardArray,
    before: RewardArray,
    preferred: RewardArray,
    scale: float,
) -> Section:
    prompts = scored.prompts[index]
    right = before < preferred
    above = after > preferred
    change = clustered_mean_interval((after - before) / scale, prompts)
    return {
        "name": edit.name,
        "description": edit.description,
        "pairs": len(index),
        "change": interval_section(change, len(np.unique(prompts))),
        "flips": _share(above[right], prompts[right]),
        "above_preferred": _share(above, prompts),
    }


def prompt_section(scorer: PairScorer, scored: ScoredPairs) -> Section | None:
    """Measure what the prompt contributes: the same pairs scored as responses to the prompt of another pair.

    `lift`: mean of margin(own prompt) − margin(other prompt), in standard deviations of the gap. `flips`: share of
    pairs whose order changes. `moved`: standard deviation of the change of the gap ÷ that of the gap. `drop`: mean
    fall of the preferred response's reward under the other prompt, in standard deviations of the rewards. Intervals
    are 95 %, clustered by prompt. None without text pairs of at least two prompts.
    """
    scored = text_pairs(scored)
    others = other_prompts(scored)
    if others is None:
        return None
    prompts = [prompt_of(scored, i) for i in others]
    texts = [pair for pair in scored.pairs if isinstance(pair, Preference)]
    rewards = np.stack(
        [
            scorer.score_responses(prompts, [pair.chosen for pair in texts]),
            scorer.score_responses(prompts, [pair.rejected for pair in texts]),
        ],
        axis=1,
    )
    known = np.atleast_1d(np.isfinite(rewards).all(axis=1))
    own, other = scored.select(known), ScoredPairs(list(scored.pairs), rewards).select(known)
    if not len(own):
        return None
    spread, scale = float(own.gap.std()) or 1.0, float(own.rewards.std()) or 1.0
    preferred = np.where(own.side > 0, 0, 1)
    rows = np.arange(len(own))
    lift = clustered_mean_interval((own.margin - other.margin) / spread, own.prompts)
    drop = clustered_mean_interval(
        (own.rewards[rows, preferred] - other.rewards[rows, preferred]) / scale, own.prompts
    )
    distinct = len(np.unique(own.prompts))
    return {
        "pairs": len(own),
        "accuracy": own.accuracy(),
        "accuracy_other_prompt": other.accuracy(),
        "lift": interval_section(lift, distinct),
        "drop": interval_section(drop, distinct),
        "flips": _share(np.sign(own.gap) != np.sign(other.gap), own.prompts),
        "moved": float((own.gap - other.gap).std()) / spread,
    }


def other_prompts(scored: ScoredPairs) -> list[int] | None:
    """Return for each pair the number of a pair with another prompt; None where all pairs have one prompt."""
    count = len(scored)
    if count < 2 or len(np.unique(scored.prompts)) < 2:
        return None
    found = []
    for i in range(count):
        # A step of about half the pairs: neighbours in a file are often about the same subject.
        steps = ((i + count // 2 + k) % count for k in range(count))
        found.append(next(j for j in steps if scored.prompts[j] != scored.prompts[i]))
    return found


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


def _share(true: np.ndarray, prompts: np.ndarray) -> Section | None:
    """Compute a share with its interval, clustered by prompt; None without any."""
    if not len(true):
        return None
    index = np.unique(prompts, return_inverse=True)[1]
    found = clustered_jeffreys(np.bincount(index, true), np.bincount(index))
    return {"pairs": len(true), "share": found.mean, "low": found.low, "high": found.high}
