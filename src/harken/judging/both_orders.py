"""Ask a judge about every pair in both orders; only verdicts that do not change with the order count. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from harken.judging.cache import VerdictCache
from harken.judging.pair import PairJudge, PairVerdict, ResponsePair
from harken.maths.statistics.intervals import clustered_jeffreys

PairOutcome = Literal["first", "second", "tie", "inconsistent", "failed"]
DEFAULT_BATCH_SIZE = 8
"""Verdicts per call of a judge and write of the cache, unless the judge has another `batch_size`."""
POSITION_FIRST, POSITION_SECOND = "prefers_first_shown", "prefers_second_shown"
INCONSISTENT = "inconsistent"
MAX_FLIPS = 0.5
"""Share of pairs whose verdict changes with the order (lower bound) from which a judge is called inconsistent."""


@dataclass(frozen=True)
class JudgedPair:
    """Hold the two verdicts on a pair: `original` in the order of the pair, `swapped` in the other order."""

    pair: ResponsePair
    original: PairVerdict
    swapped: PairVerdict

    @property
    def probabilities(self) -> tuple[float, float] | None:
        """Return P(first is better) by the original and by the swapped order; None without both verdicts."""
        if self.original.probability is None or self.swapped.probability is None:
            return None
        return self.original.probability, 1.0 - self.swapped.probability

    @property
    def outcome(self) -> PairOutcome:
        """Return the side that both orders prefer; tie, inconsistent or failed if there is none."""
        probabilities = self.probabilities
        if probabilities is None:
            return "failed"
        signs = [np.sign(p - 0.5) for p in probabilities]
        if signs[0] != signs[1]:
            return "inconsistent"
        return "tie" if signs[0] == 0 else "first" if signs[0] > 0 else "second"

    @property
    def probability(self) -> float | None:
        """Return P(first is better), the mean of both orders, in which the position cancels."""
        probabilities = self.probabilities
        return None if probabilities is None else (probabilities[0] + probabilities[1]) / 2

    @property
    def problem(self) -> str | None:
        """Return why a verdict is missing; None if both exist."""
        return self.original.problem or self.swapped.problem

    @property
    def first_shown_wins(self) -> float | None:
        """Return in how many of the two orders the response shown first won; a tie counts half."""
        if self.original.probability is None or self.swapped.probability is None:
            return None
        return float(
            sum(
                (np.sign(value - 0.5) + 1) / 2
                for value in (self.original.probability, self.swapped.probability)
            )
        )


def judge_both_orders(
    judge: PairJudge,
    pairs: Sequence[ResponsePair],
    cache: VerdictCache,
    on_progress: Callable[[int], object] | None = None,
) -> list[JudgedPair]:
    """Return the verdicts on every pair in both orders; cached verdicts are not asked for again.

    Raises ValueError if the judge returns another number of verdicts than it was asked for.
    """
    orders = [order for pair in pairs for order in (pair, pair.swapped())]
    cached: list[PairVerdict | None] = [cache.get(order) for order in orders]
    missing: dict[str, list[int]] = {}
    for index, verdict in enumerate(cached):
        if verdict is None:
            missing.setdefault(orders[index].content(), []).append(index)
    if on_progress is not None:
        on_progress(sum(verdict is not None for verdict in cached))
    groups = list(missing.values())
    size = getattr(judge, "batch_size", DEFAULT_BATCH_SIZE)
    for start in range(0, len(groups), size):
        group_batch = groups[start : start + size]
        rows = [orders[numbers[0]] for numbers in group_batch]
        verdicts = judge.prefer_first(rows)
        if len(verdicts) != len(rows):
            raise ValueError(f"the judge returned {len(verdicts)} verdicts on {len(rows)} pairs")
        cache.add(zip(rows, verdicts, strict=True))
        for numbers, verdict in zip(group_batch, verdicts, strict=True):
            for index in numbers:
                cached[index] = verdict
        if on_progress is not None:
            on_progress(sum(map(len, group_batch)))
    verdicts = [verdict for verdict in cached if verdict is not None]
    return [
        JudgedPair(pair, original, swapped)
        for pair, original, swapped in zip(pairs, verdicts[::2], verdicts[1::2], strict=True)
    ]


def order_figures(judged: Sequence[JudgedPair]) -> dict[str, Any]:
    """Compute how far verdicts depend on the order: counts, flip rate and position preference, with 95 % intervals.

    `flips`: share of the pairs with two verdicts whose verdicts differ. `first_shown`: share of single verdicts for
    the response that is shown first, which is 1/2 for a judge without a position bias. `biases` names the
    deviations beyond chance.
    """
    outcomes = Counter(pair.outcome for pair in judged)
    decided = [pair for pair in judged if pair.outcome != "failed"]
    problems = Counter(
        verdict.problem
        for pair in judged
        for verdict in (pair.original, pair.swapped)
        if verdict.problem is not None
    )
    flips = share_interval([float(pair.outcome == "inconsistent") for pair in decided])
    first_shown = share_interval([(pair.first_shown_wins or 0.0) / 2 for pair in decided])
    biases = []
    if first_shown is not None and first_shown["low"] > 0.5:
        biases.append(POSITION_FIRST)
    if first_shown is not None and first_shown["high"] < 0.5:
        biases.append(POSITION_SECOND)
    if flips is not None and flips["low"] > MAX_FLIPS:
        biases.append(INCONSISTENT)
    return {
        "pairs": len(judged),
        **{name: outcomes[name] for name in ("first", "second", "tie", "inconsistent", "failed")},
        "problems": dict(problems.most_common()),
        "flips": flips,
        "first_shown": first_shown,
        "biases": biases,
    }


def share_interval(values: Sequence[float]) -> dict[str, float] | None:
    """Compute a mean of values within [0, 1] with its 95 % interval; None without values."""
    if not values:
        return None
    interval = clustered_jeffreys(
        values, [1.0] * len(values), halves=any(value not in (0.0, 1.0) for value in values)
    )
    return {"n": len(values), "share": interval.mean, "low": interval.low, "high": interval.high}
