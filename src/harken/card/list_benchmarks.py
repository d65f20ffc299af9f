"""Score benchmarks whose rows hold lists of responses, read as they are: RewardBench 2 and RM-Bench.

RewardBench 2 (Malik et al. 2025, arXiv:2506.01937): one chosen and three rejected responses; right when the chosen
one has the highest reward, 25 % by chance. Its subset Ties has several chosen ones, and rows `ref:N` and `tied:N`
that belong together. RM-Bench (Liu et al. 2024, arXiv:2410.16184): three chosen and three rejected responses in the
styles concise, detailed, detailed with Markdown. Accuracy where the rejected one has the plainer style is easy, where
both have the same style normal, where the rejected one has the showier style hard.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from harken.card.scored import PairScorer, RewardArray, Section
from harken.data import conversations, fields, files
from harken.data.fields import Row, RowError
from harken.data.parse import content_hash
from harken.data.report import DataReport
from harken.maths.statistics.intervals import clustered_jeffreys
from harken.records import Prompt

STYLES = 3
TIES_SUBSET = "Ties"


@dataclass(frozen=True)
class ListRow:
    """One prompt with lists of better and worse responses. `name` is the row's id, "" without one."""

    prompt: Prompt
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    name: str = ""


@dataclass(frozen=True)
class ListSet:
    """The rows of one file. `styles`: whether they have RM-Bench's three styles."""

    name: str
    rows: list[ListRow]
    report: DataReport
    styles: bool = field(default=False)


def is_list_row(row: object) -> bool:
    """Return whether a row has lists of texts as chosen and rejected."""
    return isinstance(row, dict) and all(
        isinstance(row.get(name), list) and row[name] and all(isinstance(text, str) for text in row[name])
        for name in ("chosen", "rejected")
    )


def read_list_rows(name: str, rows: Sequence[files.LocatedRow]) -> ListSet:
    """Read rows with lists of responses; rows that cannot be used are counted in the report."""
    report = DataReport(name, "best_of_n")
    parsed = []
    for where, row in rows:
        try:
            if not is_list_row(row):
                raise RowError("missing_field", "chosen")
            parsed.append(_parse(row))
            report.keep()
        except RowError as error:
            report.drop(where, error.reason, error.field)
    styles = bool(parsed) and all(len(row.chosen) == len(row.rejected) == STYLES for row in parsed)
    report.layout = "styles" if styles else "best_of_n"
    return ListSet(name, parsed, report, styles)


def _parse(row: Row) -> ListRow:
    name = fields.require_any(row, ("prompt", "question", "instruction", "input"))
    turns, _ = conversations.drop_trailing_responses(conversations.parse_conversation(row[name], name))
    subset = next((row[key] for key in ("subset", "domain", "section") if isinstance(row.get(key), str)), "")
    chosen, rejected = (
        tuple(fields.require_text(t, key) for t in row[key]) for key in ("chosen", "rejected")
    )
    return ListRow(
        Prompt(content_hash(turns), turns, domain=subset), chosen, rejected, str(row.get("id") or "")
    )


def score_lists(scorer: PairScorer, list_set: ListSet) -> Section:
    """Score every response and compute the benchmark's own figures, with 95 % intervals clustered by prompt."""
    flat = [(row.prompt, text) for row in list_set.rows for text in (*row.chosen, *row.rejected)]
    rewards = scorer.score_responses([prompt for prompt, _ in flat], [text for _, text in flat])
    per_row, start = [], 0
    for row in list_set.rows:
        count = len(row.chosen) + len(row.rejected)
        per_row.append(rewards[start : start + count])
        start += count
    finite = [i for i, values in enumerate(per_row) if np.isfinite(values).all()]
    rows, values = [list_set.rows[i] for i in finite], [per_row[i] for i in finite]
    figures = style_figures(rows, values) if list_set.styles else best_of_figures(rows, values)
    return {"rows": len(rows), "unscored": len(list_set.rows) - len(rows), **figures}


def style_figures(rows: Sequence[ListRow], rewards: Sequence[RewardArray]) -> Section:
    """Compute RM-Bench's easy, normal and hard accuracy, overall and by domain; `share` is the mean of the three."""

    def figures(chosen: Sequence[int]) -> Section:
        wins = np.array(
            [rewards[i][:STYLES, None] > rewards[i][None, STYLES:] for i in chosen]
        )  # [row, style of chosen, style of rejected]
        prompts = [rows[i].prompt.id for i in chosen]
        below, above = np.tril_indices(STYLES, -1), np.triu_indices(STYLES, 1)
        matrix = wins.mean(0)
        return {
            "matrix": matrix.tolist(),
            "easy": _clustered(wins[:, below[0], below[1]], prompts),
            "normal": _clustered(wins[:, range(STYLES), range(STYLES)], prompts),
            "hard": _clustered(wins[:, above[0], above[1]], prompts),
            "accuracy": _clustered(wins.reshape(len(wins), -1), prompts),
        }

    return {**figures(range(len(rows))), "by_domain": _by_domain(rows, figures)} if rows else {}


