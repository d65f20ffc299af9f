"""Define the settings of `harken demo --quick`, and the next steps to print after the demo."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

QUICK = (
    "stages.sft.data.limit=64",
    "stages.sft.training.max_steps=2",
    "stages.rm.data.limit=64",
    "stages.rm.training.max_steps=2",
    "stages.ppo.training.ppo.updates=1",
    "stages.ppo.training.ppo.prompts_per_update=4",
    "stages.ppo.training.ppo.max_gen_len=16",
    "stages.eval.data.limit=4",
    "stages.eval.max_gen_len=16",
)
"""Overrides of `harken demo --quick`: every stage runs briefly, to test the installation."""


def after_demo(page: Path) -> str:
    """Return the next steps after the demo: put `harken` on the path and use your own data; the page's link is last."""
    steps = []
    if shutil.which("harken") is None:
        steps.append(f". {shlex.quote(str(_activate()))}     # puts `harken` on the PATH of this shell")
    steps += [
        "harken data my_rows.jsonl     # check your own data",
        "harken train --preset smollm2-135m_sft --set data.path=my_rows.jsonl --output-dir outputs/01_sft",
    ]
    lines = [f"{'next' if not i else '':<8} {step}" for i, step in enumerate(steps)]
    return "\n" + "\n".join([*lines, f"{'open':<8} {page.resolve().as_uri()}"])


def _activate() -> Path:
    """Return the activation script of Harken's environment, relative to the working directory if it is inside."""
    script = Path(sys.prefix) / "bin" / "activate"
    return script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script
