"""Say whether a PPO run over-optimised its reward: reward and judges against KL, beside best of n. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harken.maths.statistics.overoptimisation import Divergence, GaoFit, find_divergence, fit_gao
from harken.run import json_io
from harken.run.terminal import columns, format_table

_FIX = "delete the folder best_of_n of the run, and run `harken frontier` again"
JUDGE_METRIC, CHANGE_METRIC, ERROR_METRIC = "eval/judge_", "eval/change_", "eval/change_error_"


class _Mean(json_io.Schema):
    value: float
    low: float | None
    high: float | None


class _Point(json_io.Schema):
    n: int
    kl: float
    reward: _Mean


class _Curve(json_io.Schema):
    points: list[_Point]


@dataclass(frozen=True, slots=True)
class CheckpointPoint:
    """A held-out evaluation: the update, KL in nats per sequence, mean reward, and each judge's mean.

    `changes` are each judge's paired changes since before training, `errors` their standard errors.
    """

    step: int
    kl: float
    reward: float
    judges: Mapping[str, float]
    changes: Mapping[str, float]
    errors: Mapping[str, float]


def checkpoint_points(metrics: Sequence[Mapping[str, Any]]) -> list[CheckpointPoint]:
    """Return the held-out evaluations of a PPO run from its metrics, in order.

    The KL is that of the update's training prompts: it was measured before the update, so it lags by one.
    """
    points = []
    for line in metrics:
        if line.get("eval/reward_mean") is None:
            continue
        kl = line.get("kl/mean")
        judges = {
            name.removeprefix(JUDGE_METRIC): float(value)
            for name, value in line.items()
            if name.startswith(JUDGE_METRIC) and value is not None
        }
        changes = {name: float(line.get(CHANGE_METRIC + name) or 0.0) for name in judges}
        errors = {name: float(line.get(ERROR_METRIC + name) or 0.0) for name in judges}
        reward = float(line["eval/reward_mean"])
        points.append(CheckpointPoint(int(line["step"]), float(kl or 0.0), reward, judges, changes, errors))
    return points


def read_best_of_n(path: Path) -> list[dict[str, Any]]:
    """Read the points of best_of_n/curve.json; [] where there is no file. Raises UserError for invalid contents."""
    if not path.is_file():
        return []
    content = json_io.read_object(path, _FIX)
    json_io.validate(content, _Curve, str(path), _FIX)
    points: list[dict[str, Any]] = content["points"]
    for index, point in enumerate(points):
        for name in _judges_of([point]):
            json_io.validate(point[name], _Mean, f"{path}: points.{index}.{name}", _FIX)
    return points


def sentences(points: Sequence[CheckpointPoint], best_of_n: Sequence[Mapping[str, Any]] = ()) -> list[str]:
    """Return sentences: where the reward rose while a judge fell, and whether PPO is above best of n at equal KL."""
    lines = []
    for judge in points[-1].judges if points else ():
        if (divergence := _divergence(points, judge)) is not None:
            lines.append(_divergence_sentence(points, judge, divergence))
    for name in ("reward", *(points[-1].judges if points else ())):
        if (line := _beside_best_of_n(points, best_of_n, name)) is not None:
            lines.append(line)
    for judge in points[-1].judges if points else ():
        fit = fit_judge(points, judge)
        if fit is not None and fit.peak is not None and fit.peak_interval and fit.peak_interval[1] < math.inf:
            low, high = (distance**2 for distance in fit.peak_interval)
            lines.append(
                f"Note: A curve d (α − β log d) through {judge} is highest at KL {fit.peak**2:.1f} nats per sequence "
                f"(95 % interval {low:.1f} to {high:.1f}, too narrow: checkpoints of one run are not independent)."
            )
    return lines


def fit_judge(points: Sequence[CheckpointPoint], judge: str) -> GaoFit | None:
    """Fit the judge's paired change since before training against √KL; None for too few evaluations."""
    judged = [point for point in points if judge in point.judges]
    return fit_gao([p.kl for p in judged], [p.changes[judge] for p in judged], "rl")


def frontier_table(
    points: Sequence[CheckpointPoint], best_of_n: Sequence[Mapping[str, Any]] = (), width: int | None = None
) -> str:
    """Return both curves as a table by KL."""
    width = columns() if width is None else width
    judges = list(points[-1].judges) if points else [n.removeprefix("judge_") for n in _judges_of(best_of_n)]
    rows = [
        (
            p.kl,
            f"update {p.step}",
            f"{p.reward:+.3f}",
            [f"{p.judges[j]:.3f}" if j in p.judges else "–" for j in judges],
        )
        for p in points
    ]
    for point in best_of_n:
        scores = [f"{point[f'judge_{j}']['value']:.3f}" if f"judge_{j}" in point else "–" for j in judges]
        rows.append((point["kl"], f"best of {point['n']}", f"{point['reward']['value']:+.3f}", scores))
    rows.sort(key=lambda row: row[0])
    cells = {
        "policy": [row[1] for row in rows],
        "KL": [f"{row[0]:.2f}" for row in rows],
        "reward": [row[2] for row in rows],
        **{judge: [row[3][i] for row in rows] for i, judge in enumerate(judges)},
    }
    return format_table(cells, width=width) if rows else ""


