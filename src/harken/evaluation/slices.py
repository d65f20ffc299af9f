"""Divide prompts into slices: by a column, by the length of the prompt, by the length of the responses. No torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harken.errors import UserError
from harken.evaluation.response_table import Numbers, ResponseTable

MAX_SLICE_VALUES = 30
"""Slices of one column; the smallest ones are merged."""
LENGTH_SLICES = 3

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Slice:
    """The prompts with one value of a column. `rows(left, right)` marks them for a pair of policies, [prompts]."""

    column: str
    value: str
    rows: Callable[[str, str], Mask]


def build_slices(table: ResponseTable, columns: Sequence[str]) -> list[Slice]:
    """Return the slices of a comparison: domain and language, both lengths, and the named columns.

    A column with a single value gives no slice, except the domain. The slices by the length of the responses belong to
    a pair: they divide the prompts by the mean length of its two policies' responses. Raises UserError for a named
    column that no row has.
    """
    for name in columns:
        if not any(name in row for row in table.rows.values()):
            raise UserError(
                f"there is no column {name!r} to slice by",
                where="responses",
                fix=f"name a column of the responses: {', '.join(sorted(next(iter(table.rows.values()))))}",
            )
    named = list(dict.fromkeys(("domain", "language", *columns)))
    slices = [slice_ for name in named for slice_ in _by_column(table, name)]
    if measured := table.prompt_lengths():
        lengths, unit = measured
        slices += [Slice("prompt length", value, _same(mask)) for value, mask in _by_size(lengths, unit)]
    return slices + _by_response_length(table)


def _by_column(table: ResponseTable, name: str) -> Iterator[Slice]:
    labels = table.labels(name)
    counts = Counter(labels)
    if len(counts) < 2 and name != "domain":
        return
    largest = sorted(value for value, _ in counts.most_common(MAX_SLICE_VALUES))
    values = np.array(labels, dtype=object)
    for value in largest:
        yield Slice(name, value, _same(values == value))
    if (merged_count := len(counts) - len(largest)) > 0:
        merged_name = f"({merged_count} other values)"
        while merged_name in counts:  # a value of the data may have any name
            merged_name = f"({merged_name})"
        yield Slice(name, merged_name, _same(np.array([label not in largest for label in labels])))


def _same(mask: NDArray[Any]) -> Callable[[str, str], Mask]:
    return lambda left, right: mask.astype(np.bool_)


def _by_size(lengths: Numbers, unit: str) -> list[tuple[str, Mask]]:
    """Divide at the terciles; [] where they coincide."""
    bounds = np.quantile(lengths, np.arange(1, LENGTH_SLICES) / LENGTH_SLICES)
    slice_index = np.searchsorted(bounds, lengths)
    if len(np.unique(slice_index)) < LENGTH_SLICES or len(np.unique(bounds)) < len(bounds):
        return []
    # Lengths are integers, so none lies between a bound and its floor.
    edges = [math.floor(bound) for bound in bounds]
    names = [f"≤ {edges[0]} {unit}", *(f"{a + 1}–{b} {unit}" for a, b in pairwise(edges))]
    return [(name, slice_index == i) for i, name in enumerate([*names, f"> {edges[-1]} {unit}"])]


def _by_response_length(table: ResponseTable) -> list[Slice]:
    if table.prompts < LENGTH_SLICES:
        return []
    means = {policy: table.lengths(policy).mean(axis=1) for policy in table.policies}
    names = ("short", "medium", "long")

    def third(i: int) -> Callable[[str, str], Mask]:
        def mask(left: str, right: str) -> Mask:
            mean = (means[left] + means[right]) / 2
            bounds = np.quantile(mean, np.arange(1, LENGTH_SLICES) / LENGTH_SLICES)
            inside: Mask = np.searchsorted(bounds, mean) == i
            return inside

        return mask

    return [Slice("response length", name, third(i)) for i, name in enumerate(names)]
