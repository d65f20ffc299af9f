"""What a training stage reads: prompts, demonstrations or preferences, limited and split by the seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from harken import seeds
from harken.config.base import DataConfig
from harken.data import parse
from harken.data.parse import Pair
from harken.data.report import DataReport
from harken.data.token_pairs import shared_prefix
from harken.errors import UserError
from harken.records import Demonstration, Prompt, TokenPair

Record = TypeVar("Record", Prompt, Demonstration, Pair)

DEFAULT_SEED = 839


def load_prompts(
    data: DataConfig, path: str | None = None, seed: int = DEFAULT_SEED
) -> tuple[list[Prompt], DataReport]:
    """Conversations to answer from `path` (default `data.path`), each once, at most `data.limit`.

    Whatever else a row holds, its answers are not read. Raises UserError when the source cannot be read,
    when no layout fits it, and when not one row is usable.
    """
    return _some(*parse.prompts(data, path), data.limit, seed)


def load_demonstrations(
    data: DataConfig, path: str | None = None, seed: int = DEFAULT_SEED
) -> tuple[list[Demonstration], DataReport]:
    """Prompts with the answer to imitate: of a preference the better side, of a ranking the best answer.

    Raises UserError as `load_prompts` does.
    """
    return _some(*parse.demonstrations(data, path), data.limit, seed)


def load_preferences(
    data: DataConfig, path: str | None = None, seed: int = DEFAULT_SEED, *, soft: bool = False
) -> tuple[list[Pair], DataReport]:
    """Pairs of answers; ties are kept with label 1/2. `soft`: the raters' shares as labels, where they are
    known.

    Raises UserError as `load_prompts` does.
    """
    return _some(*parse.preferences(data, path, soft=soft), data.limit, seed)


def load_split(
    data: DataConfig,
    load: Callable[[DataConfig, str | None, int], tuple[list[Record], DataReport]],
    seed: int,
) -> tuple[list[Record], list[Record], list[DataReport]]:
    """Training and held-out records of one of the loaders above, and a report for each file read.

    `eval_path` and `eval_split` name the held-out rows; else `eval_fraction` of the distinct prompts (at least
    one) is held out with all their rows, so that no prompt is on both sides. Which ones depends on the seed and
    the conversations alone. `limit` bounds both sides, `eval_limit` the held-out one in its place. Raises
    UserError when nothing is left to train on, or `eval_split` names a split of a source that has none.
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
        train = _limited(records, data.limit, seed, report)
        _warn_of_leaks(train, held_out, second)
        return train, held_out, [report, second]
    keys = sorted({_prompt_key(r) for r in records}, key=lambda key: seeds.derive_seed(seed, "held out", key))
    aside = set(keys[: max(round(len(keys) * data.eval_fraction), 1)] if data.eval_fraction else [])
    train = [r for r in records if _prompt_key(r) not in aside]
    held_out = [r for r in records if _prompt_key(r) in aside]
    if not train:
        raise UserError(
            f"eval_fraction {data.eval_fraction} leaves none of its {len(keys)} prompts to train on",
            where=report.path,
            fix="Lower data.eval_fraction or bring more rows",
        )
    train = _limited(train, data.limit, seed, report)
    return train, _limited(held_out, eval_limit, seed, report), [report]


def _require_splits(data: DataConfig) -> None:
    """Raise UserError where `eval_split` would read the very file that is trained on."""
    path = data.path if data.eval_path is None else data.eval_path
    if data.eval_split is not None and (path.startswith("demo:") or Path(path).expanduser().is_file()):
        raise UserError(
            f"{path} is one file, which has no splits",
            where="data.eval_split",
            fix="Name the held-out file as data.eval_path and leave data.eval_split out, or use data.eval_fraction",
        )


def warn_duplicates(records: Sequence[Prompt | Demonstration | Pair], report: DataReport) -> None:
    """Put into the report how many rows say what an earlier one says, prompt and answers, whatever their ids."""
    again = len(records) - len({_whole(record) for record in records})
    if again:
        report.warnings.append(
            f"{again:,} of {len(records):,} rows repeat an earlier one, prompt and answers: "
            "each weighs as often as it stands there"
        )


def _warn_of_leaks(
    train: Sequence[Prompt | Demonstration | Pair],
    held_out: Sequence[Prompt | Demonstration | Pair],
    report: DataReport,
) -> None:
    """Put into the report of the held-out rows how many of their prompts are trained on."""
    trained = {_prompt_key(record) for record in train}
    leaked = sum(_prompt_key(record) in trained for record in held_out)
    if leaked:
        report.warnings.append(
            f"{leaked:,} of {len(held_out):,} held-out prompts are trained on (by the hash of the conversation): "
            "held-out figures are too good; take them out of data.path, or use data.eval_fraction, which never leaks"
        )


def _some(
    records: list[Record], report: DataReport, limit: int | None, seed: int
) -> tuple[list[Record], DataReport]:
    if not records:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report.dropped.most_common(4))
        raise UserError(
            f"none of its {report.raw} rows can be used: {reasons}",
            where=report.path,
            fix=f"First: {report.dropped_rows[0].where}. Mend the rows, or set data.layout (now {report.layout})",
        )
    return _limited(records, limit, seed, report), report


def _limited(records: list[Record], limit: int | None, seed: int, report: DataReport) -> list[Record]:
    """At most `limit` of them, chosen by the seed, in their old order."""
    if limit is None or len(records) <= limit:
        return records
    for _ in range(len(records) - limit):
        report.drop_kept(report.path, "over_limit")
    return [records[i] for i in sorted(seeds.permutation(len(records), seed, "limit")[:limit])]


def _whole(record: Prompt | Demonstration | Pair) -> object:
    if isinstance(record, TokenPair):
        return record.chosen_tokens, record.rejected_tokens
    if isinstance(record, Prompt):
        return _prompt_key(record)
    answers = (record.response,) if isinstance(record, Demonstration) else (record.chosen, record.rejected)
    return _prompt_key(record), *answers


def _prompt_key(record: Prompt | Demonstration | Pair) -> str:
    """The same for records about one conversation, whatever ids their rows have."""
    if isinstance(record, TokenPair):
        return repr(shared_prefix(record))
    prompt = record if isinstance(record, Prompt) else record.prompt
    return parse.content_hash(prompt.messages, prompt.tools)
