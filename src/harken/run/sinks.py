"""Copy a run's metrics to metrics.csv and to Weights & Biases. metrics.jsonl stays the record that is read back."""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

from harken.config.trackers import TrackerSettings, WandbSettings
from harken.errors import UserError
from harken.run import atomic, bounded_read
from harken.run.folder import RunFolder


@runtime_checkable
class Sink(Protocol):
    """Define what takes metrics. Whatever a method raises ends the sink and not the run."""

    name: str

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Take the finite metrics of one step (counted from 1)."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class CsvSink:
    """Write metrics.jsonl as metrics.csv at the end."""

    name = "metrics.csv"

    def __init__(self, run: RunFolder) -> None:
        self._run = run

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Do nothing: a later step may have further columns."""

    def close(self) -> None:
        """Replace metrics.csv by the lines that metrics.jsonl has now."""
        text = bounded_read.read_text(self._run.metrics, bounded_read.MAX_LINES)
        atomic.write_text(self._run.metrics_csv, metrics_as_csv(text))


class WandbSink:
    """Log to Weights & Biases. A run that resumes goes on in the run that began in the same folder.

    wandb ignores steps that it has already: those between a checkpoint and a kill, which come out the same.
    """

    name = "wandb"

    def __init__(self, settings: WandbSettings, run: RunFolder, config: Mapping[str, Any]) -> None:
        wandb: Any = importlib.import_module("wandb")
        folder = run.root.resolve()
        self._run = wandb.init(
            project=settings.project,
            name=settings.name or folder.name,
            id=hashlib.sha256(str(folder).encode()).hexdigest()[:16],
            resume="allow",
            dir=str(folder),
            mode=settings.mode,
            config=dict(config),
            settings=wandb.Settings(console="off", disable_git=True, save_code=False),
        )

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of one step."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Finish wandb's run."""
        self._run.finish()


def open_sinks(
    settings: TrackerSettings, run: RunFolder, config: Mapping[str, Any]
) -> list[Callable[[], Sink]]:
    """Return what opens each sink that is asked for; `config` is the run's configuration as plain values."""
    found: list[Callable[[], Sink]] = [lambda: CsvSink(run)] if settings.csv else []
    if (wandb := settings.wandb) is not None:
        found.append(lambda: WandbSink(wandb, run, config))
    return found


def require_packages(settings: TrackerSettings) -> None:
    """Raise UserError if wandb is asked for and is not installed."""
    if settings.wandb is None:
        return
    try:
        importlib.import_module("wandb")
    except ImportError as error:
        raise UserError(
            f"wandb cannot be imported ({error})",
            where="trackers.wandb",
            fix="install it (pip install wandb), or set trackers.wandb to null",
        ) from None


def metrics_as_csv(lines: str) -> str:
    """Return the lines of a metrics.jsonl as CSV: a column per metric in the order of their first occurrence.

    A metric that a step does not have, or that was NaN or infinite, is an empty cell; `nonfinite` names the latter.
    """
    rows = [json.loads(line) for line in lines.split("\n") if line]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in columns])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return " ".join(value) if isinstance(value, list) else "" if value is None else value
