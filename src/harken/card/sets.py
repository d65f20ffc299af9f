"""Read the pairs that a card is computed on: the run's own held-out pairs, and further files in any layout."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from harken import seeds
from harken.card.list_benchmarks import ListSet, is_list_row, read_list_rows
from harken.config.base import DataConfig
from harken.data import conversations, fields, files, sources
from harken.data.external_responses import GENERATOR_COLUMNS
from harken.data.fields import RowError
from harken.data.parse import Pair, content_hash
from harken.data.selection import selection_prompts
from harken.errors import UserError
from harken.records import Preference, Prompt, TokenPair
from harken.run.terminal import say

LAST_WEIGHTS = "the last weights were kept, so no held-out row chose them"
SELECTED = "the rows that chose the best checkpoint are left out"
GIVEN = "given with --data"


@dataclass(frozen=True)
class PairSet:
    """The pairs of one source. `note` says how they relate to training."""

    name: str
    pairs: list[Pair]
    note: str
    dropped: int = 0


def held_out_sets(data: DataConfig, selection_fraction: float, seed: int) -> tuple[PairSet, list[Pair]]:
    """Return the run's held-out pairs without those that chose its best checkpoint, and its training pairs."""
    training, held_out, reports = sources.load_split(data, sources.load_preferences, seed)
    chosen = selection_prompts([pair_id(pair) for pair in held_out], selection_fraction, seed)
    unselected = [pair for pair in held_out if pair_id(pair) not in chosen]
    note = SELECTED if selection_fraction else LAST_WEIGHTS
    return PairSet(reports[-1].path, unselected, note, reports[-1].dropped.total()), training


def read_set(data: DataConfig, seed: int) -> PairSet | ListSet:
    """Read one file: pairs in any layout, or lists of responses as in RewardBench 2 and RM-Bench.

    Raises UserError when it cannot be read, or no row can be used.
    """
    rows = files.read_source_rows(data.path, data.split)
    list_rows = sum(is_list_row(row) for _, row in rows)
    if 2 * list_rows > len(rows):  # most rows decide, because the first one may be invalid
        list_set = read_list_rows(data.path, rows)
        if not list_set.rows:
            problem, fix = list_set.report.explain_empty()
            raise UserError(problem, where=data.path, fix=fix)
        return list_set
    pairs, report = sources.load_preferences(data, None, seed)
    return PairSet(data.path, pairs, GIVEN, report.dropped.total())


def limit_pairs(pair_set: PairSet, limit: int | None, seed: int) -> PairSet:
    """Return at most `limit` pairs, chosen by the seed, in their order."""
    if limit is None or len(pair_set.pairs) <= limit:
        return pair_set
    indices = sorted(seeds.permutation(len(pair_set.pairs), seed, "card")[:limit])
    return PairSet(pair_set.name, [pair_set.pairs[i] for i in indices], pair_set.note, pair_set.dropped)


def pair_id(pair: Pair) -> str:
    """Return the id of a pair's prompt."""
    return pair.id if isinstance(pair, TokenPair) else pair.prompt.id


def prompts_of(pair_set: PairSet | ListSet) -> list[Prompt]:
    """Return the prompts of a set, one per row; none of pre-tokenised pairs."""
    if isinstance(pair_set, ListSet):
        return [row.prompt for row in pair_set.rows]
    return [pair.prompt for pair in pair_set.pairs if isinstance(pair, Preference)]


@dataclass(frozen=True)
class Samples:
    """Several responses to each prompt, and further scores of them (columns score_* and gold)."""

    prompts: list[Prompt]
    responses: list[list[str]]
    judged: dict[str, list[list[float]]]


def read_samples(path: str) -> Samples:
    """Read a responses file: rows with a prompt and a response, several per prompt, as an evaluation writes them.

    Rows that cannot be used, and scores that not every row has, are reported in a line. Raises UserError when it cannot
    be read, it has responses of several policies, or no prompt has two responses.
    """
    grouped: dict[str, list[tuple[Prompt, str, dict[str, float]]]] = defaultdict(list)
    policies: dict[str, None] = {}
    rows = [row for _, row in files.read_source_rows(path, "train")]
    for row in rows:
        try:
            if not isinstance(row, dict):
                raise RowError("not_an_object")
            prompt = Prompt("", conversations.parse_conversation(_prompt_value(row), "prompt"))
            text = fields.first_text(row, "response", "completion", "output", "answer")
        except (RowError, ValueError, RecursionError):
            continue
        grouped[content_hash(prompt.messages)].append((prompt, text, _scores(row)))
        if policy := next((row[name] for name in GENERATOR_COLUMNS if row.get(name) is not None), None):
            policies[str(policy)] = None
    if len(policies) > 1:  # the KL bound of best of n is for a single policy
        raise UserError(
            f"responses of several policies: {', '.join(list(policies)[:5])}",
            where=path,
            fix="give the rows of one policy, for example those of harken generate with one model",
        )
    groups = [group for group in grouped.values() if len(group) >= 2]
    if not groups:
        raise UserError(
            "no prompt has two responses",
            where=path,
            fix="give a file with the columns prompt and response, and several rows per prompt",
        )
    if unusable_count := len(rows) - sum(map(len, grouped.values())):
        say(
            f"{path}: {unusable_count:,} of {len(rows):,} rows have no prompt or no response, and are left out"
        )
    columns = [set(scores) for group in groups for _, _, scores in group]
    names = set.intersection(*columns)
    if partial := sorted(set.union(*columns) - names):
        say(f"{path}: not every row has a number in {', '.join(partial[:5])}, so they are left out")
    return Samples(
        [group[0][0] for group in groups],
        [[text for _, text, _ in group] for group in groups],
        {name: [[scores[name] for _, _, scores in group] for group in groups] for name in sorted(names)},
    )


def _prompt_value(row: fields.Row) -> object:
    """Return the conversation of a row; an evaluation's responses.parquet has it as JSON in `messages`."""
    messages = row.get("messages")
    return (
        json.loads(messages) if isinstance(messages, str) else fields.first_value(row, "messages", "prompt")
    )


def _scores(row: fields.Row) -> dict[str, float]:
    scores = {name: fields.to_float(value) for name, value in row.items() if _is_score(str(name))}
    return {name: value for name, value in scores.items() if value is not None and np.isfinite(value)}


def _is_score(name: str) -> bool:
    return name.startswith("score_") or name == "gold"
