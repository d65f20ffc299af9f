"""A number and its noun."""

from __future__ import annotations

import pytest

from harken.run.counted import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "row", "0 rows"), (1, "row", "1 row"), (2, "row", "2 rows"), (1234, "row", "1,234 rows"),
        (1, "policy", "1 policy"), (2, "policy", "2 policies"), (2, "training row", "2 training rows"),
        (2, "survey", "2 surveys"),
    ],
)  # fmt: skip
def test_a_number_and_its_noun_agree(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
