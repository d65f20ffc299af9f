"""A summary as plain tables for a terminal, and the headline figures of a pipeline as a dict. No torch."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harken.evaluate.verdict import between, policy
from harken.maths.statistics import wilson_interval

WIDTH = 100
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069]")

Figures = Mapping[str, Any]


def tables(summary: Figures, width: int = WIDTH) -> str:
    """The N-way and pairwise tables as text, `width` columns at most, without colours or controls."""
    judges = list(summary["judges"])
    rows = summary["table"]
    ties = summary["ties"]
    no_winner = ["no winner", str(ties["count"]), _percent(ties), "", *("" for _ in judges)]
    scores = _table(
        f"{summary['n']} answers a policy, 95 % intervals",
        ["policy", "wins", "win rate %", "mean reward", *judges],
        [
            [
                row["policy"],
                str(row["win_rate"]["count"]),
                _percent(row["win_rate"]),
                _value(row["reward"]),
                *(_value(row["judges"][judge]) for judge in judges),
            ]
            for row in rows
        ]
        + [no_winner],
    )
    texts = _table(
        "",
        ["policy", "median tokens", "cut at limit %", "empty %", "repetitive %"],
        [
            [
                row["policy"],
                f"{row['median_response_tokens']:g}",
                *(_percent(row[name]) for name in ("cap_hit", "empty", "repetition")),
            ]
            for row in rows
        ],
    )
    pairs = _table(
        "Right against left, by learned reward",
        ["left → right", "W / T / L", "share %", "right − left", "Holm p", *judges],
        [
            [
                f"{pair['left']} → {pair['right']}",
                f"{pair['wins']} / {pair['ties']} / {pair['losses']}",
                f"{100 * pair['win_share']:.1f}",
                _value(pair["reward"], sign=True),
                f"{pair['holm_p']:.2g}",
                *(_value(pair["judges"][judge], sign=True) for judge in judges),
            ]
            for pair in summary["pairs"]
        ],
    )
    return "\n".join(_render(table, width) for table in (scores, texts, pairs))


def results(
    summary: Figures,
    *,
    base: str,
    sft: str,
    ppo: str,
    judge: str | None,
    kl_per_sequence: float | None,
    rm_accuracy: float | None,
    rm_pairs: int | None,
    seconds: Mapping[str, float],
    headline: Sequence[str] = (),
) -> dict[str, Any]:
    """The dict of `results.json`: what a reader wants first, each with its 95 % interval.

    Rewards and gold are means over prompts; `kl_per_sequence` is in nats. `rm_accuracy` is a share of
    `rm_pairs` held-out pairs. `judge` None: no "gold". Raises KeyError when a policy is not in the summary.
    """
    named = {"base": policy(summary, base), "sft": policy(summary, sft), "ppo": policy(summary, ppo)}
    pair = between(summary, sft, ppo)
    accuracy = None
    if rm_accuracy is not None and rm_pairs:
        low, high = wilson_interval(round(rm_accuracy * rm_pairs), rm_pairs)
        accuracy = {"value": rm_accuracy, "low": low, "high": high, "n": rm_pairs}
    found: dict[str, Any] = {
        "verdict": list(headline),
        "policies": {"base": base, "sft": sft, "ppo": ppo},
        "prompts": summary["prompts"],
        "samples": summary["samples"],
        "learned_reward": {role: line["reward"] for role, line in named.items()},
        "learned_reward_ppo_minus_sft": pair["reward"],
        "ppo_against_sft": {key: pair[key] for key in ("wins", "ties", "losses", "sign_test_p", "holm_p")},
        "kl_per_sequence": kl_per_sequence,
        "cap_hit": {role: line["cap_hit"] for role, line in named.items()},
        "cap_hit_ppo_minus_sft": pair["cap_hit"],
        "repetition": {role: line["repetition"] for role, line in named.items()},
        "repetition_ppo_minus_sft": pair["repetition"],
        "reward_model_accuracy": accuracy,
        "seconds": dict(seconds),
    }
    if judge:
        found["judge"] = judge
        found["gold"] = {role: line["judges"][judge] for role, line in named.items()}
        found["gold_ppo_minus_sft"] = pair["judges"][judge]
    return found


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(
        title=title or None, title_justify="left", title_style="", box=box.SIMPLE_HEAD, pad_edge=False
    )
    for i, column in enumerate(columns):
        table.add_column(
            _plain(column), justify="left" if i == 0 else "right", overflow="fold", header_style=""
        )
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    return table


def _plain(text: str) -> Text:
    """Names come from users: no markup, and nothing that moves a cursor or turns the text round."""
    return Text(_CONTROL.sub("\ufffd", text))


def _render(table: Table, width: int) -> str:
    sink = io.StringIO()
    Console(file=sink, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(
        table
    )
    return "\n".join(line.rstrip() for line in sink.getvalue().splitlines() if line.strip()) + "\n"


def _percent(rate: Figures) -> str:
    return f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


def _value(interval: Figures | None, sign: bool = False) -> str:
    if interval is None:
        return "–"
    value, low, high = (f"{interval[key]:{'+' if sign else ''}.3f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"
