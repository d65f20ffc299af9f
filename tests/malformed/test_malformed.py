"""No malformed input ends in a traceback, in a hang, or without a word on what, where and how to fix it."""

from __future__ import annotations

from pathlib import Path

import pytest
from malformed.case import Case, run
from malformed.everything import CASES
from malformed.world import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


def test_there_are_hundreds_and_none_twice() -> None:
    names = [case.name for case in CASES]
    assert len(names) >= 300
    assert len(set(names)) == len(names)


@pytest.mark.sample(150)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_error_is_one_line_with_place_problem_and_fix(case: Case, world: World, tmp_path: Path) -> None:
    assert run(case, world, tmp_path).fault == ""
