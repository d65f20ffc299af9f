"""The only loop: resume, step, evaluate, log, checkpoint, save."""

from __future__ import annotations

import contextlib
import shutil
import sys
import time
from collections.abc import Mapping
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
from harken.run import atomic, bounded, checkpoint, checksums, manifest, signals, status
from harken.run.folder import RunFolder
from harken.run.lock import require_disk_space
from harken.run.signals import Stopped
from harken.run.terminal import is_terminal
from harken.run.tracking import Tracker, logged_lines, say
from harken.seeds import derive_seed as derive_seed
from harken.train import gpu_memory
from harken.train.best_checkpoint import BestCheckpoint
from harken.train.nonfinite import NonFiniteHandler
from harken.train.optim.optimiser import PARAMETER_PREFIX
from harken.train.restore import restore

_UNLOGGED = "unlogged"
"""In a checkpoint's state: metrics of its last step, which was not evaluated any more. As text, for they may be NaN."""


@runtime_checkable
class Stage(Protocol):
    """What a kind of training gives the loop. Steps count from 0; everything random derives from the step."""

    label: str
    total: int

    def step(self, number: int) -> dict[str, float]:
        """Do optimiser step (for PPO: update) `number` and return its metrics.

        Raises NonFinite, with everything as it was, when a number in it is not finite.
        """
        ...

    def on_train_begin(self) -> None:
        """What has to be measured before the first step of a fresh run."""
        ...

    def evaluate(self, done: int) -> dict[str, float]:
        """Metrics on held-out data after `done` steps ({} when there are none)."""
        ...

    def selection_metric(self, metrics: Mapping[str, float]) -> float | None:
        """How good the weights are by a step's metrics, higher is better; −∞: not fit to be chosen; None: unknown."""
        ...

    def stop_reason(self) -> str | None:
        """Why to end before all steps are done; None to go on."""
        ...

    def summary(self, metrics: Mapping[str, float]) -> str:
        """The step in one line."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All tensors a resumed run needs."""
        ...

    def state(self) -> dict[str, Any]:
        """All other state a resumed run needs, as JSON."""
        ...

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put both back."""
        ...

    def save(self, folder: Path) -> None:
        """Write the finished model. Called once, last.

        Raises FrozenWeightsChanged, after everything is written, when weights that had to stay as they were did not.
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
    made_by: Mapping[str, str] | None = None,
) -> None:
    """Take a stage from its newest good checkpoint to its end, watching its health.

    Checkpoints tell what they were `made_by`.
    A signal that asks to stop raises Stopped, with a checkpoint of where the run is (see `run.signals`); one that
    comes while `final/` is written raises it when the run is finished.
    Raises UserError when more than `max_skipped_steps` in a row met a number that is not finite, and when the disk
    has no room for two checkpoints; and FrozenWeightsChanged, after the finished run is saved and marked, when weights
    that had to stay as they were did not.
    """
    nonfinite = NonFiniteHandler(run, seed, max_skipped_steps, stage.total)
    loop = _Loop(
        stage, run, checkpoints, Monitor(health.stop_on, kind, limits_for(dtype)), nonfinite, made_by or {}
    )
    try:
        with signals.handle_signals():
            loop.train(seed, eval_every, patience, tensorboard)
            loop.finish()
    except Stopped as stop:
        loop.leave(stop)
        raise
    except KeyboardInterrupt:
        loop.tell("interrupted")
        raise
    except BaseException as error:
        loop.fail(error)
        raise
    loop.tell(loop.reason or "finished")
    if loop.moved:
        raise FrozenWeightsChanged(loop.moved, where=str(run.root))
    signals.raise_if_pending()


