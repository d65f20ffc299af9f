"""The record of a planted mistake."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One mistake: `old` in `file` (under src/harken) becomes `new`; `tests` must turn red.

    `old` is `qualified name: pattern`, as in `gae: gamma * next_value`; `<module>` is the top level (see planting.py).
    """

    name: str
    file: str
    old: str
    new: str
    tests: str
    """Test files or ids relative to tests/, separated by spaces: the most specific ones, only they run."""
