"""The user's own function as a reward: what it is given, what it may return, and what each mistake is told."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from tiny_rewards import answer

from harken.errors import NonFinite, UserError
from harken.records import Message
from harken.reward.python_function import DETAILS, PythonReward
from harken.reward.source import RewardSource


def written(folder: Path, code: str) -> str:
    (folder / "mine.py").write_text(code)
    return f"{folder}/mine.py:score"


def test_it_gets_prompt_and_response_and_its_weight(tmp_path: Path) -> None:
    """S4-28, S4-47: score(prompt, response) is a part of the reward with a name and a weight."""
    path = written(tmp_path, "def score(prompt, response):\n    return len(prompt) + 100 * len(response)\n")
    source = PythonReward("length", path, -0.5)
    assert isinstance(source, RewardSource)
    scores = source.score([answer("four"), answer("", "hi")])
    assert [s.value for s in scores] == [405.0, 2.0]
    assert {(s.source, s.weight) for s in scores} == {("length", -0.5)}


def test_the_prompt_is_the_last_user_turn_and_the_conversation_is_whole(tmp_path: Path) -> None:
    code = (
        "def score(prompt, response, messages):\n"
        "    assert prompt == 'and then?'\n"
        "    return float(messages == [{'role': 'user', 'content': 'hi'},"
        " {'role': 'assistant', 'content': 'hello'}, {'role': 'user', 'content': 'and then?'}])\n"
    )
    turns = (Message("user", "hi"), Message("assistant", "hello"), Message("user", "and then?"))
    assert PythonReward("x", written(tmp_path, code)).score([answer("so", turns)])[0].value == 1.0


def test_details_are_those_of_the_row(tmp_path: Path) -> None:
    """Fields of the row reach the function; `**details` takes all of them."""
    code = (
        "seen = []\n"
        "def score(prompt, response, **details):\n"
        "    seen.append(details)\n"
        "    details['row'].clear()\n"
        "    return len(details['tokens'])\n"
    )
    reward = PythonReward("x", written(tmp_path, code))
    rollout = answer(
        "abc", ended=False, reference="42", domain="d", language="l", details={"keywords": ["k"]}
    )
    assert reward.score([rollout])[0].value == 3.0
    (seen,) = reward._function.__globals__["seen"]
    assert tuple(seen) == DETAILS
    assert {k: seen[k] for k in ("prompt_id", "reference", "domain", "language", "stop", "tokens")} == {
        "prompt_id": "p1",
        "reference": "42",
        "domain": "d",
        "language": "l",
        "stop": "length",
        "tokens": list(rollout.response_tokens),
    }
    assert rollout.prompt.details == {"keywords": ["k"]}, "the function emptied its own copy"


@pytest.mark.parametrize(
    ("returned", "value"), [("3", 3.0), ("True", 1.0), ("None", None), ("np.float32(0.5)", 0.5)]
)
def test_a_number_or_nothing(tmp_path: Path, returned: str, value: float | None) -> None:
    path = written(tmp_path, f"import numpy as np\ndef score(prompt, response):\n    return {returned}\n")
    assert PythonReward("x", path).score([answer("a")])[0].value == value


@pytest.mark.parametrize("returned", ["float('nan')", "float('inf')", "'0.5'", "[1.0]", "1j"])
def test_anything_else_names_the_function_and_the_prompt(tmp_path: Path, returned: str) -> None:
    path = written(tmp_path, f"\n\ndef score(prompt, response):\n    return {returned}\n")
    with pytest.raises(
        UserError, match=r"mine\.py:3: score returned .* for prompt p1\. Fix: return a finite"
    ) as raised:
        PythonReward("x", path).score([answer("a")])
    assert "\n" not in str(raised.value)


def test_nan_and_infinity_are_errors_of_a_step_and_all_else_of_the_function(tmp_path: Path) -> None:
    """A step can be skipped for the first; what is no number at all, or an exception, ends the run."""
    code = "def score(prompt, response):\n    return float('inf') if response == 'b' else 0.5\n"
    with pytest.raises(NonFinite) as raised:
        PythonReward("x", written(tmp_path, code)).score([answer("a"), answer("b")])
    assert (raised.value.quantity, raised.value.row) == ("reward", 1)
    for code in ("def score(prompt, response): return 'x'", "def score(prompt, response): return 1 / 0"):
        with pytest.raises(UserError) as other:
            PythonReward("x", written(tmp_path, code)).score([answer("a")])
        assert not isinstance(other.value, NonFinite)


def test_an_error_in_the_function_names_its_line_and_the_prompt(tmp_path: Path) -> None:
    """One line: the innermost of the user's own lines, not the library's that it called."""
    code = (
        "import json\n"
        "def score(prompt, response):\n"
        "    return inner(response)\n"
        "def inner(text):\n"
        "    return json.loads(text)\n"
    )
    with pytest.raises(
        UserError, match=r"mine\.py:5: score failed for prompt p1 \(JSONDecodeError: "
    ) as raised:
        PythonReward("x", written(tmp_path, code)).score([answer("no json")])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "def other(prompt, response): return 1",
            r"there is no function score in this file\. Fix: name one of: other",
        ),
        ("score = 1", r"there is no function score in this file\. Fix: write one"),
        ("def score(prompt): return 1", r"mine\.py:1: score does not take a prompt"),
        (
            "def score(prompt, response, colour): return 1",
            r"missing a required argument: 'colour'.*the details are",
        ),
        ("def score(prompt, response:\n  pass", r"mine\.py:1: not valid Python"),
        (
            "x = 1\nimport a_module_nobody_has",
            r"mine\.py:2: this file failed when it was imported \(ModuleNotFoundError.*put its imports",
        ),
        ("1 / 0", r"mine\.py:1: this file failed when it was imported \(ZeroDivisionError"),
    ],
)
def test_unusable_functions_are_refused_when_the_run_begins(tmp_path: Path, code: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as raised:
        PythonReward("x", written(tmp_path, code))
    assert "\n" not in str(raised.value)


def test_a_missing_file_names_where_it_was_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=rf"{tmp_path}/gone\.py: this file cannot be read"):
        PythonReward("x", "gone.py:score")


def test_a_path_is_resolved_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, "def score(prompt, response): return 7")
    monkeypatch.chdir(tmp_path)
    assert PythonReward("x", "mine.py:score").score([answer("a")])[0].value == 7.0


def test_the_hashed_source_is_the_code_that_runs(tmp_path: Path) -> None:
    """A second version of the same size within one second is run as written: no cached bytecode is used."""
    for digit in (1, 2):
        code = f"def score(prompt, response): return {digit}\n"
        reward = PythonReward("x", written(tmp_path, code))
        assert reward.sha256 == hashlib.sha256(code.encode()).hexdigest()
        assert reward.score([answer("a")])[0].value == digit
    assert not (tmp_path / "__pycache__").exists()


def test_a_dataclass_and_postponed_annotations_work_in_the_file(tmp_path: Path) -> None:
    code = (
        "from __future__ import annotations\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class Rule:\n"
        "    bonus: float = 2.0\n"
        "def score(prompt: str, response: str) -> float:\n"
        "    return Rule().bonus\n"
    )
    assert PythonReward("x", written(tmp_path, code)).score([answer("a")])[0].value == 2.0


def test_annotations_are_not_postponed_behind_the_users_back(tmp_path: Path) -> None:
    code = "def score(prompt, response) -> 1 + 1: return score.__annotations__['return']\n"
    assert PythonReward("x", written(tmp_path, code)).score([answer("a")])[0].value == 2.0
