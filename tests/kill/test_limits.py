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


@pytest.mark.parametrize("kind", ["sft", "reward", "ppo", "evaluation", "report"])
def test_a_file_that_does_not_fit_is_one_line_and_the_next_run_is_whole(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), kind, "--steps", "5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = re.fullmatch(rf"{kind}: limits (\d+), refused (\d+), identical (\d+)\n", done.stdout)
    assert found, done.stdout
    tried, refused, identical = map(int, found.groups())
    assert tried == identical > 1 and refused >= 1
