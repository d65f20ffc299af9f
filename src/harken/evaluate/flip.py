"""Exchange the two sides of a pair's figures. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHANGES = ("cap_hit", "empty", "repetition")

Figures = Mapping[str, Any]
"""What the summary says of a policy, a pair or a slice."""


def flip_pair(pair: Figures) -> dict[str, Any]:
    """Return the figures of the same pair with left and right exchanged, as `pairs.pair_figures` would have them."""
    return {
        **pair,
        **_flip_comparison(pair),
        "left": pair["right"],
        "right": pair["left"],
        "sign_test_votes": _swap(pair["sign_test_votes"], "wins", "losses"),
        "median_difference": -pair["median_difference"],
        "cohen_dz": _negative(pair["cohen_dz"]),
        "hodges_lehmann": flip_interval(pair["hodges_lehmann"]),
        **{name: _flip_change(pair[name]) for name in CHANGES},
        "length": _flip_length(pair["length"]),
        "style": None if pair["style"] is None else _flip_controlled(pair["style"]),
        "scorers": {judge: {**found, **_flip_wins(found)} for judge, found in pair["scorers"].items()},
        "domains": {name: {**part, **_flip_comparison(part)} for name, part in pair["domains"].items()},
        "slices": [{**part, **_flip_comparison(part)} for part in pair["slices"]],
    }


def flip_interval(interval: Figures | None) -> dict[str, Any] | None:
    """Return an estimate and its intervals with the opposite sign."""
    if interval is None:
        return None
    found = {**interval, "value": -interval["value"]}
    for low, high in (("low", "high"), ("bca_low", "bca_high")):
        if low in interval:
            found |= {low: _negative(interval[high]), high: _negative(interval[low])}
    return found


def _flip_comparison(pair: Figures) -> dict[str, Any]:
    return {
        **_flip_wins(pair),
        "reward": flip_interval(pair["reward"]),
        "judges": {judge: flip_interval(found) for judge, found in pair["judges"].items()},
    }


def _flip_wins(pair: Figures) -> dict[str, Any]:
    return {
        "wins": pair["losses"],
        "losses": pair["wins"],
        "win_rate": pair["loss_rate"],
        "loss_rate": pair["win_rate"],
        "win_rate_decided": _complement(pair["win_rate_decided"]),
        "win_share": _complement(pair["win_share"]),
    }


def _complement(rate: Figures | None) -> dict[str, Any] | None:
    """Return the rate of the other side, which wins what this side loses. Its interval is the mirrored one.

    "at_most" is a bound of a rate without a case; the mirrored rate has every case.
    """
    if rate is None:
        return None
    found = {"value": 1 - rate["value"], "low": 1 - rate["high"], "high": 1 - rate["low"]}
    if "count" in rate:
        found |= {"count": rate["n"] - rate["count"], "n": rate["n"]}
    return found


def _flip_change(change: Figures | None) -> dict[str, Any] | None:
    turned = flip_interval(change)
    return None if turned is None else _swap(turned, "only_left", "only_right")


def _flip_length(length: Figures) -> dict[str, Any]:
    return {
        **_flip_controlled(length),
        "matched": {**length["matched"], **_flip_wins(length["matched"])},
    }


def _flip_controlled(found: Figures) -> dict[str, Any]:
    """Return a controlled win rate of the exchanged pair: its effects stay, because both sides of the model turn."""
    return {
        **_swap(found, "mean_left", "mean_right"),
        "controlled": _complement(found["controlled"]),
        "theta": -found["theta"],
    }


def _swap(figures: Figures, one: str, other: str) -> dict[str, Any]:
    return {**figures, one: figures[other], other: figures[one]}


def _negative(value: float | None) -> float | None:
    return None if value is None else -value
