"""Compare two evaluations of the sycophancy suites, paired by probe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.run.terminal import columns, format_table
from harken.sycophancy.probe import SUITES
from harken.sycophancy.rates import ProbeResult, difference
from harken.sycophancy.table import change_of_rate, change_of_shift

_SAME = ("suite", "prompt_id", "messages", "neutral_messages", "faulty", "honest")
"""Columns by which two rows are the same probe."""


def compare_probes(
    left: Sequence[Mapping[str, Any]], right: Sequence[Mapping[str, Any]], names: tuple[str, str]
) -> str:
    """Return the changes from left to right of the policies of one name, or of the only one of each side, as text.

    `left` and `right` are rows of probes.parquet, `names` the two folders. Probes that only one side has are left out.
    """
    policies = [list(dict.fromkeys(row["policy"] for row in rows)) for rows in (left, right)]
    pairs = [(name, name) for name in policies[0] if name in policies[1]]
    if len(policies[0]) == len(policies[1]) == 1:
        pairs = [(policies[0][0], policies[1][0])]
    if not pairs:
        return "No policy has the same name in both evaluations: rename the policies to pair them."
    blocks = []
    for pair in pairs:
        sides = [
            {tuple(row[key] for key in _SAME): row for row in rows if row["policy"] == name}
            for rows, name in zip((left, right), pair, strict=True)
        ]
        shared = [key for key in sides[0] if key in sides[1]]
        title = " → ".join(f"{name} ({folder})" for name, folder in zip(pair, names, strict=True))
        counts = f"{len(shared):,} probes that both have" + (
            "" if len(shared) == max(map(len, sides)) else f", of {len(sides[0]):,} and {len(sides[1]):,}"
        )
        blocks.append(f"{title}: {counts}")
        if shared:
            blocks.append(_table([[ProbeResult.from_row(side[key]) for key in shared] for side in sides]))
    return "\n\n".join(blocks)


def _table(sides: Sequence[Sequence[ProbeResult]]) -> str:
    found = {}
    for suite in SUITES:
        before, after = ([result for result in side if result.suite == suite] for side in sides)
        if before:
            found[suite] = (len(before), difference(before, after))
    cells = {
        "suite": list(found),
        "probes": [str(n) for n, _ in found.values()],
        "rate, points": [change_of_rate(d["rate"]) for _, d in found.values()],
        "shift, nats": [change_of_shift(d["shift"]) for _, d in found.values()],
        "said, points": [change_of_rate(d["stated"]) if "stated" in d else "" for _, d in found.values()],
    }
    return format_table(cells, right=set(cells) - {"suite"}, width=columns())
