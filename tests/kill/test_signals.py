"""A signal at any forward loses nothing, and no more than the step under way where checkpoints are rare.

In a process of its own: a fork wants a parent without threads.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sampling import ALL_CASES

SCRIPT = Path(__file__).with_name("signals.py")


def seen(*jobs: str, seconds: int = 600) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *jobs], capture_output=True, text=True, check=False, timeout=seconds
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert len(lines) == len(jobs)
    return lines


def signals(line: str, kind: str) -> int:
    """How many were sent. Raises AssertionError when one of them changed what came out."""
    found = re.fullmatch(rf"{kind}: signals (\d+), identical (\d+)", line)
    assert found and found[1] == found[2], line
    return int(found[1])


def test_a_signal_at_a_forward_or_between_optimiser_steps_loses_nothing() -> None:
    """Twelve steps in three updates of PPO; the first, the second and the third of an update among those tried."""
    strides = (5, 5, 25, 8) if ALL_CASES else (11, 11, 70, 20)
    kinds = ("sft", "reward", "ppo", "evaluation")
    jobs = [f"{kind}:{stride}" for kind, stride in zip(kinds, strides, strict=True)]
    *forwards, steps = seen(*jobs, "ppo-steps:5")
    for line, kind in zip(forwards, kinds, strict=True):
        assert signals(line, kind) > 1
    assert steps == "ppo: signals 3, identical 3"


def test_a_signal_at_a_write_loses_the_step_under_way_at_most() -> None:
    """Between the stages of a pipeline too, and while one of them writes its `final/`."""
    jobs = ("pipeline-writes:200", "sft-writes:31") if ALL_CASES else ("pipeline-writes:300", "sft-writes:60")
    pipeline, sft = seen(*jobs)
    assert signals(pipeline, "pipeline") > 1 and signals(sft, "sft") > 2


@pytest.mark.sample(0)
def test_with_rare_checkpoints_a_signal_loses_the_step_under_way_at_most() -> None:
    assert seen("rare") == ["kept after [0, 1, 2, 3, 4] steps"]


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["sft", "reward", "ppo", "evaluation", "ppo-steps"])
def test_a_signal_at_any_forward_loses_nothing(kind: str) -> None:
    [line] = seen(f"{kind}:1", seconds=3600)
    assert signals(line, kind.removesuffix("-steps")) > 4


@pytest.mark.nightly
@pytest.mark.parametrize(("kind", "every"), [("sft", 3), ("pipeline", 23)])
def test_a_signal_at_any_write_loses_nothing(kind: str, every: int) -> None:
    [line] = seen(f"{kind}-writes:{every}", seconds=3600)
    assert signals(line, kind) > 20
