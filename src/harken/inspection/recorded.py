"""Read one recorded update of a PPO run: its rollouts, its credit table and the run's configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harken.config import RunConfig
from harken.config import files as config_files
from harken.config.ppo import PPOSettings, PPOTraining
from harken.errors import UserError
from harken.inspection.rows import FIX, CreditRow, RolloutRow, read_messages, require_rows
from harken.records import Prompt, Rollout
from harken.run import checksums
from harken.run.credit_table import read_credit
from harken.run.folder import PipelineFolder, RunFolder
from harken.run.pipeline_record import read_pipeline
from harken.run.tables import read_rows

_UPDATE = re.compile(r"update-(\d{6,})\.parquet")


@dataclass(frozen=True)
class RecordedStep:
    """Update `number` (from 1). `rollouts[i]` and `credit[i]` describe the same response."""

    run: RunFolder
    config: RunConfig
    number: int
    rollouts: list[dict[str, Any]]
    credit: list[dict[str, Any]]

    @property
    def settings(self) -> PPOSettings:
        """The PPO settings of the run."""
        return ppo_settings(self.config)

    def scores(self, row: int) -> dict[str, tuple[float | None, float]]:
        """Return source → (value, weight) of one response, in the run's order. The value is None if there is none."""
        record = self.rollouts[row]
        sources = [name.removeprefix("score_") for name in record if name.startswith("score_")]
        scores = {source: (record[f"score_{source}"], record[f"weight_{source}"]) for source in sources}
        return {source: part for source, part in scores.items() if part[1] is not None}

    def has_new_logprobs(self) -> bool:
        """Return whether log-probabilities were measured again after the update."""
        return all(row["new_logprobs"] is not None for row in self.credit)


def read_step(root: Path, update: int) -> RecordedStep:
    """Read what a run recorded of one update.

    Raises UserError if `root` is not a PPO run, the update or its credit table is missing, or the two tables do not
    describe the same responses.
    """
    run, config = RunFolder(root), read_config(root)
    steps = recorded_updates(run.rollouts)
    where = f"{root} step {update}"
    if update not in steps:
        raise UserError(
            "this update was not recorded",
            where=where,
            fix=f"choose a recorded update: {format_ranges(steps) or 'none yet'}",
        )
    credited = recorded_updates(run.credit)
    if update not in credited:
        raise UserError(
            "rollouts/ has this update but credit/ does not: credit/ was deleted, or an older version wrote the run",
            where=where,
            fix=f"choose an update with both: {format_ranges([s for s in steps if s in credited]) or 'none'}",
        )
    name = f"update-{update:06d}.parquet"
    rollouts, credit = read_rows(run.rollouts / name), read_credit(run.credit / name)
    require_rows(rollouts, RolloutRow, run.rollouts / name)
    require_rows(credit, CreditRow, run.credit / name)
    lengths = [len(row["response_tokens"]) for row in rollouts]
    if list(map(_identity, rollouts)) != list(map(_identity, credit)) or lengths != [
        len(row["old_logprobs"]) for row in credit
    ]:
        raise UserError(
            f"rollouts/{name} and credit/{name} describe different responses", where=str(root), fix=FIX
        )
    return RecordedStep(run, config, update, rollouts, credit)


def new_logprobs_hint(step: RecordedStep) -> str:
    """Name the nearest update with log-probabilities after the update, or the setting that records them."""
    trace_every = step.settings.trace_every
    folder, updated = step.run.credit, recorded_updates(step.run.credit)
    for update in sorted((n for n in updated if n % trace_every == 0), key=lambda n: abs(n - step.number)):
        if all(
            row["new_logprobs"] is not None for row in read_credit(folder / f"update-{update:06d}.parquet")
        ):
            return (
                f"Fix: --step {update}, the nearest measured update (training.ppo.trace_every: {trace_every})"
            )
    return f"Fix: train with training.ppo.trace_every: 1 (now {trace_every}) to measure every update"


def _ppo_runs(root: Path) -> list[Path]:
    """Return the PPO runs that have begun in a pipeline, or directly inside any other folder."""
    if not PipelineFolder(root).config.is_file():
        folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        return [
            path for path in folders if RunFolder(path).config.is_file() and RunFolder(path).credit.is_dir()
        ]
    stages = read_pipeline(root)[1]
    return [stage.root for stage in stages if stage.type == "ppo" and RunFolder(stage.root).config.is_file()]


def read_config(root: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Read the configuration of the PPO run in `root`, with `--set` overrides. Raises UserError if there is none."""
    run = RunFolder(root)
    if not run.config.is_file():
        inner = _ppo_runs(root)
        fix = f"name the PPO run: {' or '.join(map(str, inner))}" if inner else "name the folder of a PPO run"
        raise UserError("not a run: config.yml is missing", where=str(root), fix=fix)
    checksums.verify_file(run.config)
    config = config_files.load_run(str(run.config), list(overrides), root)
    if not isinstance(config.training, PPOTraining):
        raise UserError(
            f"this is a run of type {config.training.type}",
            where=str(root),
            fix="name the folder of a PPO run: only PPO records values per token",
        )
    return config


def ppo_settings(config: RunConfig) -> PPOSettings:
    """Return the `training.ppo` section of a PPO run."""
    assert isinstance(config.training, PPOTraining)
    return config.training.ppo


def to_rollout(record: dict[str, Any]) -> Rollout:
    """Convert a row of rollouts/*.parquet to a Rollout. `reference` and `details` are not recorded."""
    return Rollout(
        prompt=Prompt(record["prompt_id"], read_messages(record), record["domain"], record["language"]),
        sample=record["sample"],
        prompt_tokens=tuple(record["prompt_tokens"]),
        response_tokens=tuple(record["response_tokens"]),
        sampler_logprobs=tuple(record["sampler_logprobs"]),
        text=record["response"],
        stop=record["stop"],
        policy_version=record["policy_version"],
    )


def recorded_updates(folder: Path) -> list[int]:
    """List the numbers of the updates that have a table in `folder`."""
    names = (_UPDATE.fullmatch(path.name) for path in folder.glob("update-*.parquet"))
    return sorted(int(name[1]) for name in names if name)


def format_ranges(numbers: Sequence[int]) -> str:
    """Format ascending numbers as ranges: ``1–4, 7, 9–12``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("–".join(map(str, part)) for part in parts)


def _identity(row: dict[str, Any]) -> tuple[str, int]:
    return row["prompt_id"], row["sample"]
