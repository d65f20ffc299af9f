"""What the lines of metrics.jsonl have said so far, and how a series moved."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, variance


class History:
    """The finite values of every metric, in order. Lines are added, never changed."""

    def __init__(self) -> None:
        self.step = 0
        """Of the latest line."""
        self.lines = 0
        self.nonfinite: tuple[str, ...] = ()
        """Metrics that were NaN or infinite in the latest line."""
        self.warming = 0
        """Lines at the start in which the critic learnt alone: the policy stood still."""
        self._series: dict[str, list[float]] = {}

    def add(self, step: int, metrics: Mapping[str, object]) -> None:
        """One more line, as it is logged or as it is read back (null, and its name in `nonfinite`)."""
        listed = metrics.get("nonfinite")
        broken = [str(name) for name in listed] if isinstance(listed, list | tuple) else []
        for name, value in metrics.items():
            if name.startswith("health/") or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if math.isfinite(value):
                self._series.setdefault(name, []).append(float(value))
            else:
                broken.append(name)
        self.step, self.lines, self.nonfinite = step, self.lines + 1, tuple(dict.fromkeys(broken))
        if metrics.get("critic/warming") == 1.0:
            self.warming += 1

    def values(self, name: str) -> list[float]:
        """All values of a metric so far."""
        return self._series.get(name, [])

    def learning(self, name: str) -> list[float]:
        """The values since the policy learns (all of them without a critic's warm-up)."""
        return self.values(name)[self.warming :]

    def names(self, prefix: str) -> list[str]:
        """The metrics that begin so, sorted."""
        return sorted(name for name in self._series if name.startswith(prefix))

    def median(self, name: str, count: int) -> float | None:
        """Median of the last `count` values; None before there are so many."""
        values = self.values(name)
        return median(values[-count:]) if len(values) >= count else None

    def mean(self, name: str, count: int) -> float | None:
        """Mean of the last `count` values; None before there are so many."""
        values = self.values(name)
        return fmean(values[-count:]) if len(values) >= count else None

    def start(self, name: str, count: int) -> float | None:
        """Median of the first `count` values; None before there are as many again to compare with."""
        values = self.values(name)
        return median(values[:count]) if len(values) >= 2 * count else None


def errors_moved(before: Sequence[float], after: Sequence[float]) -> float:
    """How many standard errors the mean of `after` lies above that of `before` (Welch's t statistic).

    0 when neither varies and both are the same, ±infinity when neither varies and they differ. Each
    needs two values. Source: Welch 1947, Biometrika 34:28.
    """
    moved = fmean(after) - fmean(before)
    error = math.sqrt(variance(before) / len(before) + variance(after) / len(after))
    if error == 0.0:
        return math.copysign(math.inf, moved) if moved else 0.0
    return moved / error
