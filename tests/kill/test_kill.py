"""`make test-kill` in small: a few kills of every kind of work, in the harness's own process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sampling import ALL_CASES

HARNESS = Path(__file__).with_name("harness.py")
POINTS = 8 if ALL_CASES else 3


@pytest.mark.parametrize(
    "kinds",
    [
        ["ppo", "pipeline"],
        pytest.param(["sft", "reward", "evaluation"], marks=pytest.mark.sample(0)),
        pytest.param(["iterated"], marks=pytest.mark.sample(0)),
        pytest.param(["generate", "score", "pairs"], marks=pytest.mark.sample(0)),
        pytest.param(["dpo", "online_dpo"], marks=pytest.mark.sample(0)),
    ],
)
def test_killed_runs_give_the_results_of_unkilled_runs(kinds: list[str]) -> None:
    command = [sys.executable, str(HARNESS), *kinds, "--points", str(POINTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stdout.splitlines()[-1]
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    found = re.match(r"kills (\d+), full disks (\d+), runs compared (\d+), identical (\d+)", last)
    assert found
    kills, full, compared, identical = map(int, found.groups())
    assert kills >= POINTS * len(kinds) and full >= 2 * len(kinds) and compared == identical
