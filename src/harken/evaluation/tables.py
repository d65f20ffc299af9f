"""Format a summary as tables for a terminal, and collect the headline figures of a pipeline. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.evaluation.flip import Figures
from harken.evaluation.pair_tables import (
    MAX_CELL_WIDTH,
    decimal,
    interval,
    interval_note,
    pair_tables,
    rate_percent,
)
from harken.evaluation.verdict import find_pair, find_policy, late_kl, reward_name
from harken.maths.statistics.intervals import wilson_interval
from harken.run.terminal import columns, format_table

PAIR_FIGURES = (
    "n", "wins", "ties", "losses", "win_rate", "loss_rate", "win_rate_decided", "win_share", "sign_test_votes",
    "sign_test_p", "holm_p", "detectable_win_rate", "reward", "judges", "standard_error", "hodges_lehmann",
    "wilcoxon_p", "cohen_dz", "median_difference", "detectable_difference", "within_repeatability", "cap_hit", "empty",
    "repetition", "length", "style", "scorers", "disagreement", "variance",
)  # fmt: skip
"""Figures of a pair in `results.json`: those of `summary.json` without its slices, under the same names."""


def tables(summary: Figures, width: int | None = None) -> str:
    """Return the N-way and pairwise tables as text of at most `width` columns (those of the terminal).

    Columns that do not fit wrap into further blocks that repeat the name column.
    """
    width = columns() if width is None else width
    judges, rows, pairs, ties = (summary[key] for key in ("judges", "table", "pairs", "ties"))
    scores = {
        "policy": [*(row["policy"] for row in rows), "(no single best)"],
        "best": [*(str(row["win_rate"]["count"]) for row in rows), str(ties["count"])],
        "best response %": [*(rate_percent(row["win_rate"]) for row in rows), rate_percent(ties)],
        reward_name(summary): [*(interval(row["reward"]) for row in rows), ""],
        **{judge: [*(interval(row["judges"][judge]) for row in rows), ""] for judge in judges},
    }
    texts: dict[str, list[str]] = {
        "policy": [row["policy"] for row in rows],
        f"median {summary['length_unit']}": [f"{row['median_response_tokens']:g}" for row in rows],
        **{
            label: [rate_percent(row[name]) for row in rows]
            for label, name in (
                ("truncated %", "cap_hit"),
                ("empty %", "empty"),
                ("repetitive %", "repetition"),
            )
            if any(row[name] for row in rows)
        },
        "reward–length ρ": [decimal(row["reward_length_correlation"]["spearman"], "+.2f") for row in rows],
    }
    heading = f"{summary['prompts']} prompts, {summary['n']} responses per policy, 95 % intervals"
    if summary["cluster_column"]:
        heading += (
            f"; {summary['clusters']} clusters of prompts ({summary['cluster_column']}) are independent"
        )
    blocks = [heading, *(_block(cells, width) for cells in (scores, texts))]
    if pairs:
        blocks += pair_tables(summary, width)
    elif note := interval_note(summary):
        blocks.append(format_table({"note": [note]}, width=width, wrap=True, header=False))
    return "\n\n".join(blocks) + "\n"


def results(
    summary: Figures | None,
    *,
    roles: Mapping[str, str],
    metrics: Mapping[str, Sequence[Figures]],
    kinds: Mapping[str, str],
    judge: str | None,
    compared: Sequence[tuple[str, str]] = (),
    headline: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the contents of `results.json`: the figures of the summary without its slices, and those of training.

    `roles` maps roles such as base, sft and ppo to policies of the summary, `compared` has pairs of roles (after,
    before). `metrics` has the metric lines of each run and `kinds` its training type. Rewards and gold scores are means
    over prompts; `kl_per_sequence` is in nats; `reward_model_accuracy` is a share of held-out pairs. Both are objects
    by run where several runs have one. "pairs" has the entries of `summary.json` for every two policies. Without
    `judge` there is no "gold"; without `summary` there are figures of training only. Raises KeyError when a policy is
    not in the summary.
    """
    kls = {name: late_kl(lines) for name, lines in metrics.items()}
    accuracies = {name: _accuracy(lines) for name, lines in metrics.items() if kinds[name] == "reward"}
    contents: dict[str, Any] = {
        "verdict": list(headline),
        **(_policy_results(summary, roles, compared, judge) if summary else {}),
        "kl_per_sequence": _only(kls),
        "reward_model_accuracy": _only(accuracies),
        "seconds": {
            name: sum(line.get("seconds") or 0.0 for line in lines) for name, lines in metrics.items()
        },
    }
    return contents


def _only(values: Mapping[str, Any]) -> Any:
    """Return the only value that is not None, None if there is none, and several as a mapping by run."""
    known = {name: value for name, value in values.items() if value is not None}
    return known if len(known) > 1 else next(iter(known.values()), None)


def _policy_results(
    summary: Figures, roles: Mapping[str, str], compared: Sequence[tuple[str, str]], judge: str | None
) -> dict[str, Any]:
    figures_by_role = {role: find_policy(summary, name) for role, name in roles.items()}
    contents: dict[str, Any] = {
        "policies": dict(roles),
        "prompts": summary["prompts"],
        "samples": summary["samples"],
        "pairs": [{key: pair[key] for key in ("left", "right", *PAIR_FIGURES)} for pair in summary["pairs"]],
        "strengths": summary["strengths"],
        "learned_reward": {role: figures["reward"] for role, figures in figures_by_role.items()},
        **{
            rate: {role: figures[rate] for role, figures in figures_by_role.items()}
            for rate in ("cap_hit", "repetition")
        },
    }
    if judge:
        contents["judge"] = judge
        contents["gold"] = {role: figures["judges"][judge] for role, figures in figures_by_role.items()}
    for after, before in compared:
        pair = find_pair(summary, roles[before], roles[after])
        contents[f"{after}_against_{before}"] = {key: pair[key] for key in PAIR_FIGURES}
        contents[f"learned_reward_{after}_minus_{before}"] = pair["reward"]
        contents |= {f"{rate}_{after}_minus_{before}": pair[rate] for rate in ("cap_hit", "repetition")}
        if judge:
            contents[f"gold_{after}_minus_{before}"] = pair["judges"][judge]
    return contents


def _accuracy(metrics: Sequence[Figures]) -> dict[str, Any] | None:
    """Return the reward model's last held-out accuracy with its Wilson interval; None without one."""
    last = next((line for line in reversed(metrics) if "eval/accuracy" in line), {})
    accuracy, pairs = last.get("eval/accuracy"), int(last.get("eval/pairs") or 0)
    if accuracy is None or not pairs:
        return None
    low, high = wilson_interval(round(accuracy * pairs), pairs)
    return {"value": accuracy, "low": low, "high": high, "n": pairs}


def _block(cells: Mapping[str, Sequence[str]], width: int) -> str:
    return format_table(cells, right=[*cells][1:], width=width, longest=MAX_CELL_WIDTH)
