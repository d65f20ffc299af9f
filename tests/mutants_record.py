"""What a planted mistake is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One mistake: `old`, once in `file` (under src/harken), becomes `new`; `tests` must turn red."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    """Test files or ids relative to tests/, separated by spaces: the most specific ones, only they run."""
