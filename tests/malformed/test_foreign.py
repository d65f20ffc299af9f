"""Every hostile case of code that is not ours, through the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from malformed.case import Case, run
from malformed.foreign_cases import cases, some_cases
from malformed.world import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def test_a_hundred_and_none_twice() -> None:
    """And of every kind one at least is met in every run of the tests."""
    names = [case.name for case in cases()]
    assert len(names) >= 100 and len(set(names)) == len(names)
    assert {name.split(",")[0] for name in names} == {case.name.split(",")[0] for case in some_cases()}


@pytest.mark.nightly
@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_one_line_the_right_code_and_no_hang(case: Case, world: World, tmp_path: Path) -> None:
    assert run(case, world, tmp_path).fault == ""
