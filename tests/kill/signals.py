"""A child that gets a signal in the middle of a model's forward, and what it leaves behind."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harken.models.backbone import Backbone
from harken.run import stopping

SECONDS = ("seconds", "time/", "tokens_per_second")
"""Beginnings of metrics that measure time: a step that a signal cut in two took other time."""


def stopped_at(
    work: Callable[[Path], object], folder: Path, forward: int, number: int = signal.SIGTERM
) -> int:
    """Do `work(folder)` in a child that sends itself a signal before forward `forward`; its exit code."""
    child = os.fork()
    if child == 0:
        log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        _send_before(forward, number)
        stopping.raise_on_terminate()  # as the command line does
        try:
            work(folder)
        except stopping.Stopped as stop:
            os._exit(int(stop.code or 0))
        except KeyboardInterrupt:
            os._exit(130)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _send_before(forward: int, number: int) -> None:
    original, seen = Backbone.forward, iter(range(1, 10**9))

    def counted(self: Backbone, *given: Any, **named: Any) -> Any:
        if next(seen) == forward:
            os.kill(os.getpid(), number)
        return original(self, *given, **named)

    Backbone.forward = counted  # type: ignore[method-assign]


def without_seconds(metrics: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl but for what measures time."""
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(SECONDS)} for line in lines]
