"""Capture and restore the process state that user code may change and Harken's own code depends on.

Not covered: the contents of other modules (a patched function, a changed constant), limits and settings without a
getter, and memory. User code can change those for the whole run.
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


class Setting(NamedTuple):
    """Describe one setting: how to read it, and how to set it to a value that was read."""

    name: str
    read: Callable[[], Any]
    set: Callable[[Any], object]
    kept_from_import: bool = True
    """Whether a change made while a file is imported applies to the calls of its functions."""


def _directory() -> str | None:
    with contextlib.suppress(OSError):  # it was removed
        return os.getcwd()
    return None


def _set_directory(path: str | None) -> None:
    if path is not None:
        with contextlib.suppress(OSError):
            os.chdir(path)


def _set_environment(environment: dict[str, str]) -> None:
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    for name, value in environment.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _umask() -> int:
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return mask


def _sys_lists() -> tuple[Any, ...]:
    return sys.path, list(sys.path), sys.argv, list(sys.argv)


def _set_sys_lists(state: tuple[Any, ...]) -> None:
    sys.path, path, sys.argv, arguments = state
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


def _set_warnings(state: tuple[Any, ...]) -> None:
    warnings.filters, filters, warnings.showwarning = state
    cast(list[Any], warnings.filters)[:] = filters
    with warnings.catch_warnings():  # entering it tells the module that its filters changed
        pass


def _logging() -> tuple[Any, ...]:
    root = logging.getLogger()
    return list(root.handlers), root.level, root.manager.disable


def _set_logging(state: tuple[Any, ...]) -> None:
    root = logging.getLogger()
    root.handlers[:], level, root.manager.disable = state
    root.setLevel(level)


def _interpreter() -> tuple[Any, ...]:
    return (
        sys.getrecursionlimit(),
        sys.gettrace(),
        sys.getprofile(),
        gc.isenabled(),
        (sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook),
    )


def _set_interpreter(state: tuple[Any, ...]) -> None:
    limit, trace, profile, collects, hooks = state
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
    """Return handlers, the alarm timer and the time; None outside the main thread, where they cannot be set."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        return None
    alarm = signal.getitimer(signal.ITIMER_REAL)
    return {signum: signal.getsignal(signum) for signum in _SIGNALS}, alarm, time.monotonic()


def _set_signals(state: tuple[Any, ...] | None) -> None:
    if state is None or threading.current_thread() is not threading.main_thread():
        return
    handlers, (remaining, interval), start = state
    # Stop a timer of the code before its handler is replaced: the default handler ends the process.
    if not remaining and signal.getitimer(signal.ITIMER_REAL)[0]:
        signal.setitimer(signal.ITIMER_REAL, 0)
    changed = False
    for signum, handler in handlers.items():
        if handler is not None and signal.getsignal(signum) is not handler:
            signal.signal(signum, handler)
            changed = changed or signum == signal.SIGALRM
    if remaining and (changed or not signal.getitimer(signal.ITIMER_REAL)[0]):
        signal.setitimer(signal.ITIMER_REAL, max(1e-3, remaining - (time.monotonic() - start)), interval)


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


def _set_torch(state: tuple[Any, ...]) -> None:
    current = _torch()
    if current == state:
        return
    dtype, device, grad, threads, deterministic, only_warn, precision, anomaly, on_cpu, on_cuda, tries = state
    torch.set_default_dtype(dtype)
    if current[1] != device:
        torch.set_default_device(None if device.type == "cpu" else device)
    torch.set_grad_enabled(grad)
    if current[3] != threads:
        torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic, warn_only=only_warn)
    torch.set_float32_matmul_precision(precision)
    torch.autograd.set_detect_anomaly(anomaly)
    torch.set_autocast_enabled("cpu", on_cpu)
    torch.set_autocast_enabled("cuda", on_cuda)
    torch.backends.cudnn.benchmark = tries


SETTINGS = (
    Setting("working directory", _directory, _set_directory),
    Setting("environment", lambda: dict(os.environ), _set_environment),
    Setting("umask", _umask, os.umask),
    Setting("sys.path and sys.argv", _sys_lists, _set_sys_lists),
    Setting("locale", _locale, _set_locale),
    Setting("warnings", _warnings, _set_warnings),
    Setting("logging", _logging, _set_logging),
    Setting("interpreter", _interpreter, _set_interpreter),
    Setting("signals", _signals, _set_signals, kept_from_import=False),
    Setting("numpy errors", np.geterr, lambda state: np.seterr(**state)),
    Setting("torch", _torch, _set_torch),
)
"""The settings that are restored after user code."""


def read_state() -> list[Any]:
    """Return the current value of every setting."""
    return [setting.read() for setting in SETTINGS]


def restore_state(values: list[Any]) -> None:
    """Set every setting to the value that `read_state` returned."""
    for setting, value in zip(SETTINGS, values, strict=True):
        setting.set(value)


def changed_settings(before: list[Any], after: list[Any]) -> dict[int, Any]:
    """Return the values that differ between two readings, by the setting's index, where `kept_from_import`."""
    return {
        index: new
        for index, (setting, old, new) in enumerate(zip(SETTINGS, before, after, strict=True))
        if setting.kept_from_import and new != old
    }


def random_state() -> tuple[Any, ...]:
    """Return the states of the global generators of Python, NumPy, torch, and the GPUs if CUDA is in use."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    on_gpus = torch.cuda.get_rng_state_all() if in_use else None
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), on_gpus


def restore_random_state(state: tuple[Any, ...]) -> None:
    """Set the global generators to the states that `random_state` returned."""
    python, numpy, on_cpu, on_gpus = state
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(on_cpu)
    if on_gpus is not None:
        torch.cuda.set_rng_state_all(on_gpus)


def seed_generators(value: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    random.seed(value)
    np.random.seed(value % 2**32)
    torch.default_generator.manual_seed(value)
