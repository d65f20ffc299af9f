"""credit/update-NNNNNN.parquet: how every token of an update's rollouts was credited. No torch.

One row a rollout, in the order of rollouts/update-NNNNNN.parquet; lists over the response tokens. Numbers are
float32, as they were computed, so that a replay starts from exactly what the run saw.
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


class Grid(Protocol):
    """A [batch, time] tensor or array."""

    def tolist(self) -> Any:
        """Its rows as lists."""
        ...


@dataclass(frozen=True)
class TokenColumns:
    """What is known of each token, [batch, time] each; read where `action` is True and nowhere else.

    Log-probabilities, `kl` and `price` are in nats, `rewards`, `values` and `returns` in units of reward.
    """

    old_logprobs: Grid
    reference_logprobs: Grid
    kl: Grid
    """k1, whatever the estimator."""
    kl_penalty: Grid
    """The estimate of the KL that is paid for."""
    rewards: Grid
    advantages: Grid
    """As the loss used them: whitened, when the run whitens."""
    returns: Grid
    policy_mask: Grid
    """True where the policy's loss falls."""
    value_mask: Grid
    """True where the critic's loss falls."""
    values: Grid | None = None
    """None: there is no critic."""
    new_logprobs: Grid | None = None
    """Under the policy after the update; None when they were not measured."""


TOKEN_COLUMNS = tuple(field.name for field in fields(TokenColumns))

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
    response_mask: Grid,
    tokens: TokenColumns,
    *,
    kl_coefficient: float,
    final_values: Sequence[float] | None,
    step: int,
) -> None:
    """One parquet row a rollout, whole or not at all.

    `action` [batch, time] marks the response tokens. `score` becomes the weighted sum of a rollout's
    sources, `final_values` V of each whole sequence (None without a critic), `kl_coefficient` the price
    of a nat in this update. Raises ValueError when `action` marks another number of tokens in a row than
    its rollout has, or a column has another shape.
    """
    flags = response_mask.tolist()
    ragged = {name: _selected(getattr(tokens, name), flags, name) for name in TOKEN_COLUMNS}
    for row, length in zip(scored, (sum(row) for row in flags), strict=True):
        if length != len(row.rollout.response_tokens):
            raise ValueError(
                f"{length} actions for the {len(row.rollout.response_tokens)} tokens of {row.rollout.prompt.id!r}"
            )
    finals = [None] * len(scored) if final_values is None else final_values
    records = [
        {
            "prompt_id": row.rollout.prompt.id,
            "sample": row.rollout.sample,
            "step": step,
            "kl_coefficient": kl_coefficient,
            "score": row.reward,
            "final_value": final,
            **{name: column[number] for name, column in ragged.items()},
        }
        for number, (row, final) in enumerate(zip(scored, finals, strict=True))
    ]
    write_table(path, _SCHEMA, records)


def read_credit(path: Path) -> list[dict[str, Any]]:
    """The rows of a credit table. Raises UserError when it is missing, damaged or lacks a column."""
    rows = read_rows(path)
    if rows and (missing := _SCHEMA.keys() - rows[0].keys()):
        raise UserError(
            f"not a credit table of this version: no column {', '.join(sorted(missing))}",
            where=str(path),
            fix="look at a run of this version",
        )
    return rows


def _selected(grid: Grid | None, flags: Sequence[Sequence[bool]], name: str) -> list[list[Any] | None]:
    """The values of each row where its flags are True."""
    if grid is None:
        return [None] * len(flags)
    rows = grid.tolist()
    if [len(row) for row in rows] != [len(row) for row in flags]:
        raise ValueError(f"{name} has another shape than action")
    return [
        [value for value, is_action in zip(row, row_flags, strict=True) if is_action]
        for row, row_flags in zip(rows, flags, strict=True)
    ]
