"""How long a stage's rows are: a sample of its own data as tokens, or the limits where there are none to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harken.config_base import DataConfig
from harken.data import sources
from harken.data.chat import Rejected, Renderer
from harken.errors import UserError
from harken.models.tokenizer import load_tokenizer
from harken.records import Demonstration, Preference, Prompt, TokenPair
from harken.seeds import permutation

SAMPLE = 400
"""Rows whose tokens are counted."""


@dataclass(frozen=True)
class Rows:
    """Lengths in tokens of some rows, and how many rows there are in all."""

    lengths: tuple[int, ...]
    """Of a pair its longer side; of a prompt the prompt alone."""
    answers: tuple[int, ...]
    """Tokens of each that a supervised loss falls on."""
    train: int | None
    """Rows to train on; None where the data cannot be read."""
    held_out: int
    note: str = ""
    """Why lengths are limits; "" when they were counted."""

    @property
    def known(self) -> bool:
        """Whether lengths are those of rows, and not only what rows may be."""
        return not self.note


def rows_of(kind: str, data: DataConfig, folder: Path | None, seed: int) -> Rows:
    """The rows of a stage of this kind (`sft`, `reward` or `ppo`). Every length is `max_length` where none is known."""
    if folder is None:
        return _limits(data, "no tokenizer to count with")
    try:
        renderer = Renderer(load_tokenizer(folder))
        train, held_out = _read(kind, data, seed)
    except UserError as error:
        return _limits(data, str(error))
    order = permutation(len(train), seed, "plan", "sample")[:SAMPLE]
    counted = [n for i in order if (n := _tokens(renderer, train[i], data.max_length)) is not None]
    if not counted:
        return _limits(data, f"not one of {len(order)} rows fits max_length")
    fitting = len(counted) / len(order)
    return Rows(
        tuple(n for n, _ in counted),
        tuple(n for _, n in counted),
        round(len(train) * fitting),
        round(len(held_out) * fitting),
    )


def _limits(data: DataConfig, why: str) -> Rows:
    note = f"every row is taken as {data.max_length} tokens long ({why})"
    return Rows((data.max_length,), (data.max_length,), data.limit, data.eval_limit or 0, note)


def _read(
    kind: str, data: DataConfig, seed: int
) -> tuple[Sequence[Demonstration | Preference | TokenPair | Prompt], Sequence[object]]:
    if kind == "sft":
        return sources.load_split(data, sources.load_demonstrations, seed)[:2]
    if kind == "reward":
        return sources.load_split(data, sources.load_preferences, seed)[:2]
    return sources.load_split(data, sources.load_prompts, seed)[:2]


def _tokens(
    renderer: Renderer, row: Demonstration | Preference | TokenPair | Prompt, limit: int
) -> tuple[int, int] | None:
    """(all, those that count) of a row as its loader would encode it; None for one it would leave out."""
    if isinstance(row, Prompt):
        try:
            fitted = renderer.fit_prompt(row.messages, limit)
        except UserError:
            return None
        return (len(fitted[0]), 0) if fitted else None
    if isinstance(row, Demonstration):
        shown = renderer.demonstration(row, limit)
        return None if isinstance(shown, Rejected) else (len(shown.tokens), sum(shown.action))
    pair = renderer.preference(row, limit)
    return (
        None if isinstance(pair, Rejected) else (max(len(pair.chosen_tokens), len(pair.rejected_tokens)), 0)
    )
