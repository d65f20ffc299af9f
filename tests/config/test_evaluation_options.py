"""The names that policies get on the command line."""

from __future__ import annotations

import pytest

from harken.config.evaluation_options import policies_from
from harken.errors import UserError


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/runs/a/final", "/runs/b"], ["a", "b"]),
        (["/one/sft", "/two/sft"], ["one/sft", "two/sft"]),
        (["/sft", "/two/sft"], ["sft", "two/sft"]),
        (["old=/runs/a", "/runs/a"], ["old", "a"]),
        (["/runs/a.jsonl.gz", "/runs/b.csv"], ["a", "b"]),
        (["/runs/ppo/checkpoints/step-000002"], ["ppo/step-000002"]),
    ],
)
def test_a_policy_is_called_by_the_parts_that_distinguish_it(paths: list[str], names: list[str]) -> None:
    assert list(policies_from(paths)) == names


@pytest.mark.parametrize("paths", [["/runs/a", "/runs/a"], ["/runs/a", "/runs/a/final"]])
def test_one_model_twice_needs_names(paths: list[str]) -> None:
    with pytest.raises(UserError, match=r"two policies are called 'runs/a'.*name them: a="):
        policies_from(paths)
