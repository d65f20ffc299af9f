"""No way to end a command gives a traceback, a hang or a wrong exit code. In a process of its own: it forks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("cases.py")


def test_every_end_is_orderly() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False, timeout=600
    )
    wrong = [line for line in done.stdout.splitlines() if not line.endswith("as it should")]
    assert done.returncode == 0, "\n".join(wrong) + done.stderr[-2000:]
