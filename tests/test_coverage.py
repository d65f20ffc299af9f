"""docs/coverage.md names every requirement once, names files and tests that exist, and its counts are right."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")
ASKED = {"S0": 69, "S1": 54, "S2": 94, "S3": 27, "S4": 59}
STATES = ("met", "partly", "open")

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if re.match(r"\| S\d-", line)
]
NAMED = sorted(set(re.findall(r"`([\w./-]+/|[\w./-]+\.(?:py|js|md|yml))(?:::(\w+))?`", TEXT)))
SHOWN = "\n".join(row[4] for row in ROWS)


def place(name: str) -> Path | None:
    """The file or folder a name on the page means."""
    folders = (ROOT, ROOT / "src" / "harken", ROOT / "tests")
    return next((folder / name for folder in folders if (folder / name).exists()), None)


def test_every_number_occurs_exactly_once() -> None:
    wanted = [f"{s}-{n:02}" for s, count in ASKED.items() for n in range(1, count + 1)]
    assert len(wanted) == 303
    assert [row[0] for row in ROWS] == wanted
    assert re.findall(r"S\d-\d\d", TEXT) == wanted


def test_rows_are_whole_and_short() -> None:
    for row in ROWS:
        assert len(row) == 5 and all(row), row
        assert row[2] in STATES, row
        assert len(row[1].split()) <= 12, row


def test_met_rows_name_a_place_and_a_test() -> None:
    for number, _, state, where, shown in ROWS:
        if state == "met":
            assert "`" in where and "`" in shown and "missing:" not in shown, number
        if state == "partly":
            assert "missing:" in shown, number
        if state == "open":
            assert "::" not in shown, number


def test_every_file_and_test_that_is_named_exists() -> None:
    assert len(NAMED) > 100
    for name, test in NAMED:
        found = place(name)
        assert found is not None, name
        if test:
            assert re.search(rf"^def {test}\(", found.read_text(encoding="utf-8"), re.MULTILINE), (name, test)


def test_no_test_is_named_in_a_form_that_escapes_the_check() -> None:
    assert TEXT.count("::") == len(re.findall(r"`[\w./-]+\.py::\w+`", TEXT))


def test_the_counts_in_the_header_are_right() -> None:
    counted: dict[str, Counter[str]] = {name: Counter() for name in (*ASKED, "all")}
    for row in ROWS:
        counted[row[0][:2]][row[2]] += 1
        counted["all"][row[2]] += 1
    for name, counts in counted.items():
        line = [*(counts[state] for state in STATES), sum(counts.values())]
        assert f"| {name} | {' | '.join(map(str, line))} |" in TEXT


def test_every_test_file_that_a_row_names_is_a_file_of_tests() -> None:
    """A test that moved would else be found under another folder, or not at all."""
    files = sorted(set(re.findall(r"([\w./-]*test_\w+\.py)", SHOWN)))
    assert len(files) > 60
    assert [file for file in files if not (ROOT / "tests" / file).is_file()] == []


def test_partly_met_rows_end_with_what_is_missing() -> None:
    for number, _, state, _, shown in ROWS:
        if state == "partly":
            assert shown.count("missing: ") == 1 and "`::" not in shown.split("missing: ")[1], number
