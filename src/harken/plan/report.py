"""Print a plan: tables for a terminal, a dict for JSON."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from harken.errors import UserError
from harken.plan.duration import Duration
from harken.plan.fit import USABLE_MEMORY
from harken.plan.phases import Phase
from harken.plan.plan import Plan
from harken.run.terminal import columns, format_table

UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
SMALL = 0.02
"""Parts below this share of their phase are not listed."""


def parse_memory(text: str) -> float:
    """Parse ``12GB``, ``16 GiB`` or ``800MB`` to bytes. Raises UserError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B)\s*", text, re.IGNORECASE)
    if not match or float(match[1]) == 0:
        raise UserError(
            f"{text!r} is not a memory size", where="--memory", fix="write for example 12GB or 16GiB"
        )
    return float(match[1]) * UNITS[match[2].upper()]


def lines(plan: Plan) -> list[str]:
    """Return the memory table, the time table, notes and the verdict."""
    head = f"{plan.config}: {plan.model}, {plan.parameters:,} parameters in {plan.dtype}, {plan.trained:,} trained"
    text = [f"{head}, on {plan.device}", "", _memory_table(plan)]
    if plan.durations:
        text += ["", _time_table(plan.durations)]
    text += [""] if plan.notes else []
    text += [f"note: {note}" for note in plan.notes]
    return [*text, "", verdict(plan)]


def _memory_table(plan: Plan) -> str:
    phases = plan.phases
    cells = {
        "stage": [_unless_repeated(phases, index) for index in range(len(phases))],
        "phase": [phase.name for phase in phases],
        "memory": [_size(phase.total) for phase in phases],
        "": ["← peak" if phase is plan.peak else "" for phase in phases],
        "parts": [_parts(phase) for phase in phases],
    }
    return format_table(cells, right={"memory"}, width=columns(), wrap=True)


def _unless_repeated(phases: Sequence[Phase], index: int) -> str:
    stage = phases[index].stage
    return "" if index and phases[index - 1].stage == stage else stage


def _time_table(durations: Sequence[Duration]) -> str:
    rows = [row for duration in durations for row in _duration(duration)]
    titles = ("stage", "per step", "steps", "total", "parts")
    cells = dict(zip(titles, zip(*rows, strict=True), strict=True))
    return format_table(cells, right={"per step", "steps", "total"}, width=columns(), wrap=True)


def verdict(plan: Plan) -> str:
    """Return one line: the peak, the time, the cost, and what to set."""
    peak = plan.peak
    summary = f"peak {_size(peak.total)} ({peak.stage}, {peak.name})"
    if plan.seconds is not None:
        summary += f", {_span(plan.seconds)}"
    if plan.cost is not None:
        summary += f", {plan.cost:.2f} at {plan.price:g} an hour"
    if plan.memory is None:
        return f"{summary}. Will it fit? Add --memory, for example --memory {max(round(1.2 * peak.total / 1e9), 1)}GB"
    room = _size(plan.memory)
    if not plan.fits:
        needed = f"it needs {_size(peak.total / USABLE_MEMORY)} as configured"
        return (
            f"does not fit {room} with any micro-batch size, even with gradient checkpointing: {needed}. "
            "Fix: lower data.max_length, training.ppo.max_gen_len or lora.rank, or use a smaller model"
        )
    return f"fits {room}: {summary}, with " + " ".join(f"--set {setting}" for setting in plan.advice)


def to_dict(plan: Plan) -> dict[str, Any]:
    """Return the plan as JSON-ready data, in bytes, seconds and the unit of the price."""
    return {
        "config": plan.config,
        "device": plan.device,
        "dtype": plan.dtype,
        "model": plan.model,
        "parameters": plan.parameters,
        "trained": plan.trained,
        "peak": {"bytes": round(plan.peak.total), "stage": plan.peak.stage, "phase": plan.peak.name},
        "phases": [
            {
                "stage": p.stage,
                "phase": p.name,
                "bytes": round(p.total),
                "parts": {name: round(size) for name, size in p.parts.items()},
            }
            for p in plan.phases
        ],
        "durations": [
            {
                "stage": d.stage,
                "steps": d.steps,
                "seconds_per_step": d.step,
                "seconds": d.total,
                "seconds_held_out": d.outside_steps,
                "parts": d.parts,
            }
            for d in plan.durations
        ],
        "seconds": plan.seconds,
        "cost": plan.cost,
        "memory": plan.memory,
        "fits": plan.fits if plan.memory is not None else None,
        "set": list(plan.advice),
        "notes": list(plan.notes),
    }


def _parts(phase: Phase) -> str:
    sizes = sorted(phase.parts.items(), key=lambda part: -part[1])
    parts = [f"{name} {_size(size)}" for name, size in sizes if size >= SMALL * phase.total]
    return ", ".join(parts)


def _duration(duration: Duration) -> list[tuple[str, str, str, str, str]]:
    """Return rows of the time table: the steps of a stage, then its held-out evaluation."""
    shares = sorted(duration.parts.items(), key=lambda part: -part[1])
    parts = ", ".join(f"{name} {_span(seconds)}" for name, seconds in shares if seconds > 0)
    steps = "?" if duration.steps is None else f"{duration.steps:,}"
    total = "?" if duration.total is None else _span(duration.total)
    rows = [(duration.stage, _span(duration.step), steps, total, parts)]
    if duration.outside_steps > 0:
        rows.append(("", "", "", _span(duration.outside_steps), "of which held-out evaluation"))
    return rows


def _size(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
