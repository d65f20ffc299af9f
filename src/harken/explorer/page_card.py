"""Convert card.json of a reward model to the page's structured card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BASELINES = {
    "longer_wins": "the longer response wins",
    "bag_of_words": "a bag of words",
    "length": "length of the response",
}
"""Names of the simple rules that a reward model is compared with."""


def card_data(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a card that the page draws. `card` is the content of card.json and rows.json."""
    rows = card.get("rows") or {"rule": "", "rows": []}
    return {
        "status": card["status"],
        "verdict": card["verdict"],
        "accuracy": _share(card["accuracy"]),
        "calibration": _calibration(card["calibration"]),
        "slices": [
            {"column": column.replace("_", " "), "value": value, **_numbers(entry)}
            for column, values in card["slices"].items()
            for value, entry in values.items()
        ],
        "raters": [
            {
                "rater": voter["rater"],
                "model": _share(voter["model"]),
                "others": None
                if voter["others"] is None
                else _numbers({**voter["others"], "pairs": voter["others"]["rows"]}),
            }
            for voter in (card.get("ceiling") or {}).get("by_rater", [])
            if voter["model"] is not None
        ],
        "baselines": [
            {
                "name": _BASELINES.get(name, name.replace("_", " ")),
                "share": entry["share"],
                "difference": entry["difference"]["mean"],
                "low": entry["difference"]["low"],
                "high": entry["difference"]["high"],
                **_reason(entry["difference"]),
            }
            for name, entry in card["baselines"].items()
        ],
        "probes": [
            {
                "name": entry["name"],
                "description": entry["description"],
                "pairs": entry["pairs"],
                "change": entry["change"]["mean"],
                "low": entry["change"]["low"],
                "high": entry["change"]["high"],
                **_reason(entry["change"]),
                "flips": _share(entry["flips"]),
            }
            for entry in card["probes"]
        ],
        "faults": [{key: str(fault[key]) for key in ("name", "sentence", "fix")} for fault in card["faults"]],
        "warnings": [{key: str(entry[key]) for key in ("what", "fix")} for entry in card["warnings"]],
        "model": dict(card["model"]),
        "rule": rows["rule"],
        "rows": [
            {
                **{key: row[key] for key in ("id", "prompt", "preferred", "other", "rewards", "margin")},
                "slices": {column.replace("_", " "): value for column, value in row["slices"].items()},
                "edits": {name: dict(entry) for name, entry in row["edits"].items()},
            }
            for row in rows["rows"]
        ],
    }


def _reason(estimate: Mapping[str, Any]) -> dict[str, str]:
    """Return why an estimate has no interval, if it has a reason."""
    return {"no_interval": str(estimate["no_interval"])} if "no_interval" in estimate else {}


def _share(section: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if section is None else _numbers(section)


def _numbers(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: section[key] for key in ("pairs", "share", "low", "high")}


def _calibration(section: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if section is None:
        return None
    return {
        "pairs": section["pairs"],
        "error": section["ece"]["error"],
        "by_chance": section["ece"]["null_high"],
        "temperature": section["temperature"],
        "bins": [dict(bin_) for bin_ in section["bins"]],
    }