def charts(points: Sequence[CheckpointPoint], best_of_n: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the charts of reward and judges against KL as page data, [] without a held-out evaluation."""
    if not points:
        return []
    chart_list = [
        _chart(
            "Held-out reward against KL",
            "What PPO maximises, on held-out prompts. Best of n needs no training, only samples of the starting "
            "policy: PPO is worth its cost where it is above that line at equal KL.",
            [[p.kl, p.reward] for p in points],
            [[p["kl"], p["reward"]["value"]] for p in best_of_n],
        )
    ]
    for judge in points[-1].judges:
        chart_list.append(
            _chart(
                f"Judge {judge} against KL",
                "PPO does not learn from it. Where it falls while the reward rises, the reward is over-optimised.",
                [[p.kl, p.judges[judge]] for p in points if judge in p.judges],
                [[p["kl"], p[f"judge_{judge}"]["value"]] for p in best_of_n if f"judge_{judge}" in p],
            )
        )
    return chart_list


def _chart(
    title: str, caption: str, ppo: Sequence[Sequence[float]], best_of_n: Sequence[Sequence[float]]
) -> dict[str, Any]:
    series = [{"label": "PPO", "metric": "ppo", "points": sorted(map(list, ppo))}]
    if best_of_n:
        series.append({"label": "best of n", "metric": "best_of_n", "points": sorted(map(list, best_of_n))})
    return {
        "title": title,
        "unit": "by KL, nats per sequence",
        "caption": caption,
        "format": "number",
        "scale": "root",
        "marks": [],
        "series": series,
    }


def _divergence(points: Sequence[CheckpointPoint], judge: str) -> Divergence | None:
    judged = [point for point in points if judge in point.judges]
    return find_divergence(
        [p.reward for p in judged], [p.judges[judge] for p in judged], [p.errors[judge] for p in judged]
    )


def _divergence_sentence(points: Sequence[CheckpointPoint], judge: str, divergence: Divergence) -> str:
    judged = [point for point in points if judge in point.judges]
    start, end = judged[divergence.start], judged[divergence.end]
    return (
        f"Warning: Over-optimised: from update {start.step} to update {end.step} the held-out reward rose from "
        f"{start.reward:+.2f} to {end.reward:+.2f} while {judge} fell from {start.judges[judge]:.2f} to "
        f"{end.judges[judge]:.2f} ({divergence.judge_change:+.2f} ± {divergence.error:.2f}), at KL {start.kl:.1f} and "
        f"{end.kl:.1f} nats per sequence."
    )


def _beside_best_of_n(
    points: Sequence[CheckpointPoint], best_of_n: Sequence[Mapping[str, Any]], name: str
) -> str | None:
    """Compare the last checkpoint within the KL that best of n reaches with best of n at that KL."""
    key = name if name == "reward" else f"judge_{name}"
    curve = [point for point in best_of_n if key in point and point[key]["low"] is not None]
    measured = [p for p in points if name == "reward" or name in p.judges]
    if len(curve) < 2 or not measured:
        return None
    max_kl = curve[-1]["kl"]
    comparable = [p for p in measured if 0 < p.kl <= max_kl]
    if not comparable:
        return (
            f"Note: Best of {curve[-1]['n']} reaches KL {max_kl:.2f} nats per sequence; every evaluated checkpoint is "
            f"further, so PPO and best of n cannot be compared by {name} at equal KL."
        )
    last = comparable[-1]
    score = last.reward if name == "reward" else last.judges[name]
    value, low, high = (
        float(np.interp(last.kl, [p["kl"] for p in curve], [p[key][part] for p in curve]))
        for part in ("value", "low", "high")
    )
    word = "above" if score > high else "below" if score < low else "not distinguishable from"
    return (
        f"Note: At update {last.step} (KL {last.kl:.2f}) PPO's {name} {score:+.3f} is {word} best of n at equal KL: "
        f"{value:+.3f} (95 % interval {low:+.3f} to {high:+.3f})."
    )


def _judges_of(best_of_n: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in best_of_n[0] if name.startswith("judge_")] if best_of_n else []
