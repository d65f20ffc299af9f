"""Decide whether a reward model is good enough for PPO, from its card and the gate's settings. No torch."""

from __future__ import annotations

from pathlib import Path

from harken.card.faults import Measured, percent
from harken.config.card import GateSettings
from harken.errors import RunFailed
from harken.run import atomic, json_io
from harken.run.folder import RunFolder
from harken.run.terminal import say


def gate_reasons(card: Measured, gate: GateSettings) -> list[str]:
    """Return why the card fails the gate; [] when it passes.

    The lower bound of the accuracy decides, so no reward model passes by chance on few golden pairs.
    """
    reasons = []
    accuracy = card["accuracy"]
    if accuracy is None:
        reasons.append("no pair has a preferred side")
    elif accuracy["low"] < gate.accuracy:
        reasons.append(f"accuracy {percent(accuracy)} reaches below {100 * gate.accuracy:g} %")
    return reasons + [fault["sentence"] for fault in card["faults"] if fault["name"] in gate.faults]


def apply_gate(
    card: Measured, gate: GateSettings, record: Path, *, accept: bool, key: str, waiting: str
) -> None:
    """Raise RunFailed, with every reason in one line, when the card fails the gate and `accept` is not set.

    `key` is the gate's key in the pipeline's file, and `waiting` the stage that has not started.
    `record` gets the decision as JSON: gate, reasons, whether it passed or was accepted. An accepted decision is not
    asked for again.
    """
    reasons = gate_reasons(card, gate)
    decision = {"gate": gate.model_dump(mode="json"), "reasons": reasons, "passed": not reasons}
    recorded = json_io.read_object(record) if record.exists() else {}
    accept = accept or (
        recorded.get("accepted") is True and recorded | {"accepted": False} == decision | {"accepted": False}
    )
    atomic.write_json(record, decision | {"accepted": bool(reasons) and accept})
    if not reasons:
        say("gate: the reward model passes")
        return
    problem = f"the reward model fails its gate: {'; '.join(reasons)}"
    if not accept:
        raise RunFailed(
            f"{problem}. Everything is kept, and stage {waiting} has not started",
            where=str(record.parent),
            fix=f"train a better reward model, change {key}, or continue with --accept-changes",
        )
    say(f"warning: {problem}. Accepted with --accept-changes")


def failed_gate_warning(run: RunFolder) -> str:
    """Return a warning for the report when a stage used the reward model although it failed its gate; else ""."""
    for folder in (run.golden_card, run.card):
        if folder.gate.exists() and (decision := json_io.read_object(folder.gate)).get("accepted"):
            reasons = "; ".join(map(str, decision.get("reasons", [])))
            return f"Warning: the reward model failed its gate, which was accepted: {reasons}."
    return ""
