"""Files of responses that other systems wrote, in the forms that their tools write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harken.data.external_responses import ExternalResponse, read_external_responses
from harken.errors import UserError

ASK = "What is the capital of France?"
SAY = "Paris."

FORMS: dict[str, dict[str, Any]] = {
    "prompt and response": {"prompt": ASK, "response": SAY},
    "AlpacaEval": {"instruction": ASK, "output": SAY, "generator": "ours", "dataset": "koala"},
    "question and answer": {"question": ASK, "answer": SAY},
    "chat messages": {"messages": [{"role": "user", "content": ASK}, {"role": "assistant", "content": SAY}]},
    "ShareGPT": {"conversations": [{"from": "human", "value": ASK}, {"from": "gpt", "value": SAY}]},
    "messages and response": {"messages": [{"role": "user", "content": ASK}], "response": SAY},
    "vLLM": {"prompt": ASK, "outputs": [{"text": SAY, "finish_reason": "stop", "token_ids": [5, 6]}]},
    "chat completion": {
        "prompt": ASK,
        "choices": [{"message": {"role": "assistant", "content": SAY}, "finish_reason": "stop"}],
        "usage": {"completion_tokens": 2},
    },
    "text completion": {"prompt": ASK, "choices": [{"text": SAY, "finish_reason": "length"}]},
    "lm-evaluation-harness": {
        "doc_id": 3,
        "arguments": {"gen_args_0": {"arg_0": ASK, "arg_1": {"until": []}}},
        "resps": [[SAY]],
    },
    "Arena-Hard": {
        "uid": "u1",
        "model": "ours",
        "messages": [{"role": "user", "content": ASK}, {"role": "assistant", "content": {"answer": SAY}}],
    },
    "list of responses": {"prompt": ASK, "responses": [SAY, "Lyon."]},
    "model_output": {"input": ASK, "model_output": SAY},
    "dialogue text": {"prompt": f"\n\nHuman: {ASK}\n\nAssistant:", "completion": SAY},
}


def read(tmp_path: Path, *rows: object, **named: Any) -> list[ExternalResponse]:
    path = tmp_path / "responses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read_external_responses(str(path), **named)


@pytest.mark.parametrize("form", FORMS)
def test_the_prompt_and_the_response_of_every_form_are_read(tmp_path: Path, form: str) -> None:
    first, *others = read(tmp_path, FORMS[form])
    assert first.text == SAY
    assert [(m.role, m.content) for m in first.messages] == [("user", ASK)]
    assert [other.text for other in others] == (["Lyon."] if form == "list of responses" else [])


@pytest.mark.parametrize(
    ("row", "identity", "generator"),
    [
        (
            {"question_id": 81, "model_id": "ours", "choices": [{"index": 0, "turns": [SAY, "More."]}]},
            "81",
            "ours",
        ),
        ({"custom_id": "q1", "response": {"body": {"choices": [{"message": {"content": SAY}}]}}}, "q1", ""),
        ({"uid": "a7", "model": "ours", "choices": [{"turns": [{"content": SAY}]}]}, "a7", "ours"),
        ({"prompt_id": "q5", "response": SAY}, "q5", ""),
        ({"idx": 0, "prediction": SAY}, "0", ""),
    ],
    ids=["MT-bench", "OpenAI batch", "Arena-Hard v1", "prompt_id", "idx"],
)
def test_forms_without_the_prompt_name_it(
    tmp_path: Path, row: dict[str, Any], identity: str, generator: str
) -> None:
    (found,) = read(tmp_path, row)
    assert (found.id, found.text, found.generator, found.messages) == (identity, SAY, generator, ())


@pytest.mark.parametrize(
    ("cells", "stop"),
    [
        ({"finish_reason": "stop"}, "end_of_turn"),
        ({"finish_reason": "length"}, "length"),
        ({"stop_reason": "max_tokens"}, "length"),
        ({"stop": "end_of_turn"}, "end_of_turn"),
        ({"truncated": True}, "length"),
        ({"truncated": False}, "end_of_turn"),
        ({"finish_reason": "content_filter"}, None),
        ({}, None),
    ],
)
def test_the_stop_reason_is_read_and_never_guessed(
    tmp_path: Path, cells: dict[str, Any], stop: str | None
) -> None:
    (found,) = read(tmp_path, {"prompt": ASK, "response": SAY, **cells})
    assert found.stop == stop


def test_tokens_numbers_and_texts_are_kept(tmp_path: Path) -> None:
    row = {
        "prompt": ASK,
        "response": SAY,
        "response_tokens": 3,
        "reward": -1.5,
        "domain": "geo",
        "flag": True,
    }
    (found,) = read(tmp_path, row)
    assert found.tokens == 3
    assert found.values == {"response_tokens": 3.0, "reward": -1.5}
    assert found.details["domain"] == "geo"
    (vllm,) = read(tmp_path, FORMS["vLLM"])
    assert (vllm.tokens, vllm.stop) == (2, "end_of_turn")
    (usage,) = read(tmp_path, FORMS["chat completion"])
    assert usage.tokens == 2


def test_a_system_that_failed_is_told_from_an_empty_response(tmp_path: Path) -> None:
    failed, empty = read(tmp_path, {"prompt": ASK, "response": None}, {"prompt": ASK, "response": ""})
    assert (failed.text, empty.text) == (None, "")


@pytest.mark.parametrize(
    "body", [None, "rate limited", {"error": {"code": 429}}, {"choices": None, "usage": "none"}]
)
def test_a_failed_request_of_a_batch_is_a_failed_response(tmp_path: Path, body: object) -> None:
    (found,) = read(tmp_path, {"custom_id": "q1", "response": {"status_code": 429, "body": body}})
    assert (found.id, found.text, found.tokens) == ("q1", None, None)


def test_parquet_and_other_column_names_are_read(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"q": ASK, "says": SAY, "sample": 1}])
    pq.write_table(table, tmp_path / "r.parquet")
    (found,) = read_external_responses(
        str(tmp_path / "r.parquet"), renamed={"prompt": "q", "response": "says"}
    )
    assert (found.text, found.sample) == (SAY, 1)


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"prompt": ASK}, "a field that the layout needs is absent or null"),
        ({"response": SAY}, "prompt"),
        ({"prompt": ASK, "response": 5}, "another type"),
        ({"prompt": ASK, "response": {"nothing": 1}}, "another type"),
        ([1], "not a JSON object"),
    ],
)
def test_a_row_that_says_nothing_is_an_error_of_one_line(tmp_path: Path, row: object, problem: str) -> None:
    with pytest.raises(UserError, match=r"responses.jsonl:(item )?1: ") as error:
        read(tmp_path, row)
    assert problem in str(error.value) and "Fix: give every row" in str(error.value)
