"""No way to end a command gives a traceback, a hang or a wrong exit code. In a process of its own: it forks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("cases.py")


@pytest.mark.parametrize("every", [10, pytest.param(1, marks=pytest.mark.nightly)])
def test_an_end_is_orderly(every: int) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "", str(every)],
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    wrong = [line for line in done.stdout.splitlines() if not line.endswith("as it should")]
    assert done.returncode == 0, "\n".join(wrong) + done.stderr[-2000:]
