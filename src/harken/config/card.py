"""Define the settings of a reward model's report card, and of the gate that a pipeline has before PPO."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harken.config.base import Count, Fraction, Positive, Strict

FaultName = Literal[
    "constant",
    "flipped_labels",
    "saturated",
    "prefers_longer",
    "prefers_shorter",
    "ignores_prompt",
    "exploitable",
    "learnt_judge_bias",
]
BLOCKING: tuple[FaultName, ...] = (
    "constant",
    "flipped_labels",
    "saturated",
    "prefers_longer",
    "ignores_prompt",
)


class CardSettings(Strict):
    """The report card that a reward stage writes when it ends (`harken card` writes a full one)."""

    pairs: Count = 200
    """Held-out pairs that are scored, chosen by the seed; 0: no card."""
    probe_pairs: Count = 24
    """Pairs on which edits, another prompt and the scorer's repeatability are measured."""
    minutes: Positive = 1.0
    """Probe fewer pairs where the probes would take longer than this, judged by the time that the pairs took."""


class GateSettings(Strict):
    """Conditions on the reward model's card for PPO to start."""

    accuracy: Fraction = 0.5
    """Minimum of the lower end of the accuracy's 95 % interval."""
    faults: list[FaultName] = Field(default_factory=lambda: list(BLOCKING))
    """Faults that stop the pipeline (docs/card.md)."""
    data: str | None = None
    """Golden pairs that are scored instead of the held-out ones: a file in any layout."""
