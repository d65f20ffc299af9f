"""A measurement of kills goes on where it stopped, and reaches every kind of moment before it repeats one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kill.harness import Whole
from kill.record import Outcome, Record, table_line

HARNESS = Path(__file__).with_name("harness.py")


def test_what_is_recorded_is_read_back_and_other_work_is_not(tmp_path: Path) -> None:
    record = Record(tmp_path / "kills.jsonl")
    assert record.outcomes("dpo", 0) == []
    mine = Outcome("dpo", 0, 3, kills=4, places=("open a", "rename b"))
    for one in (
        mine, Outcome("dpo", 1, 3), Outcome("ppo", 0, 3), Outcome("dpo", 0, 4, code="other code"),
        Outcome("dpo", 0, 3, full=True), mine,
    ):  # fmt: skip
        record.add(one)
    with (tmp_path / "kills.jsonl").open("a") as file:
        file.write('{"kind": "dpo", "se')  # a process that was killed while it wrote
    assert record.outcomes("dpo", 0) == [mine, Outcome("dpo", 0, 3, full=True)]


def test_the_table_adds_up() -> None:
    found = [
        Outcome("dpo", 0, 0, operations=9, moments=3, kills=2, resumed=2, in_recovery=1, places=("a", "b")),
        Outcome("dpo", 0, 1, operations=9, moments=3, kills=1, resumed=1, power_cuts=1, places=("b",), fault="x"),
        Outcome("dpo", 0, 5, full=True, operations=9, moments=3, gave_up=1, resumed=1),
    ]  # fmt: skip
    cells = ["dpo", "9", "2", "3", "1", "1", "2/3", "1", "1", "4", "2", "1"]
    assert table_line("dpo", found).split() == cells
    assert table_line("dpo", []).split()[:2] == ["dpo", "0"]


@pytest.mark.parametrize("count", [1, 20, 37, 74, 100])
def test_chains_are_killed_at_each_kind_of_moment_first_and_then_at_every_operation(count: int) -> None:
    moments = tuple("abcabcde"[i % 8] for i in range(count))
    whole = Whole(moments, 1.0, {})
    kinds = len(set(moments))
    first = [whole.first_kill(chain) for chain in range(kinds + count)]
    assert {moments[at - 1] for at in first[:kinds]} == set(moments)
    assert sorted(first[kinds:]) == list(range(1, count + 1))


@pytest.mark.nightly
def test_a_measurement_goes_on_from_its_record(tmp_path: Path) -> None:
    file = tmp_path / "kills.jsonl"

    def measure(*more: str) -> tuple[int, str, list[str]]:
        command = [sys.executable, str(HARNESS), "pairs", "--record", str(file), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return (
            done.returncode,
            done.stdout.splitlines()[-1],
            file.read_text().splitlines() if file.exists() else [],
        )

    code, last, none = measure("--points", "8", "--minutes", "0")
    assert (code, none) == (3, []) and last.startswith("kills 0,")
    code, last, few = measure("--points", "8")
    assert code == 0 and int(last.split()[1].rstrip(",")) >= 8
    code, last, more = measure("--points", "16")
    assert code == 0 and int(last.split()[1].rstrip(",")) >= 16
    assert more[: len(few)] == few and len(more) > len(few)
    assert measure("--points", "16")[2] == more
    assert len({(one.full, one.number) for one in Record(file).outcomes("pairs", 0)}) == len(more)
