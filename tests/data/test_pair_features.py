"""Counts of the features that a judge may favour."""

from __future__ import annotations

import pytest

from harken.data.pair_features import PAIR_FEATURES

MARKDOWN = """# Plan
Perhaps it works!

## Steps
- **first** thing
* second **thing**
3. third
4) fourth
#no heading, 2 * 3 and a ** b
It might fail. I think so, but I'm not sure!
"""


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("longer", len(MARKDOWN)),
        ("more_list_items", 4),
        ("more_bold", 2),
        ("more_headings", 2),
        ("more_hedges", 4),
        ("more_exclamation_marks", 2),
    ],
)
def test_each_feature_is_counted(name: str, count: int) -> None:
    assert PAIR_FEATURES[name][1](MARKDOWN) == count


@pytest.mark.parametrize(
    "text", ["", "Plain words, -5 and 3.5 of __init__ * 2.", "May is a month.", "日本語。"]
)
def test_plain_text_has_no_style(text: str) -> None:
    assert [count(text) for name, (_, count) in PAIR_FEATURES.items() if name != "longer"] == [0] * 5
