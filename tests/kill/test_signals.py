"""A signal at any forward loses nothing, and no more than the step under way where checkpoints are rare.

In a process of its own: a fork wants a parent without threads.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("signals.py")


@pytest.mark.parametrize(("kind", "every"), [("sft", 2), ("reward", 2), ("ppo", 9), ("evaluation", 3)])
def test_a_signal_at_any_forward_loses_nothing(kind: str, every: int) -> None:
    said = answer(kind, "--every", str(every))
    found = re.fullmatch(rf"{kind}: signals (\d+), identical (\d+)\n", said)
    assert found and int(found[1]) == int(found[2]) > 4


def test_a_signal_between_the_moves_of_an_update_waits_for_its_end() -> None:
    """Twelve moves in three updates; the first, the second and the third of an update among those tried."""
    assert answer("ppo", "--moves", "--every", "5") == "ppo: signals 3, identical 3\n"


def test_a_step_that_is_interrupted_is_the_only_one_lost() -> None:
    assert answer("--rare") == "kept after [0, 1, 2, 3, 4] steps\n"


def answer(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_a_signal_at_any_write_of_a_pipeline_is_answered_and_loses_nothing() -> None:
    """Between the stages too, and while one of them writes its `final/`."""
    assert answer("pipeline", "--writes", "--every", "150") == "pipeline: signals 4, identical 4\n"


def test_a_signal_while_final_is_written_is_not_forgotten() -> None:
    found = re.fullmatch(r"sft: signals (\d+), identical (\d+)\n", answer("sft", "--writes", "--every", "17"))
    assert found and int(found[1]) == int(found[2]) > 8
