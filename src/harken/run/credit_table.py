"""Write and read credit/update-NNNNNN.parquet: the PPO targets of every token of an update's rollouts.

One row per rollout, in the order of rollouts/update-NNNNNN.parquet; lists have one entry per response token. Numbers
are float32, as they were computed, so that a replay starts from exactly the values of the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from harken.errors import UserError
from harken.records import ScoredRollout
from harken.run.tables import read_rows, write_table


class TokenTensor(Protocol):
    """Describe a [batch, time] tensor or array."""

    def tolist(self) -> Any:
        """Return the rows as lists."""
        ...


@dataclass(frozen=True)
class TokenColumns:
    """The values of each token, [batch, time] each. Only entries in the response mask are read.

    Log-probabilities, `kl` and `kl_penalty` are in nats; `rewards`, `values` and `returns` in units of reward.
    """

    old_logprobs: TokenTensor
    reference_logprobs: TokenTensor
    kl: TokenTensor
    """k1, for every estimator."""
    kl_penalty: TokenTensor
    """The KL estimate that the penalty uses (`kl_estimator`), before the coefficient."""
    rewards: TokenTensor
    advantages: TokenTensor
    """As the loss used them: whitened if the run whitens."""
    returns: TokenTensor
    policy_mask: TokenTensor
    """True where the policy loss is computed."""
    value_mask: TokenTensor
    """True where the value loss is computed."""
    values: TokenTensor | None = None
    """None without a critic."""
    new_logprobs: TokenTensor | None = None
    """Of the policy after the update, before a rollback; None if they were not measured."""
    entropies: TokenTensor | None = None
    """Of the policy's next-token distribution before the update, nats; None if they were not kept."""


TOKEN_COLUMNS = tuple(field.name for field in fields(TokenColumns))
_ADDED = frozenset(["entropies"])
"""Columns that tables of earlier versions lack; they are read as None."""

_SCHEMA: dict[str, pa.DataType] = {
    "prompt_id": pa.string(),
    "sample": pa.int64(),
    "step": pa.int64(),
    "kl_coefficient": pa.float32(),
    "score": pa.float32(),
    "final_value": pa.float32(),
    **{name: pa.list_(pa.float32()) for name in TOKEN_COLUMNS},
    "policy_mask": pa.list_(pa.bool_()),
    "value_mask": pa.list_(pa.bool_()),
}


def write_credit(
    path: Path,
    scored: Sequence[ScoredRollout],
    response_mask: TokenTensor,
    tokens: TokenColumns,
    *,
    kl_coef: float,
    final_values: Sequence[float] | None,
    step: int,
) -> None:
    """Write one parquet row per rollout, atomically.

    `response_mask` [batch, time] marks the response tokens. The column `score` is the weighted sum of a rollout's
    sources, `final_values` V after the last token (None without a critic), `kl_coef` the KL coefficient of this
    update. Raises ValueError if a row of `response_mask` does not match the length of its response, or a column has
    another shape.
    """
    mask_rows = response_mask.tolist()
    ragged = {name: _selected(getattr(tokens, name), mask_rows, name) for name in TOKEN_COLUMNS}
    for row, length in zip(scored, (sum(row) for row in mask_rows), strict=True):
        if length != len(row.rollout.response_tokens):
            raise ValueError(
                f"the mask has {length} tokens, the response to {row.rollout.prompt.id!r} "
                f"{len(row.rollout.response_tokens)}"
            )
    finals = [None] * len(scored) if final_values is None else final_values
    records = [
        {
            "prompt_id": row.rollout.prompt.id,
            "sample": row.rollout.sample,
            "step": step,
            "kl_coefficient": kl_coef,
            "score": row.reward,
            "final_value": final,
            **{name: column[index] for name, column in ragged.items()},
        }
        for index, (row, final) in enumerate(zip(scored, finals, strict=True))
    ]
    write_table(path, _SCHEMA, records)


def read_credit(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a credit table. Raises UserError if it is missing, damaged or lacks a column."""
    rows = read_rows(path)
    if rows and (missing := _SCHEMA.keys() - rows[0].keys() - _ADDED):
        raise UserError(
            f"not a credit table of this version: no column {', '.join(sorted(missing))}",
            where=str(path),
            fix="use a run that this version wrote",
        )
    return [dict.fromkeys(_ADDED) | row for row in rows]


def _selected(
    tensor: TokenTensor | None, mask_rows: Sequence[Sequence[bool]], name: str
) -> list[list[Any] | None]:
    """Return the values of each row where its mask is True."""
    if tensor is None:
        return [None] * len(mask_rows)
    rows = tensor.tolist()
    if [len(row) for row in rows] != [len(row) for row in mask_rows]:
        raise ValueError(f"{name} and response_mask have different shapes")
    return [
        [value for value, flag in zip(row, mask_row, strict=True) if flag]
        for row, mask_row in zip(rows, mask_rows, strict=True)
    ]