class _Loop:
    """Where a run is: `done` steps are trained, evaluated and logged, the newest checkpoint is of step `saved`."""

    def __init__(
        self, stage: Stage, run: RunFolder, checkpoints: CheckpointSettings, monitor: Monitor,
        nonfinite: NonFiniteHandler, made_by: Mapping[str, str],
    ) -> None:  # fmt: skip
        self.stage, self.run, self.checkpoints = stage, run, checkpoints
        self.monitor, self.nonfinite, self.made_by = monitor, nonfinite, dict(made_by)
        self.done = self.saved = 0
        self.unlogged: dict[str, float] = {}
        """Metrics of a step more that is trained, not yet evaluated, and so not logged."""
        self.saved_at = time.monotonic()
        """The clock when the newest checkpoint was written or read."""
        self.finishing = False
        self.logged = True
        """Whether the last of the `done` steps was considered for the best, and stands in metrics.jsonl."""
        self.moved = manifest.moved_components(run)
        """Components whose weights had to stay as they were and did not, also as an earlier process of the run told."""
        if (kept := checkpoint.latest(run.checkpoints)) is not None:
            restore(stage, kept.step, kept.tensors, kept.state, run.checkpoints)
            self.unlogged = {name: float(text) for name, text in kept.state.get(_UNLOGGED, {}).items()}
            self.saved, self.done = kept.step, kept.step - bool(self.unlogged)
            say(f"{stage.label}: resuming after step {self.saved} of {stage.total}")
            nonfinite.count_logged(logged_lines(run.metrics, self.done))
        self.skipped = nonfinite.skipped
        """Of the steps that the newest checkpoint has."""
        checkpoint.prune(run.checkpoints, checkpoints.keep)
        self.before = stage.state()
        """The stage's state after `done` steps."""
        self.best = BestCheckpoint(run.best)
        self.reason = stage.stop_reason()
        self.tell(None)
        require_disk_space(run.root, 2 * _bytes_of_checkpoint(stage.tensors()), "two checkpoints")

    def train(self, seed: int, eval_every: int, patience: int | None, tensorboard: bool) -> None:
        """Every step that is left."""
        stage, total, owed = self.stage, self.stage.total, False
        self.reason = self.reason or self.best.out_of_patience(self.done, eval_every, patience)
        if self.saved == 0:
            stage.on_train_begin()
            self.before = stage.state()
        with Tracker(self.run, total, stage.label, tensorboard) as tracker:
            tracker.start(self.done)
            if self.done:
                # Not splitlines: a metric's name may hold a character that ends a line elsewhere.
                self.monitor.replay(bounded.read_text(self.run.metrics, bounded.MAX_LINES).split("\n")[:-1])
                self.reason = self.reason or self.monitor.stop_reason()
            while self.done < total and (self.reason is None or self.unlogged):
                signals.raise_if_stopped()
                began, number, skipped = time.perf_counter(), self.done, None
                if not self.unlogged:
                    torch.manual_seed(derive_seed(seed, stage.label, "step", number))
                    with signals.step():
                        self.unlogged, skipped = self.nonfinite.step(stage, number)
                metrics = dict(self.unlogged)
                self.reason = stage.stop_reason()
                due = (number + 1) % eval_every == 0 or number + 1 == total or self.reason is not None
                if due and skipped is None:
                    metrics |= stage.evaluate(number + 1)
                self.done, self.unlogged, self.before = number + 1, {}, stage.state()
                self.logged = False
                self.best.consider(self.done, stage, metrics)
                metrics |= {"seconds": time.perf_counter() - began, **gpu_memory.peaks()}
                self._log(tracker, metrics, skipped)
                self.logged = True
                self.nonfinite.raise_if_too_many(skipped)
                self.reason = self.reason or self.monitor.stop_reason()
                if self.done < total:
                    self.reason = self.reason or self.best.out_of_patience(self.done, eval_every, patience)
                last = self.done == total or self.reason is not None
                owed = owed or self.done % self.checkpoints.every == 0
                # Among steps that are skipped none is kept: what a run fails with must not push a good one out.
                if last or ((owed or self._long_ago()) and skipped is None):
                    owed = False
                    self._save(self.done, stage.state())
                    self.tell(None)

    def finish(self) -> None:
        """The best weights become `final/`."""
        if self.reason is not None:
            say(f"{self.stage.label}: stopped after {self.done} of {self.stage.total}: {self.reason}")
        self.finishing = True
        self.best.restore(self.stage, self.done)
        self.moved = _save_final(self.stage, self.run) or self.moved

    def leave(self, stop: Stopped) -> None:
        """A checkpoint of where the run is, if that is no step half done, and the newest one is not of there."""
        if not stop.late and not self.finishing:
            self._save_here()
        self.tell(f"interrupted by {stop.name}")
        after = f"goes on after step {self.saved}" if self.saved else "starts again: no step was finished"
        say(f"{self.stage.label}: {stop.name}: the same command {after}")

    def fail(self, error: BaseException) -> None:
        """A checkpoint of where the run is, if that is no step half done, and the newest one is not of there.

        What ended the run is told, whatever this meets.
        """
        whole = (
            not signals.stopped_mid_step()
            and not self.nonfinite.skipped_in_a_row
            and not isinstance(error, MemoryError)
        )
        if whole and self.logged and not self.finishing:
            with contextlib.suppress(Exception):
                self._save_here()
        if not self.finishing:
            kept = (
                f"the checkpoint of step {self.saved} is kept" if self.saved else "there is no checkpoint yet"
            )
            say(f"{self.stage.label}: failed after step {self.done} of {self.stage.total}; {kept}")
        told = str(error) if isinstance(error, UserError) else describe_exception(error)
        with contextlib.suppress(OSError):
            self.tell(f"failed: {told}")

    def tell(self, stopped_because: str | None) -> None:
        """Bring status.json up to date. Steps of a run that goes on count once a checkpoint has them."""
        finished = stopped_because is not None and not stopped_because.startswith("interrupted")
        steps, skipped = (self.done, self.nonfinite.skipped) if finished else (self.saved, self.skipped)
        status.write_status(
            self.run,
            requested=self.stage.total,
            completed=steps - skipped,
            skipped=skipped,
            stopped_because=stopped_because,
            frozen_weights_moved=self.moved,
        )

    def _save_here(self) -> None:
        if self.unlogged:
            texts = {name: repr(float(value)) for name, value in self.unlogged.items()}
            self._save(self.done + 1, self.stage.state() | {_UNLOGGED: texts})
        elif self.done > self.saved:
            self._save(self.done, self.before)

    def _save(self, step: int, state: Mapping[str, Any]) -> None:
        state = {**state, "made_by": self.made_by}
        if checkpoint.save(self.run.checkpoints, step, self.stage.tensors(), state, self.checkpoints.keep):
            self.saved, self.skipped = step, self.nonfinite.skipped
            self.saved_at = time.monotonic()

    def _long_ago(self) -> bool:
        minutes = self.checkpoints.minutes
        return minutes is not None and time.monotonic() - self.saved_at >= 60 * minutes

    def _log(self, tracker: Tracker, metrics: dict[str, float], skipped: str | None) -> None:
        before, report = self.monitor.report, self.monitor.update(self.done, metrics)
        metrics |= report.metrics()
        mark = status_mark(report.status, terminal=is_terminal(sys.stderr))
        summary = self.stage.summary(metrics) if skipped is None else f"skipped: {skipped}"
        tracker.log(self.done, metrics, f"{mark}  {summary}", skipped=skipped)
        for news in report.changes(before):
            say(f"{self.stage.label}: {news}")


def _bytes_of_checkpoint(tensors: Mapping[str, Tensor]) -> int:
    """Moments included, also where there are none yet: Adam keeps two a parameter."""
    parameters = sum(t.nbytes for name, t in tensors.items() if name.startswith(PARAMETER_PREFIX))
    others = sum(t.nbytes for name, t in tensors.items() if not name.startswith((PARAMETER_PREFIX, "adam/")))
    return 3 * parameters + others


def _save_final(stage: Stage, run: RunFolder) -> list[str]:
    """`final/` appears whole and sealed, or not at all; where it stands, the run's records are sealed too.

    Returns the components whose frozen weights moved, after the manifest names them.
    """
    moved: list[str] = []
    unfinished = run.root / ".final-unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        with checkpoint.disk_errors(unfinished):
            stage.save(unfinished)
    except FrozenWeightsChanged as alarm:
        moved = alarm.names
        manifest.mark_moved(run, moved)
    checksums.write_checksums(unfinished)
    checksums.write_checksums(run.root, run.checksummed_files())
    atomic.publish_folder(unfinished, run.final)
    return moved
