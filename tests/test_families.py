"""Tiny models of many families through every stage, against plain transformers; docs/models.md tells what came out."""

from __future__ import annotations

from pathlib import Path

import pytest
from families import FAMILIES, IN_EVERY_TEST, LIMIT, PAGE, QUANTITIES, run_family

CASES = [
    pytest.param(name, marks=[] if name in IN_EVERY_TEST else [pytest.mark.nightly], id=name)
    for name in FAMILIES
]


def told(name: str) -> list[str]:
    """The cells of a family's line in the page."""
    start = f"| {name} | "
    (line,) = [line for line in PAGE.read_text().splitlines() if line.startswith(start)]
    return line.removeprefix(start).removesuffix(" |").split(" | ")


@pytest.mark.parametrize("name", CASES)
def test_a_family_agrees_with_plain_transformers_or_is_refused_first(name: str, tmp_path: Path) -> None:
    """Old, reference, new and sampler log-probabilities, rewards and greedy tokens; and the page says the same."""
    outcome = run_family(FAMILIES[name], tmp_path)
    assert not outcome.broken, outcome.broken
    if outcome.refused:
        assert outcome.stage == "sft", outcome.refused
        assert told(name) == [outcome.refused]
        return
    assert set(outcome.worst) == set(QUANTITIES)
    assert max(outcome.worst.values()) <= LIMIT, outcome.worst
    *numbers, way = told(name)
    assert way == outcome.way
    assert len(numbers) == len(QUANTITIES)
    assert all(float(number) <= LIMIT for number in numbers)


def test_the_page_tells_of_every_family() -> None:
    assert all(told(name) for name in FAMILIES)
    assert len([name for name in FAMILIES if len(told(name)) > 1]) >= 40
