"""What is recorded of a run step by step: metrics.jsonl, TensorBoard scalars, a line and a bar."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from tqdm import tqdm

from harken.errors import describe_exception
from harken.run import atomic, bounded
from harken.run.folder import RunFolder
from harken.run.terminal import Clock, bar, counter, progress, say

__all__ = ["Tracker", "counter", "progress", "say"]

_BUFFER = 1 << 20


class Tracker:
    """Records one run. `start` it once, `log` every step, `finish` it (a `with` block does)."""

    def __init__(self, run: RunFolder, total: int, label: str, tensorboard: bool) -> None:
        self._run, self._total, self._label, self._tensorboard = run, total, label, tensorboard
        self._file: BinaryIO | None = None
        self._scalars: Any = None

    def start(self, step: int) -> None:
        """Begin after `step` finished steps: what was recorded of later ones is taken back.

        A run that starts at 0 starts empty. A torn last line of metrics.jsonl is dropped.
        """
        atomic.make_folder(self._run.root)
        _remove_later_lines(self._run.metrics, step)
        self._file = self._run.metrics.open("ab", buffering=_BUFFER)
        atomic.sync(self._run.root)  # the lines are flushed one by one; so must be their file's name
        if self._tensorboard:
            self._scalars = _ignore_tensorboard_errors(lambda: _scalar_writer(self._run.tensorboard, step))
        self._clock = Clock(step, self._total)
        self._bar: tqdm[Any] = bar(self._label, self._total, initial=step, leave=True)

    def log(
        self,
        step: int,
        metrics: Mapping[str, float | None],
        summary: str = "",
        *,
        keep: bool = True,
        skipped: str | None = None,
    ) -> None:
        """Record one step (counted from 1).

        A metric that is NaN or infinite becomes null, and its name joins the line's `nonfinite` list;
        None is a metric without a value. `skipped` is why the step was passed over; it joins the line under
        this name. `summary` is printed as a line that stays, or with
        `keep=False` shown behind the bar until the next step. A full disk delays lines and does not
        end the run. Raises ValueError when a metric has a name that the line itself uses.
        """
        if self._file is None:
            raise RuntimeError("start the tracker before logging")
        if taken := {"step", "nonfinite", "skipped"} & metrics.keys():
            raise ValueError(f"a metric may not be called {sorted(taken)}")
        given = {name: _number(value) for name, value in metrics.items() if value is not None}
        finite = {name: value for name, value in given.items() if math.isfinite(value)}
        line: dict[str, Any] = {"step": step} | {name: finite.get(name) for name in metrics}
        if nonfinite := [name for name in given if name not in finite]:
            line["nonfinite"] = nonfinite
        if skipped is not None:
            line["skipped"] = skipped
        self._record(step, line, finite)
        self._show(step, summary.replace("\n", " "), keep)

    def finish(self) -> None:
        """Close files and the bar. May be called twice."""
        if self._file is None:
            return
        file, self._file = self._file, None
        _tolerate_full_disk("metrics.jsonl", file.close)
        if self._scalars is not None:
            _ignore_tensorboard_errors(self._scalars.close)
        self._bar.close()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def _record(self, step: int, line: dict[str, Any], finite: Mapping[str, float]) -> None:
        file = self._file
        assert file is not None

        def append() -> None:
            # What a full disk refuses stays in the buffer, in order, and goes out with a later line.
            file.write((json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n").encode())
            file.flush()
            os.fsync(file.fileno())

        def scalars() -> Any:
            for name, value in finite.items():
                self._scalars.add_scalar(name, value, step)
            self._scalars.flush()
            return self._scalars

        _tolerate_full_disk("metrics.jsonl", append)
        if self._scalars is not None:
            self._scalars = _ignore_tensorboard_errors(scalars)

    def _show(self, step: int, summary: str, keep: bool) -> None:
        self._clock.done = step
        if summary and keep:
            # On a terminal the bar already tells the time left; in a log the line has to.
            where = self._clock if self._bar.disable else self._clock.count()
            say(f"{self._label} {where}  {summary}")
        self._bar.set_postfix_str("" if keep else summary, refresh=False)
        self._bar.update(step - self._bar.n)
        self._bar.refresh()


def _number(value: float) -> float | int:
    """A plain Python number: metrics may come as NumPy or torch scalars."""
    return value if type(value) is int else float(value)


def logged_lines(path: Path, step: int) -> list[bytes]:
    """The lines of a metrics.jsonl up to `step`, [] when there is none. Torn lines are left out."""
    lines = bounded.read_bytes(path, bounded.MAX_LINES).split(b"\n") if step and path.exists() else []
    return [line for line in lines if _step_of(line) <= step]


def _remove_later_lines(path: Path, step: int) -> None:
    if not path.exists():
        return
    kept = b"".join(line + b"\n" for line in logged_lines(path, step))
    if kept != bounded.read_bytes(path, bounded.MAX_LINES):
        atomic.write_bytes(path, kept)


def _step_of(line: bytes) -> float:
    """The step a line tells of; infinite, so never kept, for a line that is torn or tells of none."""
    try:
        step = json.loads(line.decode())["step"]
    except (LookupError, RecursionError, TypeError, ValueError):
        return math.inf
    return step if type(step) in (int, float) else math.inf


def _scalar_writer(folder: Path, step: int) -> Any:
    # Imported late because it brings torch: a page or a table that prints progress needs none.
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1 if step else 0)


def _ignore_tensorboard_errors(call: Callable[[], Any]) -> Any:
    """What a call into TensorBoard gives, or None and a warning: its curves only repeat metrics.jsonl."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  whatever it raises
        say(f"warning: TensorBoard curves end here, the run goes on: {describe_exception(error)}")
        return None


def _tolerate_full_disk(what: str, write: Callable[[], None]) -> bool:
    """Whether there was room for a write; a warning when there was none."""
    try:
        write()
    except OSError as error:
        if not atomic.disk_is_full(error):
            raise
        say(f"warning: {what} could not be written, the run goes on: {error.strerror}")
        return False
    return True
