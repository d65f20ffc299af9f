"""The only loop: resume, step, evaluate, log, checkpoint, save."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from harken.config import CheckpointSettings, HealthSettings
from harken.health.findings import light_mark
from harken.health.limits import limits_for
from harken.health.monitor import Monitor
from harken.health.rule import Kind
from harken.run import checkpoint, status
from harken.run.folder import RunFolder
from harken.run.tracking import Tracker, say
from harken.seeds import seed as derive_seed
from harken.train.best import Best
from harken.train.put_back import put_back


@runtime_checkable
class Stage(Protocol):
    """What a kind of training gives the loop. Steps count from 0; everything random derives from the step."""

    label: str
    total: int

    def step(self, number: int) -> dict[str, float]:
        """Do optimiser step (for PPO: update) `number` and return its metrics."""
        ...

    def before(self) -> None:
        """What has to be measured before the first step of a fresh run."""
        ...

    def evaluate(self, done: int) -> dict[str, float]:
        """Metrics on held-out data after `done` steps ({} when there are none)."""
        ...

    def quality(self, metrics: Mapping[str, float]) -> float | None:
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
        """Write the finished model. Called once, last."""
        ...


def run_stage(
    stage: Stage,
    run: RunFolder,
    *,
    seed: int,
    checkpoints: CheckpointSettings,
    eval_every: int,
    tensorboard: bool,
    kind: Kind,
    health: HealthSettings,
    dtype: str,
    patience: int | None = None,
) -> None:
    """Take a stage from its newest good checkpoint to its end, watching its health."""
    monitor = Monitor(health.stop_on, kind, limits_for(dtype))
    start = 0
    if (kept := checkpoint.latest(run.checkpoints)) is not None:
        put_back(stage, kept.step, kept.tensors, kept.state, run.checkpoints)
        start = kept.step
        say(f"{stage.label}: resuming after step {start} of {stage.total}")
    status.write(run, requested=stage.total, completed=start, stopped_because=None)
    best = Best(run.best)
    done, reason = start, stage.stop_reason() or best.out_of_patience(start, eval_every, patience)
    try:
        if start == 0:
            stage.before()
        with Tracker(run, stage.total, stage.label, tensorboard) as tracker:
            tracker.start(start)
            if start:
                # Not splitlines: a metric's name may hold a character that ends a line elsewhere.
                monitor.replay(run.metrics.read_text(encoding="utf-8").split("\n")[:-1])
                reason = reason or monitor.stop_reason()
            for number in range(start, stage.total):
                if reason is not None:
                    break
                began = time.perf_counter()
                torch.manual_seed(derive_seed(seed, stage.label, "step", number))
                metrics = stage.step(number)
                done, reason = number + 1, stage.stop_reason()
                if done % eval_every == 0 or done == stage.total or reason is not None:
                    metrics |= stage.evaluate(done)
                best.consider(done, stage, metrics)
                metrics["seconds"] = time.perf_counter() - began
                before, report = monitor.report, monitor.see(done, metrics)
                metrics |= report.metrics()
                mark = light_mark(report.light, terminal=sys.stderr.isatty())
                tracker.log(done, metrics, f"{mark}  {stage.summary(metrics)}")
                for news in report.news(before):
                    say(f"{stage.label}: {news}")
                reason = reason or monitor.stop_reason()
                if done < stage.total:
                    reason = reason or best.out_of_patience(done, eval_every, patience)
                last = done == stage.total or reason is not None
                if done % checkpoints.every == 0 or last:
                    checkpoint.save(run.checkpoints, done, stage.tensors(), stage.state(), checkpoints.keep)
                    status.write(run, requested=stage.total, completed=done, stopped_because=None)
        if reason is not None:
            say(f"{stage.label}: stopped after {done} of {stage.total}: {reason}")
        best.restore(stage, done)
        _save_final(stage, run)
    except KeyboardInterrupt:
        status.write(run, requested=stage.total, completed=done, stopped_because="interrupted")
        raise
    except Exception as error:
        status.write(run, requested=stage.total, completed=done, stopped_because=f"failed: {error}")
        raise
    status.write(run, requested=stage.total, completed=done, stopped_because=reason or "finished")


def _save_final(stage: Stage, run: RunFolder) -> None:
    """`final/` appears whole or not at all."""
    unfinished = run.root / ".final-unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    stage.save(unfinished)
    shutil.rmtree(run.final, ignore_errors=True)
    unfinished.rename(run.final)
