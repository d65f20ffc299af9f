"""Validate the rows of a recorded update before anything is computed from them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, model_validator

from harken.errors import UserError
from harken.records import Message
from harken.run.credit_table import TOKEN_COLUMNS
from harken.run.json_io import Schema, validate

FIX = "restore the file, or choose another update"


class _Row(Schema):
    # NaN and infinity are allowed: failed runs are the ones that need inspection.
    model_config = ConfigDict(allow_inf_nan=True)


class RolloutRow(_Row):
    """Describe a row of rollouts/*.parquet: one response."""

    prompt_id: str
    sample: int
    domain: str | None
    language: str | None
    prompt: str
    messages: str
    response: str
    prompt_tokens: list[int]
    response_tokens: list[int]
    sampler_logprobs: list[float]
    stop: Literal["end_of_turn", "length"]
    policy_version: str
    reward: float

    @model_validator(mode="after")
    def _check_consistent(self) -> RolloutRow:
        if len(self.sampler_logprobs) != len(self.response_tokens):
            raise ValueError("sampler_logprobs and response_tokens have different lengths")
        parts = self.model_extra or {}
        for name, value in parts.items():
            weight = parts.get(f"weight_{name.removeprefix('score_')}")
            if name.startswith("score_") and not (_is_number(value) and _is_number(weight)):
                raise ValueError(f"{name} and its weight are not numbers")
        return self


class _Turn(Schema):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class _Conversation(Schema):
    messages: list[_Turn]


class CreditRow(_Row):
    """Describe a row of credit/*.parquet: the per-token values of one response."""

    prompt_id: str
    sample: int
    kl_coefficient: float
    final_value: float | None
    old_logprobs: list[float]
    reference_logprobs: list[float]
    kl: list[float]
    kl_penalty: list[float]
    rewards: list[float]
    advantages: list[float]
    returns: list[float]
    policy_mask: list[bool]
    value_mask: list[bool]
    values: list[float] | None
    new_logprobs: list[float] | None
    entropies: list[float] | None

    @model_validator(mode="after")
    def _check_consistent(self) -> CreditRow:
        columns = {name: getattr(self, name) for name in TOKEN_COLUMNS}
        lengths = {len(column) for column in columns.values() if column is not None}
        if len(lengths) > 1:
            raise ValueError(f"its columns have different lengths ({', '.join(map(str, sorted(lengths)))})")
        return self


def _is_number(value: object) -> bool:
    return value is None or isinstance(value, float)


def require_rows(rows: Sequence[dict[str, Any]], schema: type[Schema], path: Path) -> None:
    """Raise UserError, naming row and column, if a row does not fit the schema or the table is empty."""
    if not rows:
        raise UserError("the table has no rows", where=str(path), fix=FIX)
    for index, row in enumerate(rows):
        validate(row, schema, f"{path}:row {index}", FIX)


def read_messages(record: dict[str, Any]) -> tuple[Message, ...]:
    """Parse the conversation of a rollouts row. Raises UserError if it is not one."""
    where = f"the response to {record['prompt_id']}"
    try:
        conversation = {"messages": json.loads(record["messages"])}
    except (ValueError, RecursionError) as error:
        raise UserError(f"its messages are not JSON ({error})", where=where, fix=FIX) from None
    validate(conversation, _Conversation, where, FIX)
    return tuple(Message.from_dict(turn) for turn in conversation["messages"])
