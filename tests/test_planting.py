"""Planted mistakes are found by syntax: renamed locals and new layout change nothing, what no longer fits is said."""

from __future__ import annotations

import ast

import pytest
from planting import DoesNotFit, change

SOURCE = '''
import math

LIMIT = 4

class Loop:
    step: int = 1

    def run(self, rows, price):
        """Run."""
        total = 0
        for row in rows:  # every row
            total += row * price
        if total > LIMIT:
            # said aloud
            total = math.floor(total)
        return max(total, 0)

def other(rows, price):
    return rows * price
'''


def changed(where: str, old: str, new: str, source: str = SOURCE) -> str:
    return ast.unparse(ast.parse(change(source, where, old, new)))


@pytest.mark.parametrize(
    ("where", "old", "new", "there"),
    [
        ("Loop.run", "row * price", "row", "total += row\n"),
        ("Loop.run", "total += row * price", "pass", "for row in rows:\n            pass"),
        (
            "Loop.run",
            "if total > LIMIT: ...",
            "if True: ...",
            "if True:\n            total = math.floor(total)",
        ),
        ("Loop.run", "for row in rows: ...", "for row in rows[1:]: ...", "for row in rows[1:]:"),
        ("Loop.run", "max(total, 0)", "total", "return total\n"),
        ("Loop", "step: int = 1", "step: int = 2", "step: int = 2"),
        ("<module>", "LIMIT = 4", "LIMIT = 5", "LIMIT = 5"),
        ("other", "rows * price", "rows", "def other(rows, price):\n    return rows"),
    ],
)
def test_a_place_is_changed_and_nothing_else(where: str, old: str, new: str, there: str) -> None:
    result = changed(where, old, new)
    assert there in result
    before, after = ast.unparse(ast.parse(SOURCE)).splitlines(), result.splitlines()
    assert len(set(before) ^ set(after)) <= 3


def test_a_renamed_local_still_fits_and_the_mistake_takes_its_name() -> None:
    renamed = SOURCE.replace("kl_penalty", "kl_penalty").replace("total", "whole")
    assert "whole += row\n" in changed("Loop.run", "row * price", "row", renamed)
    assert "return whole + 1" in changed("Loop.run", "max(total, 0)", "total + 1", renamed)


def test_comments_and_layout_do_not_matter() -> None:
    spread = SOURCE.replace("max(total, 0)", "max(\n            total,  # so far\n            0,\n        )")
    assert "return total\n" in changed("Loop.run", "max(total, 0)", "total", spread)


@pytest.mark.parametrize(
    ("where", "old", "new", "message"),
    [
        ("Loop.walk", "row", "0", "there is no Loop.walk"),
        ("Loop.run", "row + price", "0", "does not hold"),
        ("Loop.run", "math.ceil(total)", "0", "does not hold"),  # not a local name: it is what it is called
        ("Loop.run", "total", "0", "times"),
        ("Loop.run", "row * price", "row * nobody", "does not know"),
    ],
)
def test_patterns_that_no_longer_match_are_reported(where: str, old: str, new: str, message: str) -> None:
    with pytest.raises(DoesNotFit, match=message):
        change(SOURCE, where, old, new)


def test_one_pattern_name_cannot_match_two_names() -> None:
    """`a - a` is no match for `row - price`, and two names of a pattern are two names of the source."""
    source = "def f(x, y):\n    return x - y\n"
    with pytest.raises(DoesNotFit):
        change(source, "f", "a - a", "0")
    assert "return y - x" in changed("f", "a - b", "b - a", source)
