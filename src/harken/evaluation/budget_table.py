"""Format a token-budget study: truncation and wins at several limits of response tokens. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.run import json_io
from harken.run.terminal import columns, format_table


def read_budgets(path: Path) -> list[dict[str, Any]]:
    """Read budgets.json: one entry per token limit, the smallest first."""
    entries: list[dict[str, Any]] = json_io.read_object(path)["budgets"]
    return entries


def budget_table(entries: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """Return two tables: truncation, reward and length of each policy, and the wins of each pair, at every limit."""
    width = columns() if width is None else width
    per_policy = [(entry["max_gen_len"], row) for entry in entries for row in entry["summary"]["table"]]
    per_pair = [(entry["max_gen_len"], pair) for entry in entries for pair in entry["summary"]["pairs"]]
    policies = {
        "max_gen_len": [str(limit) for limit, _ in per_policy],
        "policy": [row["policy"] for _, row in per_policy],
        "truncated %": [_rate(row["cap_hit"]) for _, row in per_policy],
        "reward": [f"{row['reward']['value']:+.3f}" for _, row in per_policy],
        "median tokens": [f"{row['median_response_tokens']:g}" for _, row in per_policy],
    }
    pairs = {
        "max_gen_len": [str(limit) for limit, _ in per_pair],
        "right − left": [f"{pair['right']} − {pair['left']}" for _, pair in per_pair],
        "W / T / L": [f"{pair['wins']} / {pair['ties']} / {pair['losses']}" for _, pair in per_pair],
        "win rate %": [_rate(pair["win_rate"]) for _, pair in per_pair],
        "reward": [f"{pair['reward']['value']:+.3f}" for _, pair in per_pair],
    }
    heading = "The same responses at smaller token limits: nothing but the limit differs."
    blocks = [
        format_table(cells, width=width, repeat=2) for cells in (policies, pairs) if cells["max_gen_len"]
    ]
    return "\n\n".join([heading, *blocks]) + "\n"


def _rate(rate: Mapping[str, Any]) -> str:
    return f"{100 * rate['value']:.1f} ({100 * rate['low']:.1f} to {100 * rate['high']:.1f})"
