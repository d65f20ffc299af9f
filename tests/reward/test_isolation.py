"""User code runs isolated: nothing it does to the process outlives it, and all it ends with is its own failure."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from malformed.foreign_cases import EFFECTS, ENDS, NOT_FINITE, VALUES
from tiny_rewards import answer

from harken.errors import NonFinite, UserCodeError
from harken.reward import process_state
from harken.reward.isolation import running_user_threads
from harken.reward.python_function import PythonReward
from harken.run import signals

FORM = "def score(prompt, response, row, messages, tokens):\n    "


def reward(folder: Path, code: str, *, timeout_s: float | None = None) -> PythonReward:
    (folder / "mine.py").write_text(code)
    return PythonReward("mine", f"{folder}/mine.py:score", timeout_s=timeout_s)


@pytest.mark.parametrize("code", EFFECTS.values(), ids=list(EFFECTS))
def test_changes_by_a_call_are_undone(code: str, tmp_path: Path) -> None:
    before, drawn = process_state.read_state(), process_state.random_state()
    made = reward(tmp_path, f"{FORM}{code}\n    return 0.5\n")
    rollout = answer("four", details={"keywords": ["k"]})
    assert [s.value for s in made.score([rollout, rollout])] == [0.5, 0.5]
    after = dict(zip((a.name for a in process_state.SETTINGS), process_state.read_state(), strict=True))
    for setting, value in zip(process_state.SETTINGS, before, strict=True):
        if setting.name == "signals":
            assert after[setting.name][0] == value[0]
        elif setting.name != "interpreter" or "thread" not in code:
            assert after[setting.name] == value, setting.name
    assert rollout.prompt.details == {"keywords": ["k"]}
    assert process_state.random_state()[0] == drawn[0]
    assert torch.equal(process_state.random_state()[2], drawn[2])


def test_settings_of_the_file_hold_for_its_calls_alone(tmp_path: Path) -> None:
    """A search path or a variable that the file needs stays there for its functions."""
    code = (
        "import os, sys, torch\n"
        "os.environ['MINE'] = 'yes'; sys.path.insert(0, '/mine'); torch.set_default_dtype(torch.float64)\n"
        f"os.chdir({str(tmp_path)!r})\n"
        "def score(prompt, response):\n"
        "    ok = os.environ['MINE'] == 'yes' and sys.path[0] == '/mine' and os.getcwd() == "
        + repr(str(tmp_path))
        + "\n"
        "    return float(ok and torch.tensor(1.0).dtype is torch.float64)\n"
    )
    place, path = os.getcwd(), list(sys.path)
    made = reward(tmp_path, code)
    assert [s.value for s in made.score([answer("a")])] == [1.0]
    assert ("MINE" in os.environ, os.getcwd(), sys.path, torch.get_default_dtype()) == (
        False,
        place,
        path,
        torch.float32,
    )


def test_each_call_begins_in_the_same_place(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    code = f"import os\nos.chdir({str(tmp_path)!r})\ndef score(prompt, response):\n    os.chdir('sub')\n    return 1\n"
    assert [s.value for s in reward(tmp_path, code).score([answer("a"), answer("b")])] == [1.0, 1.0]


def test_random_draws_depend_on_what_is_scored_alone(tmp_path: Path) -> None:
    """A resumed run scores as the one that was not interrupted, and no draw of the run's own is disturbed."""
    code = (
        "import random, torch, numpy\n"
        "def score(prompt, response):\n    return random.random() + float(torch.rand(())) + numpy.random.rand()\n"
    )
    made = reward(tmp_path, code)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    alone = [s.value for r in ("a", "b") for s in made.score([answer(r)])]
    drawn = random.random(), np.random.rand(), float(torch.rand(()))
    assert [s.value for s in made.score([answer("a"), answer("b")])] == alone
    assert alone[0] != alone[1]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert drawn == (random.random(), np.random.rand(), float(torch.rand(())))


@pytest.mark.parametrize(("code", "message"), ENDS.values(), ids=list(ENDS))
def test_every_exception_of_the_function_is_one_line(code: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserCodeError) as raised:
        reward(tmp_path, f"def score(prompt, response):\n    {code}\n").score([answer("a")])
    assert "mine.py:" in str(raised.value) and "\n" not in str(raised.value)
    if "\x1b" not in message and message != "red":
        assert message in str(raised.value)
    assert len(str(raised.value)) < 1200


