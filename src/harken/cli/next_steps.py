"""The demo's short form, and what to do next for a person who has just seen the demo end."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

from harken.run.folder import PipelineFolder

QUICK = (
    "sft.data.limit=64",
    "sft.training.max_steps=2",
    "reward.data.limit=64",
    "reward.training.max_steps=2",
    "ppo.training.ppo.updates=1",
    "ppo.training.ppo.prompts_per_update=4",
    "ppo.training.ppo.max_gen_len=16",
    "evaluation.data.limit=4",
    "evaluation.max_gen_len=16",
)
"""`harken demo --quick`: every stage runs, none learns. It shows that the installation works."""


def after_demo(folder: Path) -> str:
    """Return the lines that end the demo: open the page, put `harken` on the path, try it on rows of one's own."""
    steps = [f"open {PipelineFolder(folder).report} in a browser"]
    if shutil.which("harken") is None:
        steps.append(f". {shlex.quote(str(_activate()))}     # puts `harken` on the path of this shell")
    steps += [
        "harken data my_rows.jsonl     # what is in your own rows",
        "harken train --preset smollm2-135m_sft --set data.path=my_rows.jsonl --output-dir outputs/01_sft",
    ]
    return "\n" + "\n".join(f"{'next' if not i else '':<8} {step}" for i, step in enumerate(steps))


def _activate() -> Path:
    """The script that activates the environment Harken runs in, relative where it lies under this folder."""
    script = Path(sys.prefix) / "bin" / "activate"
    return script.relative_to(Path.cwd()) if script.is_relative_to(Path.cwd()) else script
