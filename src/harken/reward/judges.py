"""Judges by name: functions of (prompt, answer, stop) that need no training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harken.errors import UserError
from harken.records import Prompt, Stop
from harken.reward.demo_gold import gold

Judge = Callable[[Prompt, str, Stop], float]

JUDGES: dict[str, Judge] = {"demo_gold": gold}


def find_judges(names: Sequence[str]) -> dict[str, Judge]:
    """The judges of these names. Raises UserError for an unknown one."""
    for name in names:
        if name not in JUDGES:
            raise UserError(
                f"unknown judge {name!r}", where="judges", mend=f"choose among {', '.join(sorted(JUDGES))}"
            )
    return {name: JUDGES[name] for name in names}
