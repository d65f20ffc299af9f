"""One update of a PPO run as it was written down: its rollouts with their credit, and the run's configuration."""

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
from harken.inspection.rows import RESTORE, CreditRow, RolloutRow, messages_of, require_rows
from harken.records import Prompt, Rollout
from harken.run import checksums
from harken.run.credit_table import read_credit
from harken.run.folder import PipelineFolder, RunFolder
from harken.run.tables import read_rows

_UPDATE = re.compile(r"update-(\d{6,})\.parquet")


@dataclass(frozen=True)
class RecordedStep:
    """Update `number` (from 1). Entry i of `rollouts` and of `credit` are the two rows of one answer."""

    run: RunFolder
    config: RunConfig
    number: int
    rollouts: list[dict[str, Any]]
    credit: list[dict[str, Any]]

    @property
    def settings(self) -> PPOSettings:
        """The PPO settings it was made under."""
        return ppo_settings(self.config)

    def scores(self, row: int) -> dict[str, tuple[float | None, float]]:
        """Source → (value, weight) of one answer, in the order of the run; value None: could not judge."""
        record = self.rollouts[row]
        sources = [name.removeprefix("score_") for name in record if name.startswith("score_")]
        found = {source: (record[f"score_{source}"], record[f"weight_{source}"]) for source in sources}
        return {source: part for source, part in found.items() if part[1] is not None}

    def measured(self) -> bool:
        """Whether log-probabilities were measured again after the update."""
        return all(row["new_logprobs"] is not None for row in self.credit)


def read_step(root: Path, number: int) -> RecordedStep:
    """What a run wrote of one update.

    Raises UserError when `root` is no PPO run, the update or its credit table is not there, or the two
    tables do not belong together.
    """
    run, config = RunFolder(root), read_config(root)
    steps = updates(run.rollouts)
    where = f"{root} step {number}"
    if number not in steps:
        raise UserError(
            "this update was not recorded",
            where=where,
            fix=f"Recorded updates: {spans(steps) or 'none yet'}",
        )
    credited = updates(run.credit)
    if number not in credited:
        raise UserError(
            "its rollouts are here, but not how they were credited: credit/ was deleted, or the run is an old one",
            where=where,
            fix=f"Updates with both: {spans([s for s in steps if s in credited]) or 'none'}",
        )
    name = f"update-{number:06d}.parquet"
    rollouts, credit = read_rows(run.rollouts / name), read_credit(run.credit / name)
    require_rows(rollouts, RolloutRow, run.rollouts / name)
    require_rows(credit, CreditRow, run.credit / name)
    lengths = [len(row["response_tokens"]) for row in rollouts]
    if list(map(_identity, rollouts)) != list(map(_identity, credit)) or lengths != [
        len(row["old_logprobs"]) for row in credit
    ]:
        raise UserError(
            f"rollouts/{name} and credit/{name} tell of different answers", where=str(root), fix=RESTORE
        )
    return RecordedStep(run, config, number, rollouts, credit)


def measured_hint(step: RecordedStep) -> str:
    """Name the nearest update of the run after which log-probabilities were measured, or how to measure them."""
    every = step.settings.trace_every
    folder, updated = step.run.credit, updates(step.run.credit)
    for number in sorted((n for n in updated if n % every == 0), key=lambda n: abs(n - step.number)):
        if all(
            row["new_logprobs"] is not None for row in read_credit(folder / f"update-{number:06d}.parquet")
        ):
            return f"Fix: --step {number}, the nearest measured (training.ppo.trace_every: {every})"
    return f"Fix: train with training.ppo.trace_every: 1 (now {every}): every update is measured"


def read_config(root: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """The configuration of the PPO run in `root`, under `--set` overrides. Raises UserError when it is none."""
    run = RunFolder(root)
    if not run.config.is_file():
        inner = PipelineFolder(root).ppo
        fix = (
            f"Name the run itself: {inner.root}" if inner.config.is_file() else "Name the folder of a PPO run"
        )
        raise UserError("no run here (config.yml is missing)", where=str(root), fix=fix)
    checksums.verify_file(run.config)
    config = config_files.load_run(str(run.config), list(overrides), root)
    if not isinstance(config.training, PPOTraining):
        raise UserError(
            f"this is a run of type {config.training.type}",
            where=str(root),
            fix="Only PPO credits single tokens",
        )
    return config


def ppo_settings(config: RunConfig) -> PPOSettings:
    """The `training.ppo` section of a PPO run."""
    assert isinstance(config.training, PPOTraining)
    return config.training.ppo


def rollout(record: dict[str, Any]) -> Rollout:
    """A row of rollouts/*.parquet as the record it was written from; `reference` and `details` were not kept."""
    return Rollout(
        prompt=Prompt(record["prompt_id"], messages_of(record), record["domain"], record["language"]),
        sample=record["sample"],
        prompt_tokens=tuple(record["prompt_tokens"]),
        response_tokens=tuple(record["response_tokens"]),
        sampler_logprobs=tuple(record["sampler_logprobs"]),
        text=record["response"],
        stop=record["stop"],
        policy_version=record["policy_version"],
    )


def updates(folder: Path) -> list[int]:
    """The numbers of the updates that have a table in `folder`."""
    names = (_UPDATE.fullmatch(path.name) for path in folder.glob("update-*.parquet"))
    return sorted(int(name[1]) for name in names if name)


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers in short: ``1–4, 7, 9–12``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ", ".join("–".join(map(str, part)) for part in parts)


def _identity(row: dict[str, Any]) -> tuple[str, int]:
    return row["prompt_id"], row["sample"]
