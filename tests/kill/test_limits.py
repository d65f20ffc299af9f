"""No write that the kernel refuses, whatever language it is made in, is a traceback or leaves half a file.

In a process of its own: a fork wants a parent without threads.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("limits.py")
KINDS = ("sft", "reward", "ppo", "evaluation", "report")


@pytest.mark.parametrize(
    ("kinds", "steps"), [(("ppo", "report"), 3), pytest.param(KINDS, 12, marks=pytest.mark.nightly)]
)
def test_a_file_that_does_not_fit_is_one_line_and_the_next_run_is_whole(
    kinds: tuple[str, ...], steps: int
) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *kinds, "--steps", str(steps)],
        capture_output=True,
        text=True,
        check=False,
        timeout=3600,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    lines = done.stdout.splitlines()
    for line, kind in zip(lines, kinds, strict=True):
        found = re.fullmatch(rf"{kind}: limits (\d+), refused (\d+), identical (\d+)", line)
        assert found, line
        tried, refused, identical = map(int, found.groups())
        assert tried == identical > 1 and refused >= 1