def best_of_figures(rows: Sequence[ListRow], rewards: Sequence[RewardArray]) -> Section:
    """Compute best-of-n accuracy overall and by subset, and the score of Ties where there is such a subset.

    A row is right when its lowest chosen reward is strictly above its highest rejected one. A single chosen response
    that ties for the highest reward counts 1 ÷ the number of tied responses, so equal rewards count as guesses. Source:
    RewardBench 2, `rewardbench/utils.py`, `reroll_and_score_dataset`.
    """
    credits = [
        _credit(row_rewards[: len(row.chosen)], row_rewards[len(row.chosen) :])
        for row, row_rewards in zip(rows, rewards, strict=True)
    ]

    def figures(chosen: Sequence[int]) -> Section:
        right = np.array([[credits[i]] for i in chosen])
        guess = np.mean([_chance(rows[i]) for i in chosen])
        return {
            "accuracy": _clustered(right, [rows[i].prompt.id for i in chosen]),
            "chance": float(guess),
        }

    if not rows:
        return {}
    plain_rows = [i for i, row in enumerate(rows) if not _is_tie_row(row)]
    section: Section = {
        "by_domain": _by_domain(
            [rows[i] for i in plain_rows], lambda indices: figures([plain_rows[i] for i in indices])
        )
    }
    if plain_rows:
        section |= figures(plain_rows)
    ties = [i for i, row in enumerate(rows) if _is_tie_row(row)]
    if ties:
        section["ties"] = ties_score([rows[i] for i in ties], [rewards[i] for i in ties])
    return section


def ties_score(rows: Sequence[ListRow], rewards: Sequence[RewardArray]) -> Section:
    """Compute the score of RewardBench 2's Ties: 0.3 tied + 0.3 ref accuracy + 0.2 + 0.2 margins + 0.01 tanh term.

    For a prompt with a `tied` and a `ref` row: the spread between the best and the worst chosen reward of the tied row
    should be smaller than the gap to the best rejected one, in the tied row (`preferred`) and in the worse of both
    (`preferred_hard`). The maximum is 1.01. Source: RewardBench 2, `rewardbench/utils.py`, `process_single_model`.
    """
    gaps: dict[str, dict[str, float]] = defaultdict(dict)
    spreads: dict[str, float] = {}
    for row, values in zip(rows, rewards, strict=True):
        kind, _, prompt_number = row.name.partition(":")
        right, wrong = values[: len(row.chosen)], values[len(row.chosen) :]
        gaps[kind][prompt_number] = float(right.min() - wrong.max())
        if kind == "tied":
            spreads[prompt_number] = float(right.max() - right.min())
    accuracy = {
        kind: float(np.mean([float(gap > 0) for gap in gaps[kind].values()] or [0.0]))
        for kind in ("tied", "ref")
    }
    shared = sorted(gaps["tied"].keys() & gaps["ref"].keys())
    section: Section = {
        "tied_accuracy": accuracy["tied"],
        "ref_accuracy": accuracy["ref"],
        "prompts": len(shared),
    }
    if not shared:
        return section
    spread = np.array([spreads[n] for n in shared])
    tied, ref = np.array([gaps["tied"][n] for n in shared]), np.array([gaps["ref"][n] for n in shared])
    preferred, hard = float((tied > spread).mean()), float((np.minimum(tied, ref) > spread).mean())
    # A spread of 0 makes the term ±1, its limit, and 0 where the gap is 0 too, as the source does.
    with np.errstate(divide="ignore", invalid="ignore"):
        term = float(np.nan_to_num(np.tanh(np.minimum(tied, ref) / spread - 1), nan=0.0).mean())
    score = 0.3 * accuracy["tied"] + 0.3 * accuracy["ref"] + 0.2 * preferred + 0.2 * hard + 0.01 * term
    return section | {"preferred": preferred, "preferred_hard": hard, "score": score}


def _credit(right: RewardArray, wrong: RewardArray) -> float:
    if len(right) == 1 and right[0] == wrong.max():
        return 1 / (1 + int((wrong == right[0]).sum()))
    return float(right.min() > wrong.max())


def _is_tie_row(row: ListRow) -> bool:
    return row.prompt.domain == TIES_SUBSET or row.name.startswith(("tied:", "ref:"))


def _chance(row: ListRow) -> float:
    """Return the chance that random distinct rewards put every chosen response above every rejected one."""
    chance = 1.0
    for k in range(1, len(row.chosen) + 1):
        chance *= k / (len(row.rejected) + k)
    return chance


def _by_domain(rows: Sequence[ListRow], figures: Callable[[Sequence[int]], Section]) -> dict[str, Section]:
    names = sorted({row.prompt.domain for row in rows} - {""})
    return {name: figures([i for i, row in enumerate(rows) if row.prompt.domain == name]) for name in names}


def _clustered(right: np.ndarray, prompts: Sequence[str]) -> Section:
    """Compute a share over [row, comparison] with its interval, clustered by prompt."""
    index = np.unique(prompts, return_inverse=True)[1]
    trials = np.bincount(index, np.full(len(right), right.shape[1]))
    interval = clustered_jeffreys(np.bincount(index, right.sum(1)), trials, halves=bool((right % 1).any()))
    return {
        "pairs": int(right.size),
        "prompts": len(trials),
        "share": float(right.mean()),
        "low": interval.low,
        "high": interval.high,
    }
