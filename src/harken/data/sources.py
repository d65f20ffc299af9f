"""Load prompts, demonstrations or preferences for a training stage, with limits and held-out splits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from harken import seeds
from harken.config.base import DataConfig
from harken.data import parse
from harken.data.classified import parse_classified_rows, parse_rated_rows
from harken.data.parse import DEFAULT_SEED, Pair
from harken.data.report import DROP_FIXES, DataReport
from harken.data.token_pairs import shared_prefix
from harken.errors import UserError
from harken.records import Demonstration, Prompt, TokenPair

Record = TypeVar("Record", Prompt, Demonstration, Pair)

SAMPLE_ROWS = 400
"""Rows of a data set whose tokens represent all rows in checks and estimates."""


def load_prompts(
    data: DataConfig, path: str | None = None, seed: int = DEFAULT_SEED, keep: Sequence[str] = ()
) -> tuple[list[Prompt], DataReport]:
    """Load the distinct prompts of `path` (default `data.path`), at most `data.limit`.

    Responses in the rows are ignored. The columns `keep` become part of `Prompt.details`.
    Raises UserError when the source cannot be read, when no layout fits it, and
    when no row is usable.
    """
    return _some(*parse.parse_prompt_rows(data, path, keep), data.limit, seed)


def load_demonstrations(
    data: DataConfig, path: str | None = None, seed: int = DEFAULT_SEED
) -> tuple[list[Demonstration], DataReport]:
    """Load prompts with their target responses: the better side of a preference, the best response of a ranking.

    Raises UserError as `load_prompts` does.
    """
    return _some(*parse.parse_demonstration_rows(data, path), data.limit, seed)


def load_rated(
    data: DataConfig, path: str | None = None, seed: int = DEFAULT_SEED
) -> tuple[list[Demonstration], DataReport]:
    """Load single responses with a thumb up or down (`Demonstration.desirable`).

    Raises UserError as `load_prompts` does, and when rows are not single responses.
    """
    return _some(*parse_rated_rows(data, path), data.limit, seed)


def load_classified(
    data: DataConfig, path: str | None = None, seed: int = DEFAULT_SEED
) -> tuple[list[Demonstration], DataReport]:
    """Load single responses of two labels, or both sides of pairs: `Demonstration.desirable` is the positive label.

    Raises UserError as `load_prompts` does, and when it is unclear which label is the positive one.
    """
    return _some(*parse_classified_rows(data, path), data.limit, seed)


def load_preferences(
    data: DataConfig, path: str | None = None, seed: int = DEFAULT_SEED, *, soft: bool = False
) -> tuple[list[Pair], DataReport]:
    """Load pairs of responses; ties have label 1/2. `soft`: use the raters' shares as labels, where they are known.

    Raises UserError as `load_prompts` does.
    """
    return _some(*parse.parse_preference_rows(data, path, soft=soft, seed=seed), data.limit, seed)


def load_split(
    data: DataConfig,
    load: Callable[[DataConfig, str | None, int], tuple[list[Record], DataReport]],
    seed: int,
) -> tuple[list[Record], list[Record], list[DataReport]]:
    """Load training and held-out records with one of the loaders above, and a report for each file read.

    `eval_path` and `eval_split` name the held-out rows; else `eval_fraction` of the distinct prompts (at least
    one) is held out with all their rows, so that no prompt is on both sides. The choice depends only on the seed and
    the conversations. `limit` limits both sides; `eval_limit` replaces it for the held-out side; `balance`
    acts on the training rows alone. Raises UserError when nothing is left to train on, `eval_split` is set for a
    source without splits, or `balance` for rows of one group.
    """
    eval_limit = data.limit if data.eval_limit is None else data.eval_limit
    _require_splits(data)
    records, report = load(data.model_copy(update={"limit": None}), None, seed)
    warn_duplicates(records, report)
    if data.eval_path is not None or data.eval_split is not None:
        path = data.path if data.eval_path is None else data.eval_path
        split = data.split if data.eval_split is None else data.eval_split
        held_out, second = load(data.model_copy(update={"limit": eval_limit, "split": split}), path, seed)
        if data.eval_split is not None:
            second.path = f"{path}, split {split}"
        train = _chosen(records, data, seed, report)
        _warn_of_leaks(train, held_out, second)
        return train, held_out, [report, second]
    keys = sorted({prompt_key(r) for r in records}, key=lambda key: seeds.derive_seed(seed, "held out", key))
    held_out_keys = set(keys[: max(round(len(keys) * data.eval_fraction), 1)] if data.eval_fraction else [])
    train = [r for r in records if prompt_key(r) not in held_out_keys]
    held_out = [r for r in records if prompt_key(r) in held_out_keys]
    if not train:
        raise UserError(
            f"eval_fraction {data.eval_fraction} leaves none of its {len(keys)} prompts to train on",
            where=report.path,
            fix="lower data.eval_fraction or add rows",
        )
    train = _chosen(train, data, seed, report)
    return train, _limited(held_out, eval_limit, seed, report), [report]


def _require_splits(data: DataConfig) -> None:
    """Raise UserError where `eval_split` would read the training file itself."""
    path = data.path if data.eval_path is None else data.eval_path
    if data.eval_split is not None and (path.startswith("demo:") or Path(path).expanduser().is_file()):
        raise UserError(
            f"{path} is one file, which has no splits",
            where="data.eval_split",
            fix="name the held-out file as data.eval_path and leave data.eval_split out, or use data.eval_fraction",
        )


def warn_duplicates(records: Sequence[Prompt | Demonstration | Pair], report: DataReport) -> None:
    """Warn of rows that repeat an earlier row's prompt and responses, regardless of ids."""
    repeats = len(records) - len({_row_content(record) for record in records})
    if repeats:
        report.warnings.append(
            f"{repeats:,} of {len(records):,} rows repeat an earlier one, prompt and responses: "
            "each repetition counts in training"
        )


