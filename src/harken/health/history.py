"""Metrics logged so far, and statistics of their series."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median, variance


class History:
    """The finite values of every metric, in order. Lines are only appended."""

    def __init__(self) -> None:
        self.step = 0
        """Step of the latest line."""
        self.lines = 0
        self.nonfinite: tuple[str, ...] = ()
        """Metrics that were NaN or infinite in the latest line."""
        self.critic_warmup = 0
        """Lines at the start in which only the critic was trained."""
        self._series: dict[str, list[float]] = {}

    def add(self, step: int, metrics: Mapping[str, object]) -> None:
        """Append a line, as it is logged or as it is read back (null, with its name in `nonfinite`)."""
        nonfinite = metrics.get("nonfinite")
        broken = [str(name) for name in nonfinite] if isinstance(nonfinite, list | tuple) else []
        for name, value in metrics.items():
            if name.startswith("health/") or isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if math.isfinite(value):
                self._series.setdefault(name, []).append(float(value))
            else:
                broken.append(name)
        self.step, self.lines, self.nonfinite = step, self.lines + 1, tuple(dict.fromkeys(broken))
        if metrics.get("critic/warming_up") == 1.0:
            self.critic_warmup += 1

    def values(self, name: str) -> list[float]:
        """Return all values of a metric so far."""
        return self._series.get(name, [])

    def after_warmup(self, name: str) -> list[float]:
        """Return the values since the critic's warm-up ended (all of them without a warm-up)."""
        return self.values(name)[self.critic_warmup :]

    def names(self, prefix: str) -> list[str]:
        """Return the names of the metrics that begin with `prefix`, sorted."""
        return sorted(name for name in self._series if name.startswith(prefix))

    def median(self, name: str, count: int) -> float | None:
        """Return the median of the last `count` values; None while there are fewer."""
        values = self.values(name)
        return median(values[-count:]) if len(values) >= count else None

    def mean(self, name: str, count: int) -> float | None:
        """Return the mean of the last `count` values; None while there are fewer."""
        values = self.values(name)
        return fmean(values[-count:]) if len(values) >= count else None

    def start(self, name: str, count: int) -> float | None:
        """Return the median of the first `count` values; None while there are fewer than twice as many in all."""
        values = self.values(name)
        return median(values[:count]) if len(values) >= 2 * count else None


def welch_t(before: Sequence[float], after: Sequence[float]) -> float:
    """Return Welch's t: standard errors by which the mean of `after` lies above that of `before`.

    0 when neither varies and both are the same, ±infinity when neither varies and they differ. Each needs two
    values. Source: Welch 1947, Biometrika 34:28.
    """
    moved = fmean(after) - fmean(before)
    error = math.sqrt(variance(before) / len(before) + variance(after) / len(after))
    if error == 0.0:
        return math.copysign(math.inf, moved) if moved else 0.0
    return moved / error