@pytest.mark.parametrize("code", [code for code, _ in NOT_FINITE.values()], ids=list(NOT_FINITE))
def test_non_finite_values_are_errors_of_the_step(code: str, tmp_path: Path) -> None:
    with pytest.raises(NonFinite, match="score returned"):
        reward(tmp_path, f"def score(prompt, response):\n    {code}\n").score([answer("a")])


@pytest.mark.parametrize(
    ("code", "value"),
    list(zip(VALUES.values(), [0.25, 0.25, 0.0, 0.25, 1.0, 0.25, 0.25, 0.25, 0.25, 5e-324], strict=True)),
    ids=list(VALUES),
)
def test_numbers_of_any_type_are_accepted(code: str, value: float, tmp_path: Path) -> None:
    assert reward(tmp_path, f"{FORM}{code}\n").score([answer("four")])[0].value == value


def test_a_request_to_stop_is_none_of_the_functions_failures(tmp_path: Path) -> None:
    """Ctrl-C while the file is imported ends the command; a KeyboardInterrupt the code raises does not."""
    with pytest.raises(KeyboardInterrupt):
        reward(
            tmp_path,
            "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(1)\ndef score(p, r): return 1\n",
        )
    made = reward(
        tmp_path,
        "import os, signal\ndef score(p, r):\n    os.kill(os.getpid(), signal.SIGTERM)\n    return 1\n",
    )
    with pytest.raises(signals.Stopped), signals.handle_signals():
        made.score([answer("a"), answer("b")])


@pytest.mark.parametrize("in_main_thread", [True, False])
@pytest.mark.parametrize("body", ["time.sleep(60)", "while True: pass"])
def test_a_call_that_takes_too_long_is_ended(in_main_thread: bool, body: str, tmp_path: Path) -> None:
    """Outside the main thread a call that sleeps has to wake first: here it sleeps in pieces."""
    body = body if in_main_thread else body.replace("time.sleep(60)", "while True: time.sleep(0.01)")
    made = reward(tmp_path, f"import time\ndef score(prompt, response):\n    {body}\n", timeout_s=0.2)
    reported: list[BaseException] = []

    def work() -> None:
        try:
            made.score([answer("a")])
        except UserCodeError as error:
            reported.append(error)

    began = time.monotonic()
    if in_main_thread:
        work()
    else:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join(20)
    assert time.monotonic() - began < 15
    assert "mine.py:3: score took longer than timeout_s: 0.2 for prompt p1" in str(reported[0])


def test_a_time_limit_leaves_nothing_behind(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGALRM)
    made = reward(tmp_path, "def score(prompt, response): return 1\n", timeout_s=30)
    assert [s.value for s in made.score([answer("a")] * 3)] == [1.0] * 3
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_async_calls_wait_at_the_same_time(tmp_path: Path) -> None:
    code = "import asyncio\nasync def score(prompt, response):\n    await asyncio.sleep(0.2)\n"
    code += "    return len(response)\n"
    began = time.monotonic()
    scores = reward(tmp_path, code).score([answer("x" * n) for n in range(20)])
    assert [s.value for s in scores] == [float(n) for n in range(20)]
    assert time.monotonic() - began < 2.0


def test_its_output_is_shown_with_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys\ndef score(prompt, response):\n    print('out', response)\n"
    code += "    print('err', file=sys.stderr)\n    return 1\n"
    reward(tmp_path, code).score([answer("a"), answer("b")])
    message = capsys.readouterr()
    assert message.out == ""
    assert message.err.splitlines() == [
        "mine.py | out a",
        "mine.py | err",
        "mine.py | out b",
        "mine.py | err",
    ]
    many = "def score(prompt, response):\n    print('line\\n' * 100)\n    return 1\n"
    reward(tmp_path, many).score([answer("a")])
    assert capsys.readouterr().err.splitlines()[-1] == "mine.py | … and 81 more lines"


def test_threads_it_started_are_known(tmp_path: Path) -> None:
    code = (
        "import threading\nstop = threading.Event()\n"
        "def score(prompt, response):\n    threading.Thread(target=stop.wait).start()\n    return 1\n"
    )
    made = reward(tmp_path, code)
    made.score([answer("a")])
    assert len(running_user_threads()) == 1
    made._function.__globals__["stop"].set()
    deadline = time.monotonic() + 5
    while running_user_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert running_user_threads() == []


def test_warnings_it_turned_into_errors_are_warnings_again(tmp_path: Path) -> None:
    code = "import warnings\nwarnings.simplefilter('error')\ndef score(prompt, response): return 1\n"
    reward(tmp_path, code).score([answer("a")])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("not an error", stacklevel=1)
    assert len(caught) == 1
