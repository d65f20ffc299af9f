"""One way a command ends, and the output it must have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """A command and how it has to end. `{dir}` in words and texts is the case's folder, `{world}` what all share."""

    name: str
    words: str
    code: int
    says: str = ""
    before: Callable[[Path], object] | None = None
    """Run in the child, before the command."""
    signals: tuple[int, ...] = ()
    at: str = ""
    """What the output holds when the signals are sent."""
    then: Callable[[Path], bool] | None = None
    """What has to be true of the folder afterwards."""
    again: bool = False
    """Whether the same command, given again, has to come to its end."""


SFT = "train --preset {dir}/sft.yml --output-dir {dir}/out"
LONG = SFT + " --set training.max_steps=null --set training.epochs=99"


def owned(folder: Path) -> bool:
    return (folder / "out" / ".writer.json").exists()
