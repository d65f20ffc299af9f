"""Turn judgements into preference pairs (scores, votes, rankings of k responses), and compute rater agreement.

The sign of a score is HelpSteer3's: below 0 the first response is better, above 0 the second, 0 is a tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harken.maths.statistics.agreement import krippendorff_alpha
from harken.records import Preference, Prompt, Voter


@dataclass(frozen=True)
class Comparison:
    """Two responses and their judgement, in the order of the row.

    `score` < 0: first better; > 0: second; 0: tie. Its absolute value is the strength. `raters` are single judgements
    on the same scale. `certainty` is the probability that the better side is better, 1 unless the row gives one.
    `written_by` names the models that wrote the two, `rater` who judged them; "" if unknown.
    `ordered`: whether the order of the two is the order in which they were shown.
    """

    first: str
    second: str
    score: float
    raters: tuple[float, ...] = ()
    certainty: float = 1.0
    written_by: tuple[str, str] = ("", "")
    rater: str = ""
    ordered: bool = False
    voters: tuple[Voter, ...] = ()
    """Who gave each of `raters`; of a row that is one judgement, its only rater. () if unknown."""
    gold: float | None = None
    """The known judgement of a golden row, on the scale of `score`."""


def to_preference(comparison: Comparison, prompt: Prompt, source: str = "", soft: bool = False) -> Preference:
    """Convert a comparison to a pair whose `chosen` is the better side; a tie keeps the row's order, with label 1/2.

    The signs of `raters` change so that a positive score favours `chosen`. With `soft`, where raters are
    known, the label is the share of them that favour `chosen` (a tie counts half) instead of the judgement.
    """
    score, certainty = comparison.score, comparison.certainty
    if soft and comparison.raters:
        leaning = vote_margin(comparison.raters)
        strength = abs(score) or abs(mean_score(comparison.raters)) or 1.0
        score, certainty = strength * float(np.sign(leaning)), (1.0 + abs(leaning)) / 2
    swap = score > 0
    raters = tuple((r if swap else -r) + 0.0 for r in comparison.raters)
    return Preference(
        prompt=prompt,
        chosen=comparison.second if swap else comparison.first,
        rejected=comparison.first if swap else comparison.second,
        label=certainty if score else 0.5,
        strength=abs(score),
        source=source,
        raters=raters,
        written_by=comparison.written_by[::-1] if swap else comparison.written_by,
        rater=comparison.rater,
        chosen_first=not swap if comparison.ordered and score else None,
        voters=comparison.voters,
        gold=None if comparison.gold is None else (comparison.gold if swap else -comparison.gold) + 0.0,
    )


def mean_score(scores: Sequence[float]) -> float:
    """Compute the mean of the raters' scores."""
    return float(np.mean(scores))


def majority_vote(scores: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """Return -1, 0 or 1, the sign with the most votes; 0, a tie, when two signs have equally many.

    Each score votes with its sign; `weights` (one per rater, default 1) weight the votes.
    """
    tally = dict.fromkeys((-1.0, 0.0, 1.0), 0.0)
    for score, weight in zip(scores, weights or [1.0] * len(scores), strict=True):
        tally[float(np.sign(score))] += weight
    highest = max(tally.values())
    winners = [verdict for verdict, votes in tally.items() if votes == highest]
    return winners[0] if len(winners) == 1 else 0.0


def vote_margin(scores: Sequence[float]) -> float:
    """Compute the share of raters for the second response minus the share for the first: -1 … 1."""
    return float(np.mean(np.sign(scores)))


def ranked_pairs(responses: Sequence[str], ranks: Sequence[float]) -> list[Comparison]:
    """Return all k·(k-1)/2 pairs of a ranking, best responses first. Rank 1 is the best; equal ranks are a tie.

    The strength of a pair is the difference of its ranks. Raises ValueError when the lengths differ.
    """
    ordered = sorted(zip(ranks, responses, strict=True), key=lambda pair: pair[0])
    return [Comparison(a, b, score=float(i - j)) for (i, a), (j, b) in combinations(ordered, 2)]


@dataclass(frozen=True)
class Agreement:
    """Measure rater agreement over the rows with two or more raters.

    `unanimous`: rows on which all scores have the same sign. `pairwise`: share of rater pairs with the same sign,
    averaged over rows. `alpha`: Krippendorff's ordinal alpha over the scores: 1 perfect, 0 chance, None where every
    score is the same.
    """

    rows: int
    unanimous: int
    pairwise: float
    alpha: float | None

    def line(self) -> str:
        """Format the agreement in one line for a terminal."""
        alpha = "not defined" if self.alpha is None else f"{self.alpha:.3f}"
        return (
            f"raters agree: {self.unanimous:,} of {self.rows:,} rows unanimous, "
            f"{self.pairwise:.1%} of rater pairs, Krippendorff's alpha (ordinal) {alpha}"
        )

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the four figures as JSON."""
        return {
            "rows": self.rows,
            "unanimous": self.unanimous,
            "pairwise": self.pairwise,
            "alpha": self.alpha,
        }


def agreement(rows: Sequence[Sequence[float]]) -> Agreement | None:
    """Compute agreement over rows of scores; None when no row has two raters."""
    rated = [row for row in rows if len(row) >= 2]
    if not rated:
        return None
    verdicts = [np.sign(row) for row in rated]
    shares = [np.mean([a == b for a, b in combinations(signs, 2)]) for signs in verdicts]
    return Agreement(
        rows=len(rated),
        unanimous=sum(len(set(signs)) == 1 for signs in verdicts),
        pairwise=float(np.mean(shares)),
        alpha=krippendorff_alpha([[float(score) for score in row] for row in rated]),
    )
