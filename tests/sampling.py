"""Which cases of a long test `make test` runs; `make test-nightly` runs the others.

`@pytest.mark.sample(n)` leaves n cases of a parametrised test to `make test`, spread evenly over its list; 0 leaves
none. With HARKEN_ALL_CASES=1 every case runs, as it does when mistakes are planted (mutants.py).
"""

from __future__ import annotations

import os
from collections import defaultdict

import pytest

ALL_CASES = bool(os.environ.get("HARKEN_ALL_CASES"))


def chosen(n: int, cases: int) -> set[int]:
    """Return the indices of n of so many cases, spread evenly; of all when there are no more than n."""
    return set(range(cases)) if n >= cases else {i * cases // n for i in range(n)}


def leave_for_the_night(items: list[pytest.Item]) -> None:
    """Mark the cases that `make test` leaves out as nightly."""
    if ALL_CASES:
        return
    groups: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sample") is not None:
            groups[item.nodeid.partition("[")[0]].append(item)
    for cases in groups.values():
        mark = cases[0].get_closest_marker("sample")
        assert mark is not None
        kept = chosen(mark.args[0], len(cases))
        for number, item in enumerate(cases):
            if number not in kept:
                item.add_marker(pytest.mark.nightly)
