"""Everything of the process that user code may change and that Harken's own code depends on: read it, put it back.

Not among it: what other modules hold (a patched function, a changed constant), limits and settings that have no
getter, and memory. Code that wants to change those changes them.
"""

from __future__ import annotations

import contextlib
import gc
import locale
import logging
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import torch


class Aspect(NamedTuple):
    """One thing that code can change: how to read it, and how to set it to what was read."""

    name: str
    read: Callable[[], Any]
    set: Callable[[Any], object]
    kept: bool = True
    """Whether what a file sets while it is imported holds for the calls of its functions."""


def _directory() -> str | None:
    with contextlib.suppress(OSError):  # somebody removed it
        return os.getcwd()
    return None


def _set_directory(path: str | None) -> None:
    if path is not None:
        with contextlib.suppress(OSError):
            os.chdir(path)


def _set_environment(wanted: dict[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _mask() -> int:
    mask = os.umask(0o077)  # there is no other way to read it
    os.umask(mask)
    return mask


def _lists() -> tuple[Any, ...]:
    return sys.path, list(sys.path), sys.argv, list(sys.argv)


def _set_lists(found: tuple[Any, ...]) -> None:
    sys.path, path, sys.argv, arguments = found
    sys.path[:], sys.argv[:] = path, arguments


def _locale() -> str | None:
    with contextlib.suppress(locale.Error):
        return locale.setlocale(locale.LC_ALL)
    return None


def _set_locale(name: str | None) -> None:
    if name is not None:
        with contextlib.suppress(locale.Error):
            locale.setlocale(locale.LC_ALL, name)


def _warnings() -> tuple[Any, ...]:
    return warnings.filters, list(warnings.filters), warnings.showwarning


def _set_warnings(found: tuple[Any, ...]) -> None:
    warnings.filters, filters, warnings.showwarning = found
    cast(list[Any], warnings.filters)[:] = filters
    with warnings.catch_warnings():  # entering one tells the module that its filters changed
        pass


def _logging() -> tuple[Any, ...]:
    root = logging.getLogger()
    return list(root.handlers), root.level, root.manager.disable


def _set_logging(found: tuple[Any, ...]) -> None:
    root = logging.getLogger()
    root.handlers[:], level, root.manager.disable = found
    root.setLevel(level)


def _interpreter() -> tuple[Any, ...]:
    return (
        sys.getrecursionlimit(),
        sys.gettrace(),
        sys.getprofile(),
        gc.isenabled(),
        (sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook),
    )


def _set_interpreter(found: tuple[Any, ...]) -> None:
    limit, trace, profile, collects, hooks = found
    if sys.getrecursionlimit() != limit:
        sys.setrecursionlimit(limit)
    if sys.gettrace() is not trace:
        sys.settrace(trace)
    if sys.getprofile() is not profile:
        sys.setprofile(profile)
    if gc.isenabled() != collects:
        (gc.enable if collects else gc.disable)()
    sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook = hooks


_NAMES = ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGPIPE", "SIGCHLD")
_SIGNALS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


def _signals() -> tuple[Any, ...] | None:
    """Handlers and the alarm clock; None outside the main thread, where they cannot be set."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        return None
    alarm = signal.getitimer(signal.ITIMER_REAL)
    return {number: signal.getsignal(number) for number in _SIGNALS}, alarm, time.monotonic()


def _set_signals(found: tuple[Any, ...] | None) -> None:
    if found is None or threading.current_thread() is not threading.main_thread():
        return
    handlers, (left, every), began = found
    if (
        not left and signal.getitimer(signal.ITIMER_REAL)[0]
    ):  # before the handlers: its own may be the default, death
        signal.setitimer(signal.ITIMER_REAL, 0)
    changed = False
    for number, handler in handlers.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)
            changed = changed or number == signal.SIGALRM
    if left and (changed or not signal.getitimer(signal.ITIMER_REAL)[0]):
        signal.setitimer(signal.ITIMER_REAL, max(1e-3, left - (time.monotonic() - began)), every)


def _torch() -> tuple[Any, ...]:
    return (
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.get_float32_matmul_precision(),
        torch.is_anomaly_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_enabled("cuda"),
        torch.backends.cudnn.benchmark,
    )


def _set_torch(found: tuple[Any, ...]) -> None:
    now = _torch()
    if now == found:
        return
    dtype, device, grad, threads, deterministic, only_warn, precision, anomaly, on_cpu, on_cuda, tries = found
    torch.set_default_dtype(dtype)
    if now[1] != device:
        torch.set_default_device(None if device.type == "cpu" else device)
    torch.set_grad_enabled(grad)
    if now[3] != threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic, warn_only=only_warn)
    torch.set_float32_matmul_precision(precision)
    torch.autograd.set_detect_anomaly(anomaly)
    torch.set_autocast_enabled("cpu", on_cpu)
    torch.set_autocast_enabled("cuda", on_cuda)
    torch.backends.cudnn.benchmark = tries


ASPECTS = (
    Aspect("working directory", _directory, _set_directory),
    Aspect("environment", lambda: dict(os.environ), _set_environment),
    Aspect("umask", _mask, os.umask),
    Aspect("sys.path and sys.argv", _lists, _set_lists),
    Aspect("locale", _locale, _set_locale),
    Aspect("warnings", _warnings, _set_warnings),
    Aspect("logging", _logging, _set_logging),
    Aspect("interpreter", _interpreter, _set_interpreter),
    Aspect("signals", _signals, _set_signals, kept=False),
    Aspect("numpy errors", np.geterr, lambda found: np.seterr(**found)),
    Aspect("torch", _torch, _set_torch),
)
"""What is the same again after user code."""


def read_state() -> list[Any]:
    """The surroundings as they are now."""
    return [aspect.read() for aspect in ASPECTS]


def restore_state(surroundings: list[Any]) -> None:
    """Make them again what was read."""
    for aspect, found in zip(ASPECTS, surroundings, strict=True):
        aspect.set(found)


def changed(before: list[Any], after: list[Any]) -> dict[int, Any]:
    """What code set on purpose between two readings, by the number of its aspect: of those that are kept."""
    return {
        number: now
        for number, (aspect, then, now) in enumerate(zip(ASPECTS, before, after, strict=True))
        if aspect.kept and now != then
    }


def random_state() -> tuple[Any, ...]:
    """The states of the global generators: Python's, NumPy's, torch's, and those of GPUs in use."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    on_gpus = torch.cuda.get_rng_state_all() if in_use else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), on_gpus


def put_random_state(state: tuple[Any, ...]) -> None:
    """Make them again what was read."""
    python, numpy, on_cpu, on_gpus = state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(on_cpu)
    if on_gpus is not None:
        torch.cuda.set_rng_state_all(on_gpus)


def seed_generators(value: int) -> None:
    """Begin the global generators anew."""
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.default_generator.manual_seed(value)
