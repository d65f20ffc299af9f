"""Draw one picture for each benchmark's JSON file.

    python benchmarks/plots.py                            # outputs/bench/*.json → docs/pictures/bench-*.svg

Needs matplotlib: pip install -e '.[bench]'
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

OURS, THEIRS, BAR = "#1f6f8b", "#b9b9b9", "#c0392b"
PHASES = {
    "generate": "#1f6f8b", "score": "#99a8b2", "evaluate": "#e6a23c", "learn": "#7b4b94", "rest": "#d0d0d0",
}  # fmt: skip


def ppo_update(figures: dict[str, Any]) -> Figure:
    """Draw seconds of an update by phase, and peak memory."""
    names = [{"harken": "Harken", "trl": "TRL 1.11.0"}[side] for side in figures]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6), width_ratios=(2, 1))
    starts = [0.0] * len(names)
    for phase, colour in PHASES.items():
        took = [side["phases"].get(phase, 0.0) for side in figures.values()]
        if any(took):
            left.barh(names, took, left=starts, color=colour, label=phase)
            starts = [start + t for start, t in zip(starts, took, strict=True)]
    left.set_xlabel("seconds per update")
    left.legend(ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=8)
    bars(
        right,
        dict(zip(names, (side["peak_bytes"] / 1e9 for side in figures.values()), strict=True)),
        "GB, peak",
    )
    for axes in (left, right):
        axes.invert_yaxis()
    return figure


def supervised(figures: dict[str, Any]) -> Figure:
    """Draw real tokens per second of each side."""
    figure, axes = plt.subplots(1, len(figures), figsize=(9, 2.2), squeeze=False)
    for one, (kind, sides) in zip(axes[0], figures.items(), strict=True):
        bars(one, {name: side["tokens_per_second"] for name, side in sides.items()}, "real tokens per second")
        one.set_title({"sft": "Supervised fine-tuning", "reward": "Reward model"}[kind], fontsize=10)
        one.invert_yaxis()
    return figure


def rollouts(figures: dict[str, Any]) -> Figure:
    """Draw response tokens per second of each engine, without and with an adapter."""
    sampled = figures["sampled"]
    figure, axes = plt.subplots(1, len(sampled), figsize=(9, 1.9), squeeze=False, sharex=True)
    for one, (adapter, engines) in zip(axes[0], sampled.items(), strict=True):
        rates = {name: engine.get("tokens_per_second", 0.0) for name, engine in engines.items()}
        bars(one, rates, "response tokens per second")
        one.set_title(adapter, fontsize=10)
        one.invert_yaxis()
    return figure


def lengths(figures: dict[str, Any]) -> Figure:
    """Draw the cost of a real token of every shape, beside the uniform batch ± 20 %."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.4), width_ratios=(2, 1))
    for one, key, what in zip(axes, ("passes", "sampled"), ("passes", "with generation"), strict=True):
        costs = {line["name"]: line["ms/real token"] for line in figures[key]}
        bars(one, costs, f"ms a real token, {what}")
        first = next(iter(costs.values()))
        one.axvspan(0.8 * first, 1.2 * first, color=BAR, alpha=0.12)
        one.invert_yaxis()
    return figure


def methods(figures: dict[str, Any]) -> Figure:
    """Draw each method's change of reward and gold score against its KL, with 95 % intervals."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), sharex=True)
    titles = {"reward_change": "learned reward minus SFT's", "gold_change": "gold score minus SFT's"}
    for one, (key, title) in zip(axes, titles.items(), strict=True):
        for number, (name, row) in enumerate(figures.items()):
            mean, low, high = row[key]
            marker = "s" if name.startswith("Best of") else "o"
            one.errorbar(
                row["kl"],
                mean,
                [[mean - low], [high - mean]],
                fmt=marker,
                color=f"C{number}",
                capsize=2,
                label=name,
            )
        one.axhline(0, color="#b9b9b9", linewidth=0.8, zorder=0)
        one.set_xlabel("KL to the SFT model, nats per response")
        one.set_title(title, fontsize=10)
    axes[1].legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


DRAW: dict[str, Callable[[dict[str, Any]], Figure]] = {
    "ppo_update": ppo_update, "supervised": supervised, "rollouts": rollouts, "lengths": lengths,
    "methods": methods,
}  # fmt: skip


def bars(axes: Axes, values: dict[str, float], label: str) -> None:
    """Draw one bar for each name with its number; the first name, or Harken's, in the project's colour."""
    ours = "Harken" if "Harken" in values else next(iter(values))
    drawn = axes.barh(
        list(values), list(values.values()), color=[OURS if n == ours else THEIRS for n in values]
    )
    axes.bar_label(drawn, fmt="%.3g", padding=3, fontsize=8)
    axes.margins(x=0.18)
    axes.set_xlabel(label)


def main() -> None:
    """Draw all measured files."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    asked.add_argument("--input-dir", type=Path, default=Path("outputs/bench"))
    asked.add_argument("--output-dir", type=Path, default=Path("docs/pictures"))
    asked.add_argument("--quick", action="store_true", help="both folders are outputs/bench-quick")
    given = asked.parse_args()
    if given.quick:
        given.input_dir = given.output_dir = Path("outputs/bench-quick")
    given.output_dir.mkdir(parents=True, exist_ok=True)
    plt.rcParams |= {
        "svg.hashsalt": "harken", "font.size": 9, "figure.constrained_layout.use": True,
        "axes.spines.top": False, "axes.spines.right": False,
    }  # fmt: skip
    for name, draw in DRAW.items():
        file = given.input_dir / f"{name}.json"
        if not file.exists():
            print(f"{file}: not measured yet")
            continue
        figure = draw(json.loads(file.read_text())["figures"])
        picture = given.output_dir / f"bench-{name.replace('_', '-')}.svg"
        figure.savefig(picture, bbox_inches="tight", metadata={"Date": None})
        print(picture)


if __name__ == "__main__":
    main()
