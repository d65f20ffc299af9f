"""Turn card.json of a reward model into the page's structured card."""

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
    """Return the parts of a card that the page draws. `card` is the content of card.json, with that of rows.json."""
    rows = card.get("rows") or {"rule": "", "rows": []}
    return {
        "status": card["status"],
        "verdict": card["verdict"],
        "accuracy": _share(card["accuracy"]),
        "calibration": _calibration(card["calibration"]),
        "slices": [
            {"column": column.replace("_", " "), "value": value, **_numbers(found)}
            for column, values in card["slices"].items()
            for value, found in values.items()
        ],
        "baselines": [
            {
                "name": _BASELINES.get(name, name.replace("_", " ")),
                "share": found["share"],
                "difference": found["difference"]["mean"],
                "low": found["difference"]["low"],
                "high": found["difference"]["high"],
                **_reason(found["difference"]),
            }
            for name, found in card["baselines"].items()
        ],
        "probes": [
            {
                "name": found["name"],
                "description": found["description"],
                "pairs": found["pairs"],
                "change": found["change"]["mean"],
                "low": found["change"]["low"],
                "high": found["change"]["high"],
                **_reason(found["change"]),
                "flips": _share(found["flips"]),
            }
            for found in card["probes"]
        ],
        "faults": [{key: str(fault[key]) for key in ("name", "sentence", "fix")} for fault in card["faults"]],
        "warnings": [{key: str(found[key]) for key in ("what", "fix")} for found in card["warnings"]],
        "model": dict(card["model"]),
        "rule": rows["rule"],
        "rows": [
            {
                **{key: row[key] for key in ("id", "prompt", "preferred", "other", "rewards", "margin")},
                "slices": {column.replace("_", " "): value for column, value in row["slices"].items()},
                "edits": {name: dict(found) for name, found in row["edits"].items()},
            }
            for row in rows["rows"]
        ],
    }


def _reason(found: Mapping[str, Any]) -> dict[str, str]:
    """Return why an estimate has no interval, where it says so."""
    return {"no_interval": str(found["no_interval"])} if "no_interval" in found else {}


def _share(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if found is None else _numbers(found)


def _numbers(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: found[key] for key in ("pairs", "share", "low", "high")}


def _calibration(found: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "pairs": found["pairs"],
        "error": found["ece"]["error"],
        "by_chance": found["ece"]["null_high"],
        "temperature": found["temperature"],
        "bins": [dict(part) for part in found["bins"]],
    }
