"""Compare several training runs in one table: the settings in which they differ, and where each ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from harken.evaluation.run_summary import LATE_UPDATES
from harken.health.findings import STATUSES
from harken.run.folder import RunFolder
from harken.run.manifest import flatten_config, redact

MAX_SETTINGS = 8
"""Settings with a column of their own; further ones are in each run's facts."""
_IGNORED = ("output_dir", "tensorboard", "trackers.", "checkpoints.")

_Metrics = Sequence[Mapping[str, Any]]


def trial_data(
    runs: Mapping[str, RunFolder],
    kinds: Mapping[str, str],
    metrics: Mapping[str, _Metrics],
    info: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any] | None:
    """Return the table of runs that share a kind with another one, as page data; None where no two do."""
    names = [name for name in runs if list(kinds.values()).count(kinds[name]) > 1]
    if not names:
        return None
    settings = _varying({name: info[name]["config"] for name in names})
    figures = {name: _figures(metrics[name]) for name in names}
    measured = [key for key in _FIGURES if any(figures[name].get(key) is not None for name in names)]
    judges = list(dict.fromkeys(key for name in names for key in figures[name] if key not in _FIGURES))
    columns = [
        *({"name": key, "unit": "", "format": "text"} for key in settings),
        {"name": "steps", "unit": "", "format": "text"},
        *({"name": key, "unit": _FIGURES[key][1], "format": _FIGURES[key][2]} for key in measured),
        *({"name": key, "unit": "score", "format": "number"} for key in judges),
        {"name": "health", "unit": "", "format": "text"},
    ]
    return {
        "title": "Runs",
        "caption": f"Rewards, KL and truncation are means of the last {LATE_UPDATES} steps; held-out figures are those "
        "of the last evaluation. Settings that are equal in all runs have no column.",
        "columns": columns,
        "rows": [
            {
                "name": str(info[name].get("title", name)),
                "stage": name,
                "cells": [
                    *(values[name] for values in settings.values()),
                    _steps(info[name].get("status", {}), metrics[name]),
                    *(figures[name].get(key) for key in (*measured, *judges)),
                    _health(metrics[name]),
                ],
            }
            for name in names
        ],
    }


def best_runs(
    runs: Mapping[str, RunFolder], metrics: Mapping[str, _Metrics], count: int
) -> dict[str, RunFolder]:
    """Return the runs that recorded rollouts, at most `count`: those with the highest held-out or training reward."""
    recorded = {name: run for name, run in runs.items() if run.rollouts.is_dir() or run.held_out.is_dir()}

    def reward(name: str) -> tuple[bool, float]:
        found = _figures(metrics[name])
        value = found.get("held-out reward", found.get("reward"))
        return value is not None, value or 0.0

    chosen = set(sorted(recorded, key=reward, reverse=True)[:count])
    return {name: run for name, run in recorded.items() if name in chosen}


def _late(metrics: _Metrics, name: str) -> float | None:
    values = [line[name] for line in metrics[-LATE_UPDATES:] if line.get(name) is not None]
    return fmean(values) if values else None


def _last(metrics: _Metrics, name: str) -> float | None:
    return next((line[name] for line in reversed(metrics) if line.get(name) is not None), None)


def _mean(metrics: _Metrics, name: str) -> float | None:
    values = [line[name] for line in metrics if line.get(name) is not None]
    return fmean(values) if values else None


_FIGURES: dict[str, tuple[Callable[[_Metrics], float | None], str, str]] = {
    "reward": (lambda lines: _late(lines, "reward/mean"), "reward", "number"),
    "held-out reward": (lambda lines: _last(lines, "eval/reward_mean"), "reward", "number"),
    "KL": (lambda lines: _late(lines, "kl/mean"), "nats per sequence", "number"),
    "held-out KL": (lambda lines: _last(lines, "eval/kl/mean"), "nats per sequence", "number"),
    "truncated": (lambda lines: _late(lines, "response/cap_hit"), "", "share"),
    "loss": (lambda lines: _late(lines, "loss"), "nats", "number"),
    "held-out loss": (lambda lines: _last(lines, "eval/loss"), "nats", "number"),
    "accuracy": (lambda lines: _late(lines, "accuracy"), "", "share"),
    "held-out accuracy": (lambda lines: _last(lines, "eval/accuracy"), "", "share"),
    "implicit accuracy": (lambda lines: _last(lines, "eval/rewards/accuracies"), "", "share"),
    "seconds per step": (lambda lines: _mean(lines, "seconds"), "s", "number"),
}
"""Column → what it is of the metrics, its unit and format. Judges follow, each under its name."""


def _figures(metrics: _Metrics) -> dict[str, float | None]:
    found = {name: read(metrics) for name, (read, _, _) in _FIGURES.items()}
    for line in metrics:
        for metric in line:
            if metric.startswith("eval/judge_"):
                found[metric.removeprefix("eval/judge_")] = _last(metrics, metric)
    return found


def _steps(status: Mapping[str, Any], metrics: _Metrics) -> str:
    done, of = status.get("completed", len(metrics)), status.get("requested")
    state = status.get("state", "unknown")
    steps = str(done) if of is None or of == done else f"{done} of {of}"
    return steps if state == "completed" else f"{steps} ({state})"


def _health(metrics: _Metrics) -> str | None:
    code = _last(metrics, "health/status")
    return None if code is None else STATUSES[min(max(int(code), 0), len(STATUSES) - 1)]


def _varying(configs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str]]:
    """Return setting → run → value of the settings in which the runs differ, at most MAX_SETTINGS."""
    flat = {name: flatten_config(redact(config)) for name, config in configs.items()}
    keys = dict.fromkeys(key for own in flat.values() for key in own if not key.startswith(_IGNORED))
    found: dict[str, dict[str, str]] = {}
    for key in keys:
        values = {name: _text(own.get(key)) for name, own in flat.items()}
        if len(set(values.values())) > 1:
            found[key.removeprefix("training.").removeprefix("ppo.")] = values
    return dict(list(found.items())[:MAX_SETTINGS])


def _text(value: Any) -> str:
    return (
        value if isinstance(value, str) else "–" if value is None else json.dumps(value, ensure_ascii=False)
    )
