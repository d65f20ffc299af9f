"""Parse files of responses that other systems generated: one row per response, or per prompt with several.

Known forms: a prompt (or its id) with a response in one of the usual columns, a list of responses, a conversation that
ends in an assistant turn, and the output of these tools: AlpacaEval, MT-bench and Arena-Hard answers, vLLM and OpenAI
outputs (batch files too), lm-evaluation-harness samples, and `responses.parquet` of an evaluation of Harken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harken.data import columns, conversations, fields, files
from harken.data.conversations import Conversation
from harken.data.fields import Row, RowError
from harken.data.report import REASONS
from harken.errors import UserError
from harken.records import StopReason
from harken.run.terminal import escape_invisible

ID_COLUMNS = ("prompt_id", "question_id", "custom_id", "uid", "id", "doc_id", "idx", "index")
GENERATOR_COLUMNS = ("policy", "generator", "model_id", "model_name", "model")
RESPONSE_COLUMNS = (
    "response", "responses", "output", "outputs", "completion", "completions", "generated_text", "generation",
    "generations", "model_output", "model_response", "answer", "prediction", "choices", "resps", "text",
)  # fmt: skip
"""Columns of responses, in this order of preference."""
_STOPS = ("stop", "finish_reason", "stop_reason")
_TOKENS = ("response_tokens", "output_tokens", "completion_tokens", "token_ids")
_SAMPLES = ("sample", "sample_id", "sample_index")
_ENDED = frozenset(
    {"end_of_turn", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "finished"}
)
_TRUNCATED = frozenset({"length", "max_tokens", "max_length", "max_output_tokens", "truncated", "cap_hit"})


@dataclass(frozen=True)
class ExternalResponse:
    """One response of another system, and where it was read.

    `text` is None where the system failed to respond. `stop` and `tokens` are None where the file does not say.
    `messages` is () where the row has no prompt. `values` are the row's numbers by column, scores among them.
    """

    where: str
    generator: str
    id: str | None
    messages: Conversation
    text: str | None
    sample: int | None
    stop: StopReason | None
    tokens: int | None
    values: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    """Its further text columns, such as domain and language."""
    reference: str | None = None
    tools: str = ""
    """JSON list of the tools that the prompt offers, "" for none."""
    prompt_details: Mapping[str, Any] = field(default_factory=dict)
    """The object in its column `details`."""


def read_external_responses(
    path: str, split: str = "train", renamed: Mapping[str, str] | None = None
) -> list[ExternalResponse]:
    """Read every response of a file, in order.

    `renamed` maps a column name of this module to a column of the file, as `data.columns` does. Raises UserError for a
    file that cannot be read, and, naming the first row, for a row without a response or without prompt and id.
    """
    rows = columns.rename_columns(files.read_source_rows(path, split), renamed or {}, path)
    responses: list[ExternalResponse] = []
    for where, row in rows:
        try:
            if not isinstance(row, dict):
                raise RowError("not_an_object")
            responses += _parse_row(where, row)
        except RowError as error:
            problem = REASONS.get(error.reason, error.reason)
            raise UserError(
                f"{problem}{f' ({error.field})' if error.field else ''}",
                where=where,
                fix="give every row a prompt or prompt_id, and a response; "
                "`columns: {response: …}` names other columns",
            ) from None
    if not responses:
        raise UserError("it has no responses", where=path, fix="name a file with one response per row")
    return responses


def _parse_row(where: str, row: Row) -> Iterator[ExternalResponse]:
    messages, value, outer = _prompt_and_response(row)
    identity = _id(row)
    if identity is None and not messages:
        raise RowError("no_prompt")
    numbers = {name: number for name, cell in row.items() if (number := fields.to_float(cell)) is not None}
    texts = {
        name: escape_invisible(cell)
        for name, cell in row.items()
        if isinstance(cell, str) and name not in RESPONSE_COLUMNS and len(cell) <= 200
    }
    generator = _name(row, GENERATOR_COLUMNS) or ""
    choices = _choices(value)
    sample = _integer(row, _SAMPLES)
    for index, choice in enumerate(choices):
        text, inner = choice
        details = {**outer, **inner}
        yield ExternalResponse(
            where=where,
            generator=generator,
            id=identity,
            messages=messages,
            text=text,
            sample=sample if len(choices) == 1 else index,
            stop=_stop(inner) or _stop(row) or _stop(outer),
            tokens=_tokens(details if len(choices) == 1 else inner)
            or (_tokens(row) if len(choices) == 1 else None),
            values=numbers,
            details=texts,
            reference=row["reference"] if isinstance(row.get("reference"), str) else None,
            tools=fields.parse_tools(row),
            prompt_details=fields.json_object(row.get("details")),
        )


def _prompt_and_response(row: Row) -> tuple[Conversation, Any, Row]:
    """Return the conversation, () without one; the response's value; and an object around it, {} without one."""
    if isinstance(row.get("custom_id"), str) and isinstance(row.get("response"), Mapping):  # an OpenAI batch
        body = _mapping(row["response"].get("body"))
        return (), body.get("choices"), _mapping(body.get("usage"))
    if isinstance(row.get("resps"), list):  # lm-evaluation-harness
        return _harness_prompt(row), row["resps"], {}
    name = fields.first_present(row, RESPONSE_COLUMNS)
    turns = row.get("messages") or row.get("conversations") or row.get("conversation")
    if isinstance(turns, str) and name is not None:
        turns = _parsed_json(turns)
    if isinstance(turns, list):
        messages = fields.parse_messages([_plain_turn(turn) for turn in turns], "messages")
        if messages and messages[-1].role == "assistant" and name is None:
            return (*conversations.split_last_response(messages, "messages"), {})
        messages = conversations.drop_trailing_responses(messages)[0]
    else:
        messages = _prompt(row)
    if name is None:
        missing = next((column for column in RESPONSE_COLUMNS if column in row), None)
        if missing is None:
            raise RowError("missing_field", "response")
        return messages, None, {}
    return messages, row[name], _mapping(row.get("usage"))


