"""Record a run step by step: metrics.jsonl, TensorBoard scalars, further sinks, log lines and a progress bar."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from tqdm import tqdm

from harken.errors import describe_exception
from harken.run import atomic, bounded_read
from harken.run.folder import RunFolder
from harken.run.sinks import Sink
from harken.run.terminal import Clock, bar, counter, progress, say

__all__ = ["Tracker", "counter", "progress", "say"]

_BUFFER = 1 << 20
CURVES = {
    "loss (reward model, SFT)": "loss",
    "PPO loss": "ppo_loss",
    "value error": "value/loss",
    "mean reward in training": "reward/mean",
    "mean reward in evaluation": "eval/reward_mean",
}
"""Charts of TensorBoard's tab "Custom scalars", which beginners look at first: title and metric."""


class Tracker:
    """Record one run: call `start` once, `log` after every step, and `finish` (a `with` block does)."""

    def __init__(
        self,
        run: RunFolder,
        total: int,
        label: str,
        tensorboard: bool,
        sinks: Sequence[Callable[[], Sink]] = (),
    ) -> None:
        self._run, self._total, self._label, self._tensorboard = run, total, label, tensorboard
        self._to_open, self._sinks = tuple(sinks), list[Sink]()
        self._file: BinaryIO | None = None
        self._scalars: Any = None

    def start(self, step: int) -> None:
        """Begin after `step` finished steps, and delete the records of later ones.

        A run that starts at 0 starts empty. An incomplete last line of metrics.jsonl is deleted.
        """
        atomic.make_folder(self._run.root)
        _remove_later_lines(self._run.metrics, step)
        self._file = self._run.metrics.open("ab", buffering=_BUFFER)
        atomic.sync(
            self._run.root
        )  # lines are flushed one by one, so the directory entry must be flushed too
        if self._tensorboard:
            self._scalars = _ignore_errors(
                "TensorBoard logging", lambda: _scalar_writer(self._run.tensorboard, step)
            )
        opened = [_ignore_errors("a tracker", sink) for sink in self._to_open]
        self._sinks = [sink for sink in opened if sink is not None]
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

        A metric that is NaN or infinite becomes null, and its name is added to the line's `nonfinite` list. None is a
        metric without a value. `skipped` is the reason why the step was skipped, if it was. `summary` is printed on
        its own line, or with `keep=False` next to the bar until the next step. A full disk delays lines but does
        not end the run. Raises ValueError if a metric has a reserved name.
        """
        if self._file is None:
            raise RuntimeError("start the tracker before logging")
        if reserved := {"step", "nonfinite", "skipped"} & metrics.keys():
            raise ValueError(f"a metric may not be called {sorted(reserved)}")
        values = {name: _number(value) for name, value in metrics.items() if value is not None}
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        line: dict[str, Any] = {"step": step} | {name: finite.get(name) for name in metrics}
        if nonfinite := [name for name in values if name not in finite]:
            line["nonfinite"] = nonfinite
        if skipped is not None:
            line["skipped"] = skipped
        self._record(step, line, finite)
        self._show(step, summary.replace("\n", " "), keep)

    def finish(self) -> None:
        """Close files and the bar. Further calls do nothing."""
        if self._file is None:
            return
        file, self._file = self._file, None
        _tolerate_full_disk("metrics.jsonl", file.close)
        if self._scalars is not None:
            _ignore_errors("TensorBoard logging", self._scalars.close)
        for sink in self._sinks:
            _ignore_errors(sink.name, sink.close)
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
            # On a full disk the line stays in the buffer and is written with a later one.
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
            self._scalars = _ignore_errors("TensorBoard logging", scalars)
        self._sinks = [sink for sink in self._sinks if _ignore_errors(sink.name, _logged(sink, step, finite))]

    def _show(self, step: int, summary: str, keep: bool) -> None:
        self._clock.done = step
        if summary and keep:
            # On a terminal the bar shows the remaining time; in a log the line shows it.
            where = self._clock if self._bar.disable else self._clock.count()
            say(f"{self._label} {where}  {summary}")
        self._bar.set_postfix_str("" if keep else summary, refresh=False)
        self._bar.update(step - self._bar.n)
        self._bar.refresh()


def _number(value: float) -> float | int:
    """Convert to a Python number: metrics may be NumPy or torch scalars."""
    return value if type(value) is int else float(value)


def logged_lines(path: Path, step: int) -> list[bytes]:
    """Return the lines of a metrics.jsonl up to `step`, without incomplete ones; [] if there is no file."""
    lines = (
        bounded_read.read_bytes(path, bounded_read.MAX_LINES).split(b"\n") if step and path.exists() else []
    )
    return [line for line in lines if _step_of(line) <= step]


def _remove_later_lines(path: Path, step: int) -> None:
    if not path.exists():
        return
    lines = b"".join(line + b"\n" for line in logged_lines(path, step))
    if lines != bounded_read.read_bytes(path, bounded_read.MAX_LINES):
        atomic.write_bytes(path, lines)


def _step_of(line: bytes) -> float:
    """Return the step of a line; infinity, so that it is never kept, if the line is incomplete or has no step."""
    try:
        step = json.loads(line.decode())["step"]
    except (LookupError, RecursionError, TypeError, ValueError):
        return math.inf
    return step if type(step) in (int, float) else math.inf


def _scalar_writer(folder: Path, step: int) -> Any:
    # Imported here because it imports torch, which reports and tables do not need.
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=step + 1 if step else 0)
    writer.add_custom_scalars({"Recipe": {title: ["Multiline", [tag]] for title, tag in CURVES.items()}})
    return writer


def _logged(sink: Sink, step: int, finite: Mapping[str, float]) -> Callable[[], bool]:
    def log() -> bool:
        sink.log(step, finite)
        return True

    return log


def _ignore_errors(what: str, call: Callable[[], Any]) -> Any:
    """Call into TensorBoard or a sink; on an error warn and return None, since metrics.jsonl has the same values."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001  whatever it raises
        say(f"warning: {what} stops here, the run continues: {describe_exception(error)}")
        return None


def _tolerate_full_disk(label: str, write: Callable[[], None]) -> bool:
    """Write and return True; on a full disk warn and return False."""
    try:
        write()
    except OSError as error:
        if not atomic.disk_is_full(error):
            raise
        say(f"warning: {label} could not be written, the run continues: {error.strerror}")
        return False
    return True
