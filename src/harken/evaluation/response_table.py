"""Index rows of responses by policy, prompt and sample, whichever tool wrote them. No torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harken.errors import UserError
from harken.evaluation.style import MARKUP, count_styles

MAX_LISTED = 5
MAX_SCORE = 3.4e38
"""Largest accepted magnitude, that of a float32, so that differences and their squares stay finite."""
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]|[^\W\u3040-\u30ff\u3400-\u9fff\u0e00-\u0e7f]+")
"""A word; in scripts without spaces (Chinese, Japanese, Thai) a character."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ResponseTable:
    """The rows of several policies on the same prompts and samples.

    `keys` has the (prompt, sample) pairs of each prompt; `clusters` has one number per prompt: that of its
    independent unit, which is the prompt itself or the cluster that a column names. `length_unit` is "tokens", or
    "words" where a response has no number of tokens; then all lengths are counted in words.
    """

    policies: list[str]
    keys: list[list[tuple[str, int]]]
    clusters: NDArray[np.int64]
    length_unit: str
    rows: dict[tuple[str, str, int], Mapping[str, Any]]
    _kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """Arrays already read: every pair of a policy needs the same columns, and counting words is slow."""

    @property
    def prompts(self) -> int:
        """Number of prompts."""
        return len(self.keys)

    @property
    def samples(self) -> int:
        """Number of samples of each prompt."""
        return len(self.keys[0])

    def column(self, policy: str, name: str) -> Numbers:
        """Return a column of one policy, [prompts, samples], NaN where there is no value. It is read-only."""
        return self._keep(("column", policy, name), partial(self._column, policy, name))

    def _column(self, policy: str, name: str) -> Numbers:
        values = [[self.rows[policy, p, s].get(name) for p, s in samples] for samples in self.keys]
        column = np.array([[np.nan if v is None else float(v) for v in row] for row in values])
        if (np.abs(column) > MAX_SCORE).any():
            raise UserError(
                f"{policy} has a value of {name} beyond ±{MAX_SCORE:g}",
                where="responses",
                fix="give finite numbers, null where there is none",
            )
        return column

    def lengths(self, policy: str) -> Numbers:
        """Return the lengths of the responses of a policy in `length_unit`, [prompts, samples]."""
        if self.length_unit == "tokens":
            return self.column(policy, "response_tokens")
        return self._keep(("words", policy), partial(self._word_counts, policy))

    def _word_counts(self, policy: str) -> Numbers:
        texts = [[self.rows[policy, p, s]["response"] for p, s in samples] for samples in self.keys]
        return np.array([[float(count_words(text)) for text in row] for row in texts])

    def styles(self, policy: str) -> dict[str, Numbers] | None:
        """Return the counts of each of `MARKUP`, [prompts, samples]; None where a response has no text."""
        key = ("styles", policy)
        if key not in self._kept:
            self._kept[key] = self._count_styles(policy)
        styles: dict[str, Numbers] | None = self._kept[key]
        return styles

    def _count_styles(self, policy: str) -> dict[str, Numbers] | None:
        texts = [self.rows[policy, p, s].get("response") for samples in self.keys for p, s in samples]
        if None in texts:
            return None
        counts = np.array([count_styles(str(text)) for text in texts], dtype=np.float64)
        shape = (self.prompts, self.samples)
        return {name: counts[:, i].reshape(shape) for i, name in enumerate(MARKUP)}

    def _keep(self, key: tuple[str, ...], read: Callable[[], Numbers]) -> Numbers:
        if key not in self._kept:
            self._kept[key] = read()
            self._kept[key].flags.writeable = False
        values: Numbers = self._kept[key]
        return values

    def labels(self, name: str) -> list[str]:
        """Return the value of a column for each prompt as text, "" where there is none.

        If the column differs between the policies or samples of a prompt, the first value is used.
        """
        first_values = [self.rows[self.policies[0], *samples[0]].get(name) for samples in self.keys]
        return ["" if value is None else str(value) for value in first_values]

    def prompt_lengths(self) -> tuple[Numbers, str] | None:
        """Return the length of each prompt and its unit; None if the rows have neither tokens nor texts."""
        first_rows = [self.rows[self.policies[0], *samples[0]] for samples in self.keys]
        tokens, texts = ([row.get(name) for row in first_rows] for name in ("prompt_tokens", "prompt"))
        if None not in tokens:
            return np.array([float(n) for n in tokens if n is not None]), "tokens"
        if None not in texts:
            return np.array([float(count_words(text)) for text in texts if text is not None]), "words"
        return None


