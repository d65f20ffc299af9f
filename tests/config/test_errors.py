"""A value that fits no member of a union is one problem in words, at the key that the user wrote."""

from __future__ import annotations

from typing import Any

import pytest

from harken.config import files as config_files
from harken.config.base import DataConfig
from harken.errors import UserError


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"positive_label": 0.9},
            "rows: positive_label: expected true or false, a whole number or text, given 0.9",
        ),
        ({"rater_weights": 3}, "rows: rater_weights: expected a section of keys or 'gold', given 3"),
        (
            {"positive_label": 0.9, "columns": 3},
            "expected a section of keys, given 3 (and 1 more problem)",
        ),
        ({"rater_weights": {"anna": "x"}}, "rater_weights.anna: expected a number, given the text"),
        ({"columns": 3}, "rows: columns: expected a section of keys, given 3"),
    ],
)
def test_a_union_of_plain_types_is_one_problem(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError) as error:
        config_files.validate_settings(DataConfig, {"path": "rows.jsonl"} | settings, "rows")
    assert text in str(error.value)
    assert "constrained" not in str(error.value) and "positive_label.bool" not in str(error.value)
