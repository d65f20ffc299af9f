"""When a signal is heard, when it is heeded, and when it is not waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from harken.run import signals
from harken.run.signals import Stopped, handle_signals, mark_weights_changing, raise_if_stopped, step


def send(number: int = signal.SIGTERM) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_heeded_at_the_next_check(
    capfd: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    with handle_signals():
        raise_if_stopped()
        send(number)
        with pytest.raises(Stopped) as caught:
            raise_if_stopped()
    assert (caught.value.code, caught.value.mid_step) == (code, False)
    assert signal.Signals(number).name in capfd.readouterr().err


def test_a_step_that_has_begun_is_finished_first_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    with handle_signals(), step():
        mark_weights_changing()
        send()
        raise_if_stopped()
        monkeypatch.setattr(signals, "GRACE", 0.0)
        with pytest.raises(Stopped) as caught:
            raise_if_stopped()
        assert caught.value.mid_step
    with handle_signals():
        with step():
            mark_weights_changing()
            send()
        with pytest.raises(Stopped) as caught:
            raise_if_stopped()
        assert not caught.value.mid_step


def test_outside_signals_do_what_they_did(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [signal.getsignal(number) for number in signals.SIGNALS]
    with handle_signals():
        with handle_signals():
            pass
        assert signal.getsignal(signal.SIGTERM) is signals._record_handler
        send()
        with pytest.raises(Stopped):  # the inner one has not ended the outer
            raise_if_stopped()
    assert [signal.getsignal(number) for number in signals.SIGNALS] == before
    raise_if_stopped()
    mark_weights_changing()
    with handle_signals():
        raise_if_stopped()  # what was asked of another run is forgotten, and so is its step


def test_a_thread_does_not_listen() -> None:
    found = []

    def work() -> None:
        with handle_signals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)] and found[0] is not signals._record_handler


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = (
        "import os, signal\nfrom harken.run.signals import handle_signals, mark_weights_changing\n"
        "with handle_signals():\n    mark_weights_changing()\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, "")


def test_the_command_line_makes_sigterm_an_orderly_end() -> None:
    code = (
        "import os, signal\nfrom harken.run import signals\nsignals.raise_on_terminate()\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\nfinally:\n    print('put away')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (143, "put away\n")


def test_a_signal_after_the_last_safe_point_is_handled_when_the_work_is_marked_finished() -> None:
    with handle_signals():
        send()
    with pytest.raises(Stopped) as caught:
        signals.raise_if_pending()
    assert caught.value.code == 143
    signals.raise_if_pending()  # once


def test_a_signal_after_the_last_safe_point_keeps_the_next_work_from_beginning() -> None:
    began = False
    with handle_signals():
        send(signal.SIGINT)
    with pytest.raises(Stopped) as caught, handle_signals():
        began = True
    assert (caught.value.code, began) == (130, False)
    with handle_signals():
        raise_if_stopped()


def test_an_error_does_not_handle_a_signal() -> None:
    with pytest.raises(ZeroDivisionError), handle_signals():
        send()
        raise ZeroDivisionError
    with pytest.raises(Stopped):
        signals.raise_if_pending()
