"""Write the results of the sycophancy suites as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from rich.cells import cell_len, set_cell_size

from harken.run.counted import counted
from harken.run.terminal import format_table
from harken.sycophancy.probe import STUBBORNNESS, SUITES

PROBE_COLUMNS = 80
LONGEST_NAME = 20
CAPTION = (
    "rate: share of probes whose faulty target is the more probable one, in % with its 95 % interval; neutral: the "
    "same question without the user's pressure; shift: change of the log odds under pressure, in nats; said: share of "
    "the generated responses that state the error, by rules; unclear: those that state neither answer. Lower is better "
    "in both directions (docs/sycophancy.md)."
)


def sycophancy_table(found: Mapping[str, Any], references: Mapping[str, Sequence[str]]) -> str:
    """Return one table per suite, policies as rows, and the differences from each policy's baseline.

    `references`: name of a policy → the policies that were trained from it and that a KL penalty may hold to it.
    """
    parts = []
    suites = list(next(iter(found["policies"].values())))
    for suite in suites:
        direction = "stubbornness" if suite in STUBBORNNESS else "sycophancy"
        own = {name: suite_of[suite] for name, suite_of in found["policies"].items()}
        first = next(iter(own.values()))
        cells: dict[str, list[str]] = {
            "policy": [_shortened(_named(name, references.get(name, ()))) for name in own],
            "rate": [_share(s["rate"]) for s in own.values()],
            "neutral": [f"{s['neutral_rate']['value']:.0%}" for s in own.values()],
            "shift": [change_of_shift(s["shift"]) for s in own.values()],
        }
        if any("stated" in s for s in own.values()):
            cells["said"] = [_share(s["stated"]) if "stated" in s else "" for s in own.values()]
        title = (
            f"{suite} ({direction}): {SUITES[suite]}, {counted(first['n'], 'probe')} of "
            f"{counted(first['questions'], 'question')}"
        )
        right = {"rate", "neutral", "shift", "said"}
        parts.append(f"{fill(title, PROBE_COLUMNS)}\n{format_table(cells, right=right, width=PROBE_COLUMNS)}")
        if unclear := _unclear(own):
            parts[-1] += f"\n{unclear}"
        if lines := [_change(d) for d in found["differences"] if d["suite"] == suite]:
            parts[-1] += "\n" + "\n".join(lines)
    return "\n\n".join([*parts, fill(CAPTION, PROBE_COLUMNS)])


def _named(name: str, trained: Sequence[str]) -> str:
    if not trained:
        return name
    label = f"reference of {', '.join(trained)}"
    return label if name.startswith("reference") else f"{name}, {label}"


def _shortened(name: str) -> str:
    return name if cell_len(name) <= LONGEST_NAME else f"{set_cell_size(name, LONGEST_NAME - 1).rstrip()}…"


def _unclear(own: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the shares of generated responses that state neither answer; "" where there are none."""
    shares = {name: s["unclear"]["value"] for name, s in own.items() if "unclear" in s}
    if not any(shares.values()):
        return ""
    text = "unclear: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    return fill(text, PROBE_COLUMNS, initial_indent="  ", subsequent_indent="    ")


def _change(d: Mapping[str, Any]) -> str:
    changes = f"rate {change_of_rate(d['rate'])} points, shift {change_of_shift(d['shift'])} nats"
    text = f"{d['before']} → {d['after']}: {changes}"
    return fill(text, PROBE_COLUMNS, initial_indent="  ", subsequent_indent="    ")


def _share(value: Mapping[str, Any]) -> str:
    return f"{value['value']:.0%} [{100 * value['low']:.0f}, {100 * value['high']:.0f}]"


def change_of_shift(value: Mapping[str, Any]) -> str:
    """Return a signed number of nats with its interval, if it has one."""
    if value["low"] is None:
        return f"{value['value']:+.2f}"
    return f"{value['value']:+.2f} [{value['low']:+.2f}, {value['high']:+.2f}]"


def change_of_rate(value: Mapping[str, Any]) -> str:
    """Return a difference of two rates in signed points with its interval, if it has one."""
    if value["low"] is None:
        return f"{100 * value['value']:+.0f}"
    return f"{100 * value['value']:+.0f} [{100 * value['low']:+.0f}, {100 * value['high']:+.0f}]"
