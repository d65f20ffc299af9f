"""Summarise finished PPO runs: figures from the end of each run, means over seeds, a table. No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from harken.errors import UserError
from harken.health.findings import STATUSES
from harken.health.monitor import covered_names
from harken.run import json_io, terminal
from harken.run.folder import RunFolder

FIX = "restore the file, or remove the line"
LATE_UPDATES = 3
"""Last updates that reward, KL and truncation are averaged over, because one rollout batch is noisy."""

REWARD, HELD_OUT, KL, TRUNCATED_FRAC, SECONDS = (
    "reward",
    "held_out_reward",
    "kl_per_sequence",
    "truncated_frac",
    "seconds_per_update",
)
JUDGE_PREFIX = "judge_"
_LATE = {REWARD: "reward/mean", KL: "kl/mean", TRUNCATED_FRAC: "response/cap_hit"}
_TITLES = {
    REWARD: "reward",
    HELD_OUT: "held out",
    KL: "KL nats/seq",
    TRUNCATED_FRAC: "truncated %",
    SECONDS: "s/update",
}


@dataclass(frozen=True, slots=True)
class RunSummary:
    """Summarise one run.

    `figures` has the values that were measured: rewards, KL in nats per sequence, `truncated_frac` in [0, 1]. It is
    empty before the first update. `health` is the health status of the last update, `findings` its findings.
    """

    state: str
    why: str
    updates: int
    figures: dict[str, float]
    health: str | None = None
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over runs and its standard error, which is None for a single run."""

    mean: float
    standard_error: float | None
    runs: int


class _Status(json_io.Schema):
    state: str
    stopped_because: str | None
    completed: int


def read_metrics(run: RunFolder) -> list[dict[str, Any]]:
    """Read the lines of metrics.jsonl; [] when there are none yet. An incomplete last line is left out.

    Raises UserError, naming the line, for an invalid line.
    """
    if not run.metrics.exists():
        return []
    lines = json_io.read_lines(run.metrics, FIX)
    for where, line in lines:
        if type(line.get("step")) is not int or not all(_is_metric(*item) for item in line.items()):
            raise UserError("not a line of metrics: a step and numbers", where=where, fix=FIX)
    return [line for _, line in lines]


def _is_metric(name: str, value: object) -> bool:
    if name == "nonfinite":
        return isinstance(value, list)
    if name == "skipped":
        return isinstance(value, str)
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def summarize_run(run: RunFolder) -> RunSummary:
    """Summarise a PPO run, whether it completed all updates or stopped early.

    Reward, KL and truncation are means over the last `LATE_UPDATES`; held-out reward and judges are those of the last
    evaluation; seconds are a mean over all updates. Metrics that were not finite are skipped.
    """
    status = json_io.read_object(run.status, FIX)
    json_io.validate(status, _Status, str(run.status), FIX)
    lines = read_metrics(run)
    figures = {name: _mean(lines[-LATE_UPDATES:], metric) for name, metric in _LATE.items()}
    figures[SECONDS] = _mean(lines, "seconds")
    evaluated: dict[str, Any] = next((line for line in reversed(lines) if "eval/reward_mean" in line), {})
    figures[HELD_OUT] = evaluated.get("eval/reward_mean")
    figures |= {
        k.removeprefix("eval/"): v for k, v in evaluated.items() if k.startswith(f"eval/{JUDGE_PREFIX}")
    }
    last = lines[-1] if lines else {}
    code = last.get("health/status")
    findings = [
        name.removeprefix("health/") for name, level in last.items() if name.startswith("health/") and level
    ]
    hidden = covered_names(findings) | {"status"}
    return RunSummary(
        state=status["state"],
        why=status["stopped_because"] or "",
        updates=status["completed"],
        figures={name: value for name, value in figures.items() if value is not None},
        health=None if code is None else STATUSES[min(max(int(code), 0), len(STATUSES) - 1)],
        findings=tuple(name for name in findings if name not in hidden),
    )


def mean_figures(summaries: Sequence[RunSummary]) -> dict[str, Mean]:
    """Average each figure over the runs that have it. The standard error is the deviation (n − 1) over √n."""
    means = {}
    for name in dict.fromkeys(name for summary in summaries for name in summary.figures):
        values = [summary.figures[name] for summary in summaries if name in summary.figures]
        error = stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        means[name] = Mean(fmean(values), error, len(values))
    return means


def format_run_groups(groups: Sequence[tuple[Mapping[str, str], Sequence[RunSummary]]]) -> str:
    """Format a table with one line per group of runs that differ only in seed: its keys, then mean ± standard error.

    A figure that no run has gets no column. "health" counts the statuses of the last updates.
    """
    averages = [mean_figures(summaries) for _, summaries in groups]
    names = {name for average in averages for name in average}
    judges = sorted(name for name in names if name.startswith(JUDGE_PREFIX))
    cells = {key: [keys[key] for keys, _ in groups] for key in groups[0][0]}
    cells["runs"] = [str(len(summaries)) for _, summaries in groups]
    for name in (REWARD, HELD_OUT, *judges, KL, TRUNCATED_FRAC, SECONDS):
        if name in names:
            title = _TITLES.get(name, name.removeprefix(JUDGE_PREFIX))
            cells[title] = [_cell(name, average.get(name)) for average in averages]
    if any(summary.health for _, summaries in groups for summary in summaries):
        cells["health"] = [_statuses(summaries) for _, summaries in groups]
    return terminal.format_table(cells, width=terminal.columns(), repeat=len(groups[0][0]))


def _mean(lines: Sequence[Mapping[str, Any]], metric: str) -> float | None:
    values = [line[metric] for line in lines if line.get(metric) is not None]
    return fmean(values) if values else None


def _cell(name: str, mean: Mean | None) -> str:
    if mean is None:
        return "–"
    scale, places, sign = {KL: (1, 2, ""), TRUNCATED_FRAC: (100, 0, ""), SECONDS: (1, 1, "")}.get(
        name, (1, 2, "+")
    )
    text = f"{scale * mean.mean:{sign}.{places}f}"
    return text if mean.standard_error is None else f"{text} ± {scale * mean.standard_error:.{places}f}"


def _statuses(summaries: Sequence[RunSummary]) -> str:
    counts = Counter(summary.health for summary in summaries if summary.health is not None)
    statuses = [status for status in STATUSES if counts[status]]
    return statuses[0] if len(statuses) == 1 else ", ".join(f"{counts[s]} {s}" for s in statuses)
