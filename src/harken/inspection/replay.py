"""Run `harken replay`: recompute one recorded update under other settings and compare."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harken.inspection.recompute import as_recorded, recompute, step_tensors, write_replay
from harken.inspection.recorded import read_step
from harken.inspection.replay_report import format_replay
from harken.inspection.replay_settings import replay_config, replay_kl_coef


def replay(root: Path, update: int, overrides: Sequence[str], out: Path | None = None) -> list[str]:
    """Return the lines to print, and write the recomputed credit table to `out`.

    Raises UserError if the run or the update is missing, and for settings that need a model or a new generation.
    """
    step = read_step(root, update)
    config = replay_config(step, overrides)
    tensors = step_tensors(step)
    recorded = as_recorded(step, tensors)
    recomputed = recompute(step, tensors, step.config, recorded.kl_coef)
    after = recompute(step, tensors, config, replay_kl_coef(step, config, overrides))
    lines = format_replay(step, tensors, recorded, recomputed, after)
    if out is not None:
        write_replay(out, step, tensors, after)
        lines.append(f"{out}: the credit of {len(step.rollouts)} responses")
    return lines
