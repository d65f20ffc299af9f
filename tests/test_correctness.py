"""docs/correctness.md tells of all 38 properties once each, and of tests and planted mistakes that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mutants import MUTANTS, misfit
from mutants_properties import PROPERTIES, TESTS

TESTS_FOLDER = Path(__file__).parent
DOCUMENT = (TESTS_FOLDER.parent / "docs" / "correctness.md").read_text(encoding="utf-8")
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


def rows() -> dict[int, list[str]]:
    """The cells of each property's row: property, formula, source, test, planted mistakes."""
    found = {}
    for line in DOCUMENT.splitlines():
        # An escaped bar stands in a formula and ends no cell.
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)][1:-1]
        if cells and cells[0].isdigit():
            assert int(cells[0]) not in found, f"property {cells[0]} has two rows"
            found[int(cells[0])] = cells[1:]
    return found


def mistakes(number: int) -> list[str]:
    """The planted mistakes of a row, by their full names: its own first carry the number of the property."""
    own = f"property {number:02d}: "
    named = re.findall(r"`([^`]+)`", rows()[number][4])
    return [own + name if own + name in BY_NAME else name for name in named]


def test_there_are_38_rows_and_38_tests() -> None:
    assert list(rows()) == sorted(TESTS) == list(range(1, 39))
    for number, cells in rows().items():
        assert len(cells) == 5
        assert cells[3] == f"`{TESTS[number]}`"


def test_only_the_38_tests_match_the_keyword() -> None:
    """So `pytest -k property` lists the 38 and nothing else."""
    for path in TESTS_FOLDER.rglob("test_*.py"):
        assert "property" not in path.relative_to(TESTS_FOLDER).as_posix()
        for name in re.findall(
            r"^\s*(?:def|class) (test\w*property\w*)", path.read_text(), re.MULTILINE | re.I
        ):
            assert re.fullmatch(r"test_property_\d\d_\w+", name), f"{path}: {name}"


@pytest.mark.parametrize("number", range(1, 39))
def test_planted_mistakes_exist(number: int) -> None:
    names = mistakes(number)
    assert names, f"row {number} names no planted mistake"
    assert len(set(names)) == len(names)
    for name in names:
        assert name in BY_NAME, f"row {number}: no planted mistake is called {name!r}"


def test_every_mistake_of_the_properties_is_listed() -> None:
    reported = {name for number in rows() for name in mistakes(number)}
    assert {mutant.name for mutant in PROPERTIES} <= reported
    assert len(PROPERTIES) >= 38


def test_the_comparison_with_trl_names_tests_that_exist() -> None:
    source = (TESTS_FOLDER / "test_against_trl.py").read_text()
    written = set(re.findall(r"^def (test_\w+)", source, re.MULTILINE))
    named = set(re.findall(r"`test_against_trl\.py::(test_\w+)`", DOCUMENT))
    assert named == written


def test_paths_exist() -> None:
    for link in re.findall(r"\]\(([^)]+)\)", DOCUMENT):
        assert (TESTS_FOLDER.parent / "docs" / link).is_file(), link
    for path in re.findall(r"`((?:tests/|end_to_end/)[\w/]+\.py)`", DOCUMENT):
        assert (TESTS_FOLDER / path.removeprefix("tests/")).is_file(), path


@pytest.mark.nightly
def test_every_planted_mistake_fits_the_source() -> None:
    """Code that moves on leaves mistakes behind that nobody plants any more (`make mutants` checks it first)."""
    assert [reported for mutant in MUTANTS if (reported := misfit(mutant)) is not None] == []