def count_words(text: str) -> int:
    """Count the words of a text; in scripts without spaces every character counts."""
    return len(WORD.findall(text))


def build_table(rows: Sequence[Mapping[str, Any]], cluster: str | None = None) -> ResponseTable:
    """Index rows. `cluster` names a column that labels clusters of prompts which are not independent.

    Raises UserError when policies have responses to different prompts, which it names, when prompts have different
    numbers of samples, when a response occurs twice, when a reward is not finite, or when the column of clusters is
    missing.
    """
    if not rows:
        raise UserError("no responses to compare", where="responses", fix="evaluate at least one prompt")
    table: dict[tuple[str, str, int], Mapping[str, Any]] = {}
    prompts: dict[str, dict[tuple[str, int], None]] = {}
    clusters: dict[str, str] = {}
    for row in rows:
        policy, prompt, sample = row["policy"], row["prompt_id"], row["sample"]
        if (policy, prompt, sample) in table:
            raise UserError(
                f"{policy} has two responses to prompt {prompt!r}, sample {sample}",
                where="responses",
                fix="give each response to a prompt its own sample number: 0, 1, …",
            )
        if row["reward"] is None or not abs(row["reward"]) <= MAX_SCORE:
            raise UserError(
                f"{policy} has reward {row['reward']} on prompt {prompt!r}",
                where="responses",
                fix=f"give every row a finite reward within ±{MAX_SCORE:g}, or remove this prompt from all policies",
            )
        table[policy, prompt, sample] = row
        prompts.setdefault(policy, {})[prompt, sample] = None
        clusters.setdefault(prompt, prompt if cluster is None else _cluster_of(row, cluster))
    all_keys = list(dict.fromkeys(key for keys in prompts.values() for key in keys))
    for policy, keys in prompts.items():
        missing = [key for key in all_keys if key not in keys]
        if missing:
            raise UserError(
                f"{policy} has no response to {_list_keys(missing)}",
                where="responses",
                fix="compare policies on the same prompts and samples",
            )
    grouped: dict[str, list[tuple[str, int]]] = {}
    for prompt, sample in all_keys:
        grouped.setdefault(prompt, []).append((prompt, sample))
    expected_samples = len(next(iter(grouped.values())))
    uneven = [keys[0] for keys in grouped.values() if len(keys) != expected_samples]
    if uneven:
        raise UserError(
            f"prompts have different numbers of samples: {expected_samples}, but not for {_list_keys(uneven)}",
            where="responses",
            fix="sample every prompt equally often",
        )
    numbers = {name: i for i, name in enumerate(dict.fromkeys(clusters[p] for p in grouped))}
    return ResponseTable(
        list(prompts),
        list(grouped.values()),
        np.array([numbers[clusters[p]] for p in grouped], dtype=np.int64),
        _length_unit(rows),
        table,
    )


def _cluster_of(row: Mapping[str, Any], cluster: str) -> str:
    if row.get(cluster) is None:
        raise UserError(
            f"prompt {row['prompt_id']!r} has no value in column {cluster!r}, which names its cluster",
            where="responses",
            fix="give every row a value in this column, or leave the clusters of prompts out",
        )
    return str(row[cluster])


def _length_unit(rows: Sequence[Mapping[str, Any]]) -> str:
    if all(row.get("response_tokens") is not None for row in rows):
        return "tokens"
    if unmeasured := next((row for row in rows if row.get("response") is None), None):
        raise UserError(
            f"{unmeasured['policy']} has neither tokens nor a text of its response to prompt "
            f"{unmeasured['prompt_id']!r}",
            where="responses",
            fix="give every row `response` or `response_tokens`",
        )
    return "words"


def _list_keys(keys: Sequence[tuple[str, int]]) -> str:
    names = [
        f"{prompt!r}" if sample == 0 else f"{prompt!r} sample {sample}"
        for prompt, sample in keys[:MAX_LISTED]
    ]
    more = f" and {len(keys) - MAX_LISTED} more" if len(keys) > MAX_LISTED else ""
    return f"{len(keys)} of the prompts: {', '.join(names)}{more}"
