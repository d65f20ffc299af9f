"""Define where a run's metrics go besides metrics.jsonl and TensorBoard."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harken.config.base import Strict


class WandbSettings(Strict):
    """Weights & Biases. Needs the package `wandb`, which is imported only where this section is set."""

    project: str = Field(min_length=1)
    name: str | None = None
    """Default: the name of the run's folder."""
    mode: Literal["offline", "online"] = "offline"
    """offline: everything stays in the run's `wandb/`, and `wandb sync` uploads it when you want. online: metrics and
    settings are sent to the server that you are logged in to."""


class TrackerSettings(Strict):
    """Further copies of the metrics. They change nothing of the run, which goes on when one of them fails."""

    csv: bool = False
    """Write metrics.csv when the run ends or stops: a line per step and a column per metric."""
    wandb: WandbSettings | None = None
