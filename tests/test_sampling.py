"""No case is lost between `make test` and `make test-nightly`, and a sample is spread over its list."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sampling import chosen

TESTS = Path(__file__).parent
FILE = "evaluation/test_verdict.py"
COLLECT = """
import sys, pytest
for options in ([], ["-m", "nightly"], ["-m", "nightly or not nightly"]):
    print("collected")
    pytest.main(["--collect-only", "-q", *options, sys.argv[1]])
"""
"""In one process: importing torch takes longer than the rest."""


@pytest.mark.parametrize(("n", "cases"), [(1, 1), (1, 7), (3, 7), (7, 7), (9, 7), (240, 1372)])
def test_a_sample_has_its_size_and_is_spread(n: int, cases: int) -> None:
    found = sorted(chosen(n, cases))
    assert len(found) == min(n, cases) and found[0] == 0
    gaps = [b - a for a, b in zip(found, [*found[1:], cases], strict=True)]
    assert max(gaps) - min(gaps) <= 1


def test_each_case_runs_by_day_or_by_night() -> None:
    command = [sys.executable, "-c", COLLECT, str(TESTS / FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS.parent)
    _, *parts = done.stdout.split("collected\n")
    day, night, every = ({line for line in part.splitlines() if "::" in line} for part in parts)
    assert day and night and not day & night
    assert day | night == every
