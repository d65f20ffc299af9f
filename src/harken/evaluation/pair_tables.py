"""Format the comparison of every two policies as tables for a terminal. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.evaluation.flip import Figures
from harken.evaluation.pairs import LENGTH
from harken.evaluation.verdict import MIN_PROMPTS, disagreement_sentence, reward_name
from harken.run.terminal import format_table

MAX_CELL_WIDTH = 36
"""Characters; a longer name is shortened."""
PAIR = "right − left"

Cells = dict[str, list[str]]


def pair_tables(summary: Figures, width: int) -> list[str]:
    """Format the pairs of a summary as blocks of text of at most `width` columns, with notes on the columns."""
    pairs = summary["pairs"]
    tables = [
        _wins(pairs),
        _differences(pairs, reward_name(summary)),
        _changes(pairs),
        _lengths(pairs),
        _styles(pairs),
        _scorers(pairs),
        _disagreement(pairs),
        _variance(pairs, summary["samples"]),
        _strengths(summary),
        *([_slices(pair, reward_name(summary)) for pair in pairs]),
    ]
    blocks = [_format(cells, width) for cells in tables if any(cells.values())]
    return [*blocks, format_table({"note": _notes(summary)}, width=width, wrap=True, header=False)]


def rate_percent(rate: Figures | None) -> str:
    """Format a share and its interval in percent."""
    if rate is None:
        return "–"
    return f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]"


def interval(figures: Figures | None, form: str = ".3f") -> str:
    """Format a mean and its interval; "[–, –]" without an interval, for the reasons that `interval_note` gives."""
    if figures is None:
        return "–"
    value, low, high = (decimal(figures[key], form) for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def interval_note(summary: Figures) -> str:
    """Say why some figures of a summary have no interval; "" if all have one."""
    reasons = sorted(_reasons(summary))
    return f"[–, –]: {' or '.join(reasons)}" if reasons else ""


def _reasons(content: Any) -> set[str]:
    """Return every `no_interval` within a JSON value."""
    if isinstance(content, Mapping):
        reasons = {content["no_interval"]} if "no_interval" in content else set()
        return reasons.union(*(_reasons(value) for value in content.values()))
    if isinstance(content, list):
        return set().union(*(_reasons(value) for value in content))
    return set()


def decimal(value: float | None, form: str = ".3f") -> str:
    """Format a number that may be missing."""
    return "–" if value is None else f"{value:{form}}"


def _wins(pairs: Sequence[Figures]) -> Cells:
    return {
        PAIR: _names(pairs),
        "W / T / L": [_counts(pair) for pair in pairs],
        "win rate %": [rate_percent(pair["win_rate"]) for pair in pairs],
        "without ties %": [rate_percent(pair["win_rate_decided"]) for pair in pairs],
        "ties as half %": [rate_percent(pair["win_share"]) for pair in pairs],
        "sign test p": [decimal(pair["sign_test_p"], ".2g") for pair in pairs],
        "p (Holm)": [decimal(pair["holm_p"], ".2g") for pair in pairs],
        "detectable without ties %": [
            f"≥ {100 * pair['detectable_win_rate']:.1f} or ≤ {100 * (1 - pair['detectable_win_rate']):.1f}"
            for pair in pairs
        ],
    }


def _differences(pairs: Sequence[Figures], reward: str) -> Cells:
    return {
        PAIR: _names(pairs),
        reward: [interval(pair["reward"], "+.3f") for pair in pairs],
        "BCa interval": [
            f"[{decimal(pair['reward']['bca_low'], '+.3f')}, {decimal(pair['reward']['bca_high'], '+.3f')}]"
            for pair in pairs
        ],
        "Hodges–Lehmann": [interval(pair["hodges_lehmann"], "+.3f") for pair in pairs],
        "d_z": [decimal(pair["cohen_dz"], "+.3f") for pair in pairs],
        "Wilcoxon p": [decimal(pair["wilcoxon_p"], ".2g") for pair in pairs],
        "detectable": [decimal(pair["detectable_difference"], ".3f") for pair in pairs],
    }


def _changes(pairs: Sequence[Figures]) -> Cells:
    cells: Cells = {PAIR: _names(pairs)}
    for name, title in (("cap_hit", "truncated"), ("empty", "empty"), ("repetition", "repetitive")):
        if any(pair[name] for pair in pairs):
            cells[f"{title}, points"] = [_points(pair[name]) for pair in pairs]
            cells[f"p ({title})"] = [
                "–" if pair[name] is None else decimal(pair[name]["mcnemar_p"], ".2g") for pair in pairs
            ]
    return cells if len(cells) > 1 else {}


def _lengths(pairs: Sequence[Figures]) -> Cells:
    return {
        PAIR: _names(pairs),
        f"mean {pairs[0]['length']['unit']}": [
            f"{pair['length']['mean_right']:.0f} − {pair['length']['mean_left']:.0f}" for pair in pairs
        ],
        "length-controlled %": [rate_percent(pair["length"]["controlled"]) for pair in pairs],
        "length effect φ": [decimal(pair["length"]["phi"], "+.2f") for pair in pairs],
        "same length, W / T / L": [_counts(pair["length"]["matched"]) for pair in pairs],
        "same length, ties as half %": [
            rate_percent(pair["length"]["matched"]["win_share"]) for pair in pairs
        ],
    }


def _styles(pairs: Sequence[Figures]) -> Cells:
    rows = [pair for pair in pairs if pair["style"]]
    styles = rows[0]["style"]["effects"] if rows else {}
    return {
        PAIR: _names(rows),
        **{
            f"mean {name}": [
                f"{pair['style']['mean_right'][name]:.1f} − {pair['style']['mean_left'][name]:.1f}"
                for pair in rows
            ]
            for name in styles
            if name != LENGTH
        },
        "style-controlled %": [rate_percent(pair["style"]["controlled"]) for pair in rows],
        **{
            f"effect of {name}": [decimal(pair["style"]["effects"][name], "+.2f") for pair in rows]
            for name in styles
        },
    }


def _scorers(pairs: Sequence[Figures]) -> Cells:
    rows = [(pair, judge, figures) for pair in pairs for judge, figures in pair["scorers"].items()]
    return {
        PAIR: _names([pair for pair, _, _ in rows]),
        "scorer": [judge for _, judge, _ in rows],
        "mean difference": [interval(pair["judges"][judge], "+.3f") for pair, judge, _ in rows],
        "its W / T / L": [_counts(figures) for _, _, figures in rows],
        "its win rate %": [rate_percent(figures["win_rate"]) for _, _, figures in rows],
        "its p (Holm)": [decimal(figures["holm_p"], ".2g") for _, _, figures in rows],
    }


def _disagreement(pairs: Sequence[Figures]) -> Cells:
    rows = [(pair, disagreement) for pair in pairs for disagreement in pair["disagreement"]]
    return {
        PAIR: _names([pair for pair, _ in rows]),
        "scorers": [" and ".join(disagreement["scorers"]) for _, disagreement in rows],
        "both decide": [
            str(disagreement["rate"]["n"]) if disagreement["rate"] else "0" for _, disagreement in rows
        ],
        "disagree %": [rate_percent(disagreement["rate"]) for _, disagreement in rows],
    }


def _variance(pairs: Sequence[Figures], samples: int) -> Cells:
    rows = [pair for pair in pairs if pair["variance"]]
    return {
        PAIR: _names(rows),
        "Var(prompt)": [decimal(pair["variance"]["prompt"]) for pair in rows],
        "Var(sample)": [decimal(pair["variance"]["sample"]) for pair in rows],
        f"standard error, {samples} samples": [decimal(pair["standard_error"]) for pair in rows],
        "16 samples": [decimal(pair["variance"]["standard_errors"]["16"]) for pair in rows],
        "any number": [decimal(pair["variance"]["limit"]) for pair in rows],
    }


def _strengths(summary: Figures) -> Cells:
    if not summary["strengths"]:
        return {}
    rows = summary["strengths"]["policies"]
    return {
        "policy": [row["policy"] for row in rows],
        f"strength over {summary['baseline']}, nats": [
            "0" if row["policy"] == summary["baseline"] else interval(row, "+.3f") for row in rows
        ],
        "400-point scale": [f"{400 / 2.302585092994046 * row['value']:+.0f}" for row in rows],
    }


def _slices(pair: Figures, reward: str) -> Cells:
    rows = pair["slices"]
    return {
        f"{pair['right']} − {pair['left']} by": [row["column"] for row in rows],
        "slice": [row["value"] or "(none)" for row in rows],
        "W / T / L": [_counts(row) for row in rows],
        "win rate %": [rate_percent(row["win_rate"]) for row in rows],
        reward: [interval(row["reward"], "+.3f") for row in rows],
        "q": [decimal(row["q"], ".2g") for row in rows],
    }


def _notes(summary: Figures) -> list[str]:
    """Explain the columns, the tie rule, and which test decides where two disagree."""
    repeat = summary["repeatability"]
    tie = f"tie: the rewards differ by at most {summary['tie_epsilon']:g}; repeatability of the scorer: "
    if repeat is None:
        tie += "not measured"
    else:
        within = ", ".join(f"{pair['within_repeatability']}" for pair in summary["pairs"])
        tie += f"±{repeat:.2g}, decided rows within it: {within}"
    lines = [
        "win rate = W / (W + T + L) of the right policy: ties count in the denominator only",
        "without ties = W / (W + L); ties as half = (W + T / 2) / (W + T + L)",
        tie,
        f"intervals of means: {summary['draws']} bootstrap draws of prompts, percentile unless BCa",
        f"length-controlled, style-controlled: win rate at equal length (and markup), ties as half, fitted again in "
        f"{summary['refit_draws']} draws",
        "p: exact sign test (Holm over the pairs), for rates exact McNemar",
        "q: Benjamini–Hochberg over the slices of a pair",
        "detectable: the smallest true difference that is found with 80 % power",
        *filter(None, [interval_note(summary)]),
    ]
    if summary["prompts"] >= MIN_PROMPTS:
        lines += [
            f"{pair['right']} − {pair['left']}:{sentence}"
            for pair in summary["pairs"]
            if (sentence := disagreement_sentence(pair))
        ]
    return lines


def _names(pairs: Sequence[Figures]) -> list[str]:
    return [f"{pair['right']} − {pair['left']}" for pair in pairs]


def _counts(figures: Figures) -> str:
    return f"{figures['wins']} / {figures['ties']} / {figures['losses']}"


def _points(change: Figures | None) -> str:
    if change is None:
        return "–"
    return interval({key: _times(change[key], 100) for key in ("value", "low", "high")}, "+.1f")


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


def _format(cells: Mapping[str, Sequence[str]], width: int) -> str:
    texts = {"slice", "scorer", "scorers"}
    right = [title for title in [*cells][1:] if title not in texts]
    repeat = 2 if texts & {*cells} else 1
    return format_table(cells, right=right, width=width, longest=MAX_CELL_WIDTH, repeat=repeat)
