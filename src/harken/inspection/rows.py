"""What the rows of a recorded update must hold before anything is computed from them."""

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

RESTORE = "restore the file, or look at another update"


class _Row(Schema):
    # What a run that went wrong recorded is what one wants to look at: NaN and infinity are let through.
    model_config = ConfigDict(allow_inf_nan=True)


class RolloutRow(_Row):
    """One answer, as rollouts/*.parquet has it."""

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
    def _of_one_answer(self) -> RolloutRow:
        if len(self.sampler_logprobs) != len(self.response_tokens):
            raise ValueError("sampler_logprobs and response_tokens are of different lengths")
        parts = self.model_extra or {}
        for name, value in parts.items():
            weight = parts.get(f"weight_{name.removeprefix('score_')}")
            if name.startswith("score_") and not (_number(value) and _number(weight)):
                raise ValueError(f"{name} and its weight are no numbers")
        return self


class _Turn(Schema):
    role: Literal["system", "user", "assistant", "tool"]
    content: str


class _Conversation(Schema):
    messages: list[_Turn]


class CreditRow(_Row):
    """How the tokens of one answer were credited, as credit/*.parquet has it."""

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

    @model_validator(mode="after")
    def _of_one_answer(self) -> CreditRow:
        columns = {name: getattr(self, name) for name in TOKEN_COLUMNS}
        lengths = {len(column) for column in columns.values() if column is not None}
        if len(lengths) > 1:
            raise ValueError(f"its columns are of different lengths ({', '.join(map(str, sorted(lengths)))})")
        return self


def _number(value: object) -> bool:
    return value is None or isinstance(value, float)


def require_rows(rows: Sequence[dict[str, Any]], shape: type[Schema], path: Path) -> None:
    """Raise UserError, naming the row and the column, for a table with a row of another shape, or with none."""
    if not rows:
        raise UserError("there are no answers in it", where=str(path), fix=RESTORE)
    for number, row in enumerate(rows):
        validate(row, shape, f"{path}:row {number}", RESTORE)


def messages_of(record: dict[str, Any]) -> tuple[Message, ...]:
    """The conversation of a row of rollouts. Raises UserError when it is none."""
    where = f"the answer to {record['prompt_id']}"
    try:
        told = {"messages": json.loads(record["messages"])}
    except (ValueError, RecursionError) as error:
        raise UserError(f"its messages are not JSON ({error})", where=where, fix=RESTORE) from None
    validate(told, _Conversation, where, RESTORE)
    return tuple(Message.from_dict(turn) for turn in told["messages"])
