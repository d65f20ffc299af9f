"""A plan as lines for a person, and as JSON for a program."""

from __future__ import annotations

import re
from typing import Any

from harken.errors import UserError
from harken.plan.clock import Duration
from harken.plan.fit import ROOM
from harken.plan.phases import Phase
from harken.plan.plan import Plan

UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
SMALL = 0.02
"""A part below this share of its phase is not named."""


def parse_memory(text: str) -> float:
    """Bytes of ``12GB``, ``16 GiB``, ``800MB``. Raises UserError for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]i?B)\s*", text, re.IGNORECASE)
    if not found or float(found[1]) == 0:
        raise UserError(
            f"{text!r} is no memory size", where="--memory", fix="write for example 12GB or 16GiB"
        )
    return float(found[1]) * UNITS[found[2].upper()]


def lines(plan: Plan) -> list[str]:
    """The table, what it takes in time, notes, the verdict."""
    head = f"{plan.config}: {plan.model}, {plan.parameters:,} parameters in {plan.dtype}, {plan.trained:,} trained"
    text = [f"{head}, on {plan.device}", "", f"{'stage':<8}{'phase':<10}{'memory':>9}   what takes it"]
    stage = ""
    for phase in plan.phases:
        mark = "  ← peak" if phase is plan.peak else ""
        named = phase.stage if phase.stage != stage else ""
        text.append(f"{named:<8}{phase.name:<10}{_size(phase.total):>9}   {_parts(phase)}{mark}")
        stage = phase.stage
    if plan.durations:
        text += ["", f"{'stage':<8}{'a step':>9}{'steps':>8}{'in all':>10}   where a step goes"]
        text += [line for d in plan.durations for line in _duration(d)]
    text += [""] if plan.notes else []
    text += [f"note: {note}" for note in plan.notes]
    return [*text, "", verdict(plan)]


def verdict(plan: Plan) -> str:
    """One line: the peak, the time, the money, and what to set."""
    peak = plan.peak
    said = f"peak {_size(peak.total)} ({peak.stage}, {peak.name})"
    if plan.seconds is not None:
        said += f", {_span(plan.seconds)}"
    if plan.cost is not None:
        said += f", {plan.cost:.2f} at {plan.price:g} an hour"
    if plan.memory is None:
        return f"{said}. Will it fit? Add --memory, for example --memory {max(round(1.2 * peak.total / 1e9), 1)}GB"
    room = _size(plan.memory)
    if not plan.fits:
        least = f"{_size(peak.total / ROOM)} would be needed as it is"
        return (
            f"does not fit {room}, whatever the micro-batch and with gradient checkpointing: {least}. "
            "Lower data.max_length, training.ppo.max_gen_len or lora.rank, or take a smaller model"
        )
    return f"fits {room}: {said}, with " + " ".join(f"--set {setting}" for setting in plan.advice)


def to_dict(plan: Plan) -> dict[str, Any]:
    """Everything, in bytes, seconds and the unit of the price."""
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
                "seconds_a_step": d.step,
                "seconds": d.total,
                "seconds_held_out": d.beside,
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
    named = [f"{name} {_size(size)}" for name, size in sizes if size >= SMALL * phase.total]
    return ", ".join(named)


def _duration(duration: Duration) -> list[str]:
    """The steps of a stage and, on a line of its own, what its held-out rows take beside them."""
    shares = sorted(duration.parts.items(), key=lambda part: -part[1])
    where = ", ".join(f"{name} {_span(seconds)}" for name, seconds in shares if seconds > 0)
    steps = "?" if duration.steps is None else f"{duration.steps:,}"
    total = "?" if duration.total is None else _span(duration.total)
    text = [f"{duration.stage:<8}{_span(duration.step):>9}{steps:>8}{total:>10}   {where}"]
    if duration.beside > 0:
        text.append(f"{'':<25}{_span(duration.beside):>10}   of it: held-out evaluation")
    return text


def _size(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.0f} MB"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
