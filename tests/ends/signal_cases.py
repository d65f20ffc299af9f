"""A signal in every phase that a command has: it ends with the signal's code, in one line, and the command goes on.

The signal is sent when the phase calls a function, so no case depends on how fast a machine is.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ends.case import SFT, Case, owned

PIPELINE = "pipeline {world}/pipeline.yml --output-dir {dir}/out"
EVALUATION = "eval --config {world}/eval.yml --output-dir {dir}/out"
SWEEP = "sweep {world}/ppo.yml --over training.lr=1e-4,1e-5 --output-dir {dir}/out"
PLAN = "plan {dir}/sft.yml --no-measure"
DATA = "data {dir}/rows.jsonl"
REPORT = "report {world}/done --output-dir {dir}/out"

PHASES = [
    ("imports", PLAN, "import harken.plan.report"),
    ("plans", PLAN, "harken.plan.plan:make_plan"),
    ("looks at rows", DATA, "harken.data_check:check_data"),
    ("reads its rows", SFT, "harken.data.sources:load_split"),
    ("writes a checkpoint", SFT, "harken.run.checkpoint:_publish"),
    ("writes final", SFT, "harken.run.atomic:publish_folder"),
    ("marks a run finished", SFT, "harken.run.checksums:write_checksums"),
    ("evaluates", EVALUATION, "harken.evaluation.suite:first_scores"),
    ("compares", EVALUATION, "harken.evaluation.compare:compare"),
    ("seals an evaluation", EVALUATION, "harken.run.checksums:write_checksums"),
    ("draws a page", REPORT, "harken.pipeline.page:build_report"),
    ("reads metrics for a page", REPORT, "harken.report:read_summary"),
    ("sweeps, between runs", SWEEP, "harken.sweep:_write_results"),
    ("sweeps, as a run ends", SWEEP, "harken.run.atomic:publish_folder"),
    ("goes from stage to stage", PIPELINE, "harken.pipeline.run:_require_gates"),
    ("ends a stage of a pipeline", PIPELINE, "harken.run.atomic:publish_folder"),
    ("ends the evaluation of a pipeline", PIPELINE, "harken.evaluation.compare:compare"),
    ("writes the page of a pipeline", PIPELINE, "harken.pipeline.page:build_report"),
]
SIGNALS = ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129))


def sending(place: str, number: int) -> Callable[[Path], None]:
    """Send the signal when `module:function` is called first, or when `import module` begins."""

    def act(folder: Path) -> None:
        if place.startswith("import "):
            sys.meta_path.insert(0, _OnImport(place.removeprefix("import "), number))
            return
        module, _, name = place.partition(":")
        holder = importlib.import_module(module)
        original, sent = getattr(holder, name), []

        def called(*given: Any, **named: Any) -> Any:
            if not sent:
                sent.append(number)
                os.kill(os.getpid(), number)
            return original(*given, **named)

        setattr(holder, name, called)

    return act


class _OnImport:
    """Finds no module: sends the signal when one is looked for."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number

    def find_spec(self, name: str, *rest: object) -> None:
        if name == self.name and self.number:
            number, self.number = self.number, 0
            os.kill(os.getpid(), number)


def left_in_order(folder: Path) -> bool:
    """Nobody holds the folder, and no file in it has the name of an unfinished one."""
    return not owned(folder) and not list(folder.rglob("traceback.txt"))


CASES = [
    Case(
        f"{signal.Signals(number).name} while it {phase}",
        words,
        code,
        "interrupted",
        before=sending(place, number),
        then=left_in_order,
        again=True,
    )
    for at, (phase, words, place) in enumerate(PHASES)
    for number, code in [SIGNALS[at % 3]]
]
