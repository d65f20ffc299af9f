"""Exchange the two sides of a pair's figures. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CHANGES = ("cap_hit", "empty", "repetition")

Figures = Mapping[str, Any]
"""The summary's entry for a policy, a pair or a slice."""


def flip_pair(pair: Figures) -> dict[str, Any]:
    """Return the figures of a pair with left and right exchanged, as `pairs.pair_figures` would compute them."""
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
        "scorers": {judge: {**figures, **_flip_wins(figures)} for judge, figures in pair["scorers"].items()},
        "domains": {
            name: {**figures, **_flip_comparison(figures)} for name, figures in pair["domains"].items()
        },
        "slices": [{**figures, **_flip_comparison(figures)} for figures in pair["slices"]],
    }


def flip_interval(interval: Figures | None) -> dict[str, Any] | None:
    """Return an estimate and its intervals with the opposite sign."""
    if interval is None:
        return None
    flipped = {**interval, "value": -interval["value"]}
    for low, high in (("low", "high"), ("bca_low", "bca_high")):
        if low in interval:
            flipped |= {low: _negative(interval[high]), high: _negative(interval[low])}
    return flipped


def _flip_comparison(pair: Figures) -> dict[str, Any]:
    return {
        **_flip_wins(pair),
        "reward": flip_interval(pair["reward"]),
        "judges": {judge: flip_interval(estimate) for judge, estimate in pair["judges"].items()},
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
    """Return the rate of the other side, which wins where this side loses, with the mirrored interval.

    "at_most" is left out: it bounds a rate of 0, and the mirrored rate is 1.
    """
    if rate is None:
        return None
    complement = {"value": 1 - rate["value"], "low": 1 - rate["high"], "high": 1 - rate["low"]}
    if "count" in rate:
        complement |= {"count": rate["n"] - rate["count"], "n": rate["n"]}
    return complement


def _flip_change(change: Figures | None) -> dict[str, Any] | None:
    flipped = flip_interval(change)
    return None if flipped is None else _swap(flipped, "only_left", "only_right")


def _flip_length(length: Figures) -> dict[str, Any]:
    return {
        **_flip_controlled(length),
        "matched": {**length["matched"], **_flip_wins(length["matched"])},
    }


def _flip_controlled(figures: Figures) -> dict[str, Any]:
    """Return a controlled win rate of the exchanged pair.

    The effects stay the same, because both sides of the model change sign.
    """
    return {
        **_swap(figures, "mean_left", "mean_right"),
        "controlled": _complement(figures["controlled"]),
        "theta": -figures["theta"],
    }


def _swap(figures: Figures, left_key: str, right_key: str) -> dict[str, Any]:
    return {**figures, left_key: figures[right_key], right_key: figures[left_key]}


def _negative(value: float | None) -> float | None:
    return None if value is None else -value