def _warn_of_leaks(
    train: Sequence[Prompt | Demonstration | Pair],
    held_out: Sequence[Prompt | Demonstration | Pair],
    report: DataReport,
) -> None:
    """Warn of held-out prompts that are also in the training data."""
    trained = {prompt_key(record) for record in train}
    leaked = sum(prompt_key(record) in trained for record in held_out)
    if leaked:
        report.warnings.append(
            f"{leaked:,} of {len(held_out):,} held-out prompts are in the training data (by the hash of the "
            "conversation): held-out figures are too good. Fix: remove them from data.path, or use data.eval_fraction, "
            "which never leaks"
        )


def _some(
    records: list[Record], report: DataReport, limit: int | None, seed: int
) -> tuple[list[Record], DataReport]:
    if not records:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.dropped.most_common(4))
        fix = DROP_FIXES.get(max(report.dropped, key=lambda name: report.dropped[name]), "")
        raise UserError(
            f"none of its {report.raw} rows can be used: {reasons}",
            where=report.path,
            fix=f"correct the rows (the first is {report.dropped_rows[0].where}), {f'{fix}, ' if fix else ''}"
            f"or set data.layout (now {report.layout})",
        )
    return _limited(records, limit, seed, report), report


def _chosen(records: list[Record], data: DataConfig, seed: int, report: DataReport) -> list[Record]:
    """Return the training records that `balance` and `limit` leave, in their original order."""
    if data.balance is None:
        return _limited(records, data.limit, seed, report)
    groups: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        groups.setdefault(_group(record, data.balance), []).append(number)
    if len(groups) < 2:
        raise UserError(
            f"all rows have the {data.balance} {next(iter(groups))!r}",
            where="data.balance",
            fix=f"name the column of the {data.balance} in data.columns, or remove data.balance",
        )
    size = min(map(len, groups.values()))
    if data.limit is not None:
        size = max(min(size, data.limit // len(groups)), 1)
    kept = {
        own[i]
        for name, own in groups.items()
        for i in seeds.permutation(len(own), seed, "balance", name)[:size]
    }
    for _ in range(len(records) - len(kept)):
        report.drop_kept(report.path, "over_balance")
    return [record for number, record in enumerate(records) if number in kept]


def _group(record: Prompt | Demonstration | Pair, by: str) -> str:
    row = record if isinstance(record, Prompt | TokenPair) else record.prompt
    return str(getattr(row, by))


def _limited(records: list[Record], limit: int | None, seed: int, report: DataReport) -> list[Record]:
    """Return at most `limit` records, chosen by the seed, in their original order."""
    if limit is None or len(records) <= limit:
        return records
    for _ in range(len(records) - limit):
        report.drop_kept(report.path, "over_limit")
    return [records[i] for i in sorted(seeds.permutation(len(records), seed, "limit")[:limit])]


def _row_content(record: Prompt | Demonstration | Pair) -> object:
    if isinstance(record, TokenPair):
        return record.chosen_tokens, record.rejected_tokens
    if isinstance(record, Prompt):
        return prompt_key(record)
    responses = (record.response,) if isinstance(record, Demonstration) else (record.chosen, record.rejected)
    return prompt_key(record), *responses


def prompt_key(record: Prompt | Demonstration | Pair) -> str:
    """Return a key that is equal for records with the same conversation, regardless of ids."""
    if isinstance(record, TokenPair):
        return repr(shared_prefix(record))
    prompt = record if isinstance(record, Prompt) else record.prompt
    return parse.content_hash(prompt.messages, prompt.tools)