def _mapping(value: Any) -> Row:
    """Return an object; {} for anything else that a tool writes for a failed request."""
    return value if isinstance(value, Mapping) else {}


def _parsed_json(text: str) -> object:
    """Return the value that `responses.parquet` has as JSON; None for other text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _prompt(row: Row) -> Conversation:
    if isinstance(row.get("turns"), list) and row["turns"]:  # MT-bench questions: the first turn
        return conversations.user_turn(fields.require_text(row["turns"][0], "turns"))
    try:
        return conversations.add_system_and_history(row, conversations.parse_prompt(row))
    except RowError as error:
        if error.reason == "missing_field":
            return ()
        raise


def _harness_prompt(row: Row) -> Conversation:
    arguments: Any = row.get("arguments")
    while isinstance(arguments, Mapping | list) and arguments:
        arguments = next(iter(arguments.values())) if isinstance(arguments, Mapping) else arguments[0]
    return conversations.user_turn(arguments) if isinstance(arguments, str) and arguments.strip() else ()


def _plain_turn(turn: Any) -> Any:
    """Return a turn with its text as content; Arena-Hard writes {"answer": …} there."""
    if isinstance(turn, Mapping) and isinstance(turn.get("content"), Mapping):
        return {**turn, "content": turn["content"].get("answer")}
    return turn


def _choices(value: Any) -> list[tuple[str | None, Row]]:
    """Return every response of a cell with the object that contains it."""
    if value is None or value == []:
        return [(None, {})]
    if isinstance(value, list):
        return [choice for item in value for choice in _choices(item)]
    if not isinstance(value, Mapping):
        return [(fields.require_text(value, "response"), {})]
    message = value.get("message")
    if isinstance(message, Mapping):
        return [(_text_or_none(message.get("content")), value)]
    turns = value.get("turns")
    if isinstance(turns, list) and turns:  # MT-bench and Arena-Hard: the first turn
        first = turns[0]
        text = first.get("content") if isinstance(first, Mapping) else first
        text = text.get("answer") if isinstance(text, Mapping) else text
        return [(_text_or_none(text), value)]
    for name in ("text", "content", "answer", "generated_text"):
        if name in value:
            return [(_text_or_none(value[name]), value)]
    raise RowError("wrong_type", "response")


def _text_or_none(value: Any) -> str | None:
    return None if value is None else fields.require_text(value, "response")


def _id(row: Row) -> str | None:
    return _name(row, ID_COLUMNS) or None


def _name(row: Row, names: Sequence[str]) -> str | None:
    """Return the first text or whole number of these columns as text; a column of whole numbers with gaps is floats."""
    for name in names:
        cell = row.get(name)
        if isinstance(cell, float) and cell.is_integer():
            return str(int(cell))
        if isinstance(cell, str | int) and not isinstance(cell, bool):
            return str(cell)
    return None


def _integer(row: Row, names: Sequence[str]) -> int | None:
    return next((row[name] for name in names if type(row.get(name)) is int), None)


def _stop(row: Row) -> StopReason | None:
    """Return the stop reason if the row names a known one."""
    if isinstance(row.get("cap_hit"), bool) or isinstance(row.get("truncated"), bool):
        return "length" if row.get("cap_hit") is True or row.get("truncated") is True else "end_of_turn"
    for name in _STOPS:
        if isinstance(row.get(name), str):
            reason = row[name].lower()
            return "length" if reason in _TRUNCATED else "end_of_turn" if reason in _ENDED else None
    return None


def _tokens(row: Row) -> int | None:
    for name in _TOKENS:
        if isinstance(row.get(name), list):
            return len(row[name])
    count = _integer(row, _TOKENS)
    return count if count is None or count >= 0 else None
