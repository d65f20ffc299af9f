"""Build the page's training stages: state, health, charts, the reward model's card, data and facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.explorer.charts import chart_data
from harken.explorer.page_card import card_data
from harken.explorer.page_health import health_data
from harken.run.manifest import redact

TITLES = {
    "sft": "Supervised fine-tuning",
    "reward": "Reward model",
    "classifier": "Classifier of responses",
    "dpo": "Preference optimisation (DPO)",
    "online_dpo": "Online DPO",
    "ppo": "PPO",
}
_NOT_FACTS = ("title", "data", "charts", "card", "status", "run")


def stage_data(
    name: str, metrics: Sequence[Mapping[str, Any]], info: Mapping[str, Any], max_points: int | None = None
) -> dict[str, Any]:
    """Return one stage. `info` as in `build.build_report`; `max_points` bounds the points of a series further."""
    config = info.get("config", {})
    kind = config.get("training", {}).get("type", name)
    stage = {
        "name": name,
        "title": info.get("title") or TITLES.get(kind, name),
        "kind": kind,
        "steps": max((line["step"] for line in metrics), default=0),
        "state": state_data(info.get("status", {}), metrics),
        "health": redact(health_data(kind, str(config.get("dtype")), metrics)),
        "charts": [
            *chart_data(kind, metrics, max_points),
            *({"bands": [], **chart} for chart in info.get("charts", [])),
        ],
        "card": redact(card_data(info["card"])) if info.get("card") else None,
        "data": redact(list(info.get("data", []))),
        "facts": redact({key: value for key, value in info.items() if key not in _NOT_FACTS}),
    }
    return stage | ({"run": redact(info["run"])} if "run" in info else {})


def state_data(status: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the progress of a run, from status.json ({} for none) and its metrics."""
    seconds = [float(line["seconds"]) for line in metrics if line.get("seconds") is not None]
    reason = status.get("stopped_because")
    return {
        "state": status.get("state", "unknown"),
        "completed": status.get("completed", len(metrics)),
        "requested": status.get("requested"),
        "reason": None if reason is None else redact(str(reason)),
        "seconds": round(sum(seconds), 3) if seconds else None,
    }


def overlay_data(runs: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]]) -> list[dict[str, Any]]:
    """Return charts that show all runs of one kind, for each kind with several runs.

    `runs` are (label, kind, metrics). A chart has one metric; of a chart of several, the first series is compared.
    """
    overlays = []
    for kind in dict.fromkeys(kind for _, kind, _ in runs):
        kind_runs = [(label, metrics) for label, other, metrics in runs if other == kind]
        if len(kind_runs) < 2:
            continue
        charts: dict[tuple[str, str], dict[str, Any]] = {}
        for label, metrics in kind_runs:
            for chart in chart_data(kind, metrics, MAX_OVERLAY_POINTS):
                for series in chart["series"]:
                    key = (chart["title"], series["metric"])
                    title = (
                        chart["title"]
                        if len(chart["series"]) == 1
                        else f"{chart['title']}: {series['label']}"
                    )
                    overlay = charts.setdefault(key, {**chart, "title": title, "series": []})
                    overlay["series"].append({**series, "label": label})
        overlays.append({"title": TITLES.get(kind, kind), "kind": kind, "charts": list(charts.values())})
    return overlays


MAX_OVERLAY_POINTS = 200
"""Maximum number of points of a run's series if several runs are in one chart."""
