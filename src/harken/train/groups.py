"""Average a metric by group: by the domain and the language of the rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Protocol, runtime_checkable

MAX_METRIC_GROUPS = 12
"""Above this many groups (domains or languages), per-group metrics are not logged."""


@runtime_checkable
class Grouped(Protocol):
    """Define what a row needs, to be in a group: "" where the data does not say."""

    @property
    def domain(self) -> str:
        """The subject of the row."""
        ...

    @property
    def language(self) -> str:
        """The language of the row."""
        ...


def mean_by_group(
    name: str, groups: Sequence[str], values: Sequence[float], weights: Sequence[float] | None = None
) -> dict[str, float]:
    """Compute the (weighted) mean of each group; {} unless there are 2 to `MAX_METRIC_GROUPS` of them."""
    members: dict[str, list[int]] = defaultdict(list)
    for number, group in enumerate(groups):
        members[group or "none"].append(number)
    if not 2 <= len(members) <= MAX_METRIC_GROUPS:
        return {}
    return {
        f"{name}{group}": fmean(
            [values[i] for i in own], None if weights is None else [weights[i] for i in own]
        )
        for group, own in sorted(members.items())
    }


def by_domain_and_language(
    name: str, rows: Sequence[Grouped], values: Sequence[float], weights: Sequence[float] | None = None
) -> dict[str, float]:
    """Compute `name_<domain>` and `name_language_<language>`."""
    found = mean_by_group(f"{name}_", [row.domain for row in rows], values, weights)
    return found | mean_by_group(f"{name}_language_", [row.language for row in rows], values, weights)
