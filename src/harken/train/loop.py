"""Run the training loop of every stage: resume, step, evaluate, log, checkpoint, save."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from harken.config import CheckpointSettings, HealthSettings
from harken.errors import FrozenWeightsChanged, UserError, describe_exception
from harken.health.findings import status_mark
from harken.health.limits import limits_for
from harken.health.monitor import Monitor
from harken.health.rule import TrainingType
from harken.run import atomic, bounded_read, checkpoint, checksums, manifest, signals, status
from harken.run.checkpoint import PARAMETER_PREFIX
from harken.run.folder import RunFolder
from harken.run.live_votes import live_vote_metrics
from harken.run.lock import require_disk_space
from harken.run.signals import Stopped
from harken.run.sinks import Sink
from harken.run.terminal import is_terminal
from harken.run.tracking import Tracker, logged_lines, say
from harken.seeds import derive_seed as derive_seed
from harken.train import gpu_memory
from harken.train.best_checkpoint import BestCheckpoint
from harken.train.nonfinite import NonFiniteHandler
from harken.train.restore import restore

_UNLOGGED = "unlogged"
"""Key in a checkpoint's state: metrics of its last step, which is not yet evaluated. Stored as text, since they may be
NaN."""


@runtime_checkable
class Stage(Protocol):
    """Define the interface of a kind of training. Steps count from 0; all randomness is a function of the step."""

    label: str
    total: int

    def step(self, step: int) -> dict[str, float]:
        """Run optimiser step (for PPO: update) `step` and return its metrics.

        Raises NonFinite, with the state unchanged, if it meets a NaN or infinity.
        """
        ...

    def on_train_begin(self) -> None:
        """Measure what has to be measured before the first step of a new run."""
        ...

    def evaluate(self, done: int) -> dict[str, float]:
        """Return metrics on held-out data after `done` steps; {} without such data."""
        ...

    def selection_metric(self, metrics: Mapping[str, float]) -> float | None:
        """Return the metric that selects the best checkpoint (higher is better); −∞: ineligible; None: not measured."""
        ...

    def stop_reason(self) -> str | None:
        """Return why the run should end before its last step; None to continue."""
        ...

    def summary(self, metrics: Mapping[str, float]) -> str:
        """Summarise the step in one line."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return all tensors a resumed run needs."""
        ...

    def state(self) -> dict[str, Any]:
        """Return all other state a resumed run needs, as JSON."""
        ...

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore `tensors` and `state`."""
        ...

    def save(self, folder: Path) -> None:
        """Write the finished model. Called once, at the end.

        Raises FrozenWeightsChanged, after everything is written, if frozen weights changed.
        """
        ...


def run_stage(
    stage: Stage,
    run: RunFolder,
    *,
    seed: int,
    checkpoints: CheckpointSettings,
    eval_every: int,
    tensorboard: bool,
    kind: TrainingType,
    health: HealthSettings,
    dtype: str,
    patience: int | None = None,
    max_skipped_steps: int = 0,
    provenance: Mapping[str, str] | None = None,
    sinks: Sequence[Callable[[], Sink]] = (),
) -> None:
    """Train a stage from its newest valid checkpoint to the end, and monitor its health.

    Checkpoints record `provenance` as their `made_by`. `sinks` get copies of the metrics. On a stop signal:

    * during a step: writes a checkpoint of the current step, then raises Stopped;
    * while writing `final/`: finishes the run, then raises Stopped.

    Raises UserError if more than `max_skipped_steps` in a row met a NaN or infinity, or if the disk has no
    space for two checkpoints; raises FrozenWeightsChanged, after the finished run is saved and marked, if frozen
    weights changed.
    """
    nonfinite = NonFiniteHandler(run, seed, max_skipped_steps, stage.total)
    loop = _Loop(
        stage, run, checkpoints, Monitor(health.stop_on, kind, limits_for(dtype)), nonfinite, provenance or {}
    )
    try:
        with signals.handle_signals():
            loop.train(seed, eval_every, patience, tensorboard, sinks)
            loop.finish()
    except Stopped as stop:
        loop.on_stop(stop)
        raise
    except KeyboardInterrupt:
        loop.write_status("interrupted")
        raise
    except BaseException as error:
        loop.on_error(error)
        raise
    loop.write_status(loop.stop_reason or "finished")
    if loop.changed_components:
        raise FrozenWeightsChanged(loop.changed_components, where=str(run.root))
    signals.raise_if_pending()


class _Loop:
    """The state of a run. `done`: steps trained and logged. `saved`: step of the newest checkpoint."""

    def __init__(
        self, stage: Stage, run: RunFolder, checkpoints: CheckpointSettings, monitor: Monitor,
        nonfinite: NonFiniteHandler, provenance: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.stage, self.run, self.checkpoints = stage, run, checkpoints
        self.monitor, self.nonfinite, self.provenance = monitor, nonfinite, dict(provenance)
        self.done = self.saved = 0
        self.unlogged: dict[str, float] = {}
        """Metrics of step `done` + 1 if it is trained but not yet evaluated and logged."""
        self.saved_at = time.monotonic()
        """Monotonic time at which the newest checkpoint was written or read."""
        self.finishing = False
        self.logged = True
        """Whether step `done` was considered as the best and written to metrics.jsonl."""
        self.changed_components = manifest.changed_frozen_components(run)
        """Frozen components whose weights changed, in this or an earlier process of the run."""
        self._resume()
        self.saved_skipped = nonfinite.skipped
        """Skipped steps among the `saved` steps."""
        checkpoint.prune(run.checkpoints, checkpoints.keep)
        self.state_after_done = stage.state()
        """The stage's state after `done` steps."""
        self.best = BestCheckpoint(run.best)
        self.stop_reason = stage.stop_reason()
        self.write_status(None)
        require_disk_space(run.root, 2 * _checkpoint_bytes(stage.tensors()), "two checkpoints")

    def _resume(self) -> None:
        """Resume from the newest valid checkpoint, if there is one."""
        latest = checkpoint.latest(self.run.checkpoints)
        if latest is None:
            return
        restore(self.stage, latest.step, latest.tensors, latest.state, self.run.checkpoints)
        self.unlogged = {name: float(text) for name, text in latest.state.get(_UNLOGGED, {}).items()}
        self.saved, self.done = latest.step, latest.step - bool(self.unlogged)
        say(f"{self.stage.label}: resuming after step {self.saved} of {self.stage.total}")
        self.nonfinite.count_logged(logged_lines(self.run.metrics, self.done))

    def train(
        self,
        seed: int,
        eval_every: int,
        patience: int | None,
        tensorboard: bool,
        sinks: Sequence[Callable[[], Sink]] = (),
    ) -> None:
        """Run all remaining steps."""
        stage, total, checkpoint_due = self.stage, self.stage.total, False
        self.stop_reason = self.stop_reason or self.best.out_of_patience(self.done, eval_every, patience)
        if self.saved == 0:
            stage.on_train_begin()
            self.state_after_done = stage.state()
        with Tracker(self.run, total, stage.label, tensorboard, sinks) as tracker:
            tracker.start(self.done)
            if self.done:
                # Not splitlines: a metric's name may contain a character that splitlines takes for a line break.
                self.monitor.replay(
                    bounded_read.read_text(self.run.metrics, bounded_read.MAX_LINES).split("\n")[:-1]
                )
                self.stop_reason = self.stop_reason or self.monitor.stop_reason()
            while self.done < total and (self.stop_reason is None or self.unlogged):
                signals.raise_if_stopped()
                started, step, skipped = time.perf_counter(), self.done, None
                if not self.unlogged:
                    torch.manual_seed(derive_seed(seed, stage.label, "step", step))
                    with signals.step():
                        self.unlogged, skipped = self.nonfinite.step(stage, step)
                metrics = dict(self.unlogged)
                self.stop_reason = stage.stop_reason()
                eval_due = (step + 1) % eval_every == 0 or step + 1 == total or self.stop_reason is not None
                if eval_due and skipped is None:
                    metrics |= stage.evaluate(step + 1)
                self.done, self.unlogged, self.state_after_done = step + 1, {}, stage.state()
                self.logged = False
                self.best.consider(self.done, stage, metrics)
                metrics |= live_vote_metrics(self.run)
                metrics |= {"seconds": time.perf_counter() - started, **gpu_memory.peak_memory()}
                self._log(tracker, metrics, skipped)
                self.logged = True
                self.nonfinite.raise_if_too_many(skipped)
                self.stop_reason = self.stop_reason or self.monitor.stop_reason()
                if self.done < total:
                    self.stop_reason = self.stop_reason or self.best.out_of_patience(
                        self.done, eval_every, patience
                    )
                is_last = self.done == total or self.stop_reason is not None
                checkpoint_due = checkpoint_due or self.done % self.checkpoints.every == 0
                # No checkpoint while steps are being skipped: pruning would delete the last good checkpoint.
                if is_last or ((checkpoint_due or self._is_checkpoint_overdue()) and skipped is None):
                    checkpoint_due = False
                    self._save(self.done, stage.state())
                    self.write_status(None)

    def finish(self) -> None:
        """Write the best weights to `final/`."""
        if self.stop_reason is not None:
            say(f"{self.stage.label}: stopped after {self.done} of {self.stage.total}: {self.stop_reason}")
        self.finishing = True
        self.best.restore(self.stage, self.done)
        self.changed_components = _save_final(self.stage, self.run) or self.changed_components

    def on_stop(self, stop: Stopped) -> None:
        """Write a checkpoint, unless a step is half done or the newest checkpoint is of the current step."""
        if not stop.mid_step and not self.finishing:
            self._save_current()
        self.write_status(f"interrupted by {stop.name}")
        outcome = f"resumes after step {self.saved}" if self.saved else "starts again: no step was finished"
        say(f"{self.stage.label}: {stop.name}: the same command {outcome}")

    def on_error(self, error: BaseException) -> None:
        """Write a checkpoint as `on_stop` does, and the error to status.json, even if the checkpoint fails."""
        between_steps = (
            not signals.stopped_mid_step()
            and not self.nonfinite.skipped_in_a_row
            and not isinstance(error, MemoryError)
        )
        if between_steps and self.logged and not self.finishing:
            with contextlib.suppress(Exception):
                self._save_current()
        if not self.finishing:
            saved = (
                f"the checkpoint of step {self.saved} is kept" if self.saved else "there is no checkpoint yet"
            )
            say(f"{self.stage.label}: failed after step {self.done} of {self.stage.total}; {saved}")
        message = str(error) if isinstance(error, UserError) else describe_exception(error)
        with contextlib.suppress(OSError):
            self.write_status(f"failed: {message}")

    def write_status(self, stopped_because: str | None) -> None:
        """Write status.json. Until the run is finished, only steps in a checkpoint count as completed."""
        finished = stopped_because is not None and not stopped_because.startswith("interrupted")
        steps, skipped = (self.done, self.nonfinite.skipped) if finished else (self.saved, self.saved_skipped)
        status.write_status(
            self.run,
            requested=self.stage.total,
            completed=steps - skipped,
            skipped=skipped,
            stopped_because=stopped_because,
            frozen_weights_moved=self.changed_components,
        )

    def _save_current(self) -> None:
        if self.unlogged:
            unlogged = {name: repr(float(value)) for name, value in self.unlogged.items()}
            self._save(self.done + 1, self.stage.state() | {_UNLOGGED: unlogged})
        elif self.done > self.saved:
            self._save(self.done, self.state_after_done)

    def _save(self, step: int, state: Mapping[str, Any]) -> None:
        state = {**state, "made_by": self.provenance}
        if checkpoint.save(self.run.checkpoints, step, self.stage.tensors(), state, self.checkpoints.keep):
            self.saved, self.saved_skipped = step, self.nonfinite.skipped
            self.saved_at = time.monotonic()

    def _is_checkpoint_overdue(self) -> bool:
        minutes = self.checkpoints.minutes
        return minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes

    def _log(self, tracker: Tracker, metrics: dict[str, float], skipped: str | None) -> None:
        previous, report = self.monitor.report, self.monitor.update(self.done, metrics)
        metrics |= report.metrics()
        mark = status_mark(report.status, terminal=is_terminal(sys.stderr))
        summary = self.stage.summary(metrics) if skipped is None else f"skipped: {skipped}"
        tracker.log(self.done, metrics, f"{mark}  {summary}", skipped=skipped)
        for change in report.changes(previous):
            say(f"{self.stage.label}: {change}")


def _checkpoint_bytes(tensors: Mapping[str, Tensor]) -> int:
    """Compute the size of a checkpoint with Adam's two moments per parameter, even before they exist."""
    parameters = sum(t.nbytes for name, t in tensors.items() if name.startswith(PARAMETER_PREFIX))
    other_state = sum(
        t.nbytes for name, t in tensors.items() if not name.startswith((PARAMETER_PREFIX, "adam/"))
    )
    return 3 * parameters + other_state


def _save_final(stage: Stage, run: RunFolder) -> list[str]:
    """Write `final/` atomically, with checksums, after the checksums of the run's records.

    Returns the frozen components whose weights changed; the manifest then names them.
    """
    changed: list[str] = []
    unfinished = run.root / ".final-unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        with checkpoint.disk_errors(unfinished):
            stage.save(unfinished)
    except FrozenWeightsChanged as error:
        changed = error.names
        manifest.mark_frozen_changed(run, changed)
    checksums.write_checksums(unfinished)
    checksums.write_checksums(run.root, run.checksummed_files())
    atomic.publish_folder(unfinished, run.final)
    return changed
