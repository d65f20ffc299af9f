"""Review a training run that goes on: its held-out responses now against those before training. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harken.config.review import ReviewConfig
from harken.errors import UserError
from harken.inspection.recorded import recorded_updates
from harken.maths.statistics.intervals import clustered_mean_interval
from harken.run.folder import RunFolder
from harken.run.live_votes import write_live_votes
from harken.run.tables import read_rows

UPDATE = "update {}"
"""Name of the policy after so many updates; update 0 is before training."""


@dataclass(frozen=True)
class ReviewedRun:
    """Hold the training run that a review samples, and the two updates whose responses are compared."""

    run: RunFolder
    first: int
    last: int

    def table(self, update: int) -> Path:
        """Return the table of the held-out responses after an update."""
        return self.run.held_out / f"update-{update:06d}.parquet"

    def policies(self) -> dict[str, str]:
        """Return the policies of a review: name → file of responses."""
        return {UPDATE.format(update): str(self.table(update)) for update in (self.first, self.last)}


def is_training_run(path: Path) -> bool:
    """Return whether a folder is a training run that keeps responses to held-out prompts, or may do so later."""
    run = RunFolder(path)
    return run.config.is_file() and (run.held_out.is_dir() or run.metrics.is_file() or run.status.is_file())


def reviewed_run(path: Path) -> ReviewedRun:
    """Return the first and the latest held-out evaluation of a run. Raises UserError if there are not two yet."""
    updates = recorded_updates(RunFolder(path).held_out)
    if not updates:
        raise UserError(
            "this run has kept no responses to held-out prompts",
            where=str(path),
            fix="train with data.eval_fraction and training.eval_every (ppo or online_dpo), or wait for the first "
            "evaluation",
        )
    if len(updates) < 2:
        raise UserError(
            f"there is one held-out evaluation so far, after update {updates[0]}",
            where=str(path),
            fix="run this command again after the next one (training.eval_every)",
        )
    return ReviewedRun(RunFolder(path), updates[0], updates[-1])


def run_behind(config: ReviewConfig) -> ReviewedRun | None:
    """Return the run whose held-out responses a review compares; None for a review of anything else."""
    files = {name: Path(str(policy.responses)) for name, policy in config.policies.items()}
    folders = {path.parent for path in files.values()}
    if len(files) != 2 or len(folders) != 1:
        return None
    run = RunFolder(folders.pop().parent)
    updates = [n for n in recorded_updates(run.held_out) if UPDATE.format(n) in files]
    if len(updates) != 2:
        return None
    reviewed = ReviewedRun(run, *updates)
    return reviewed if reviewed.policies() == {name: str(path) for name, path in files.items()} else None


def publish_votes(reviewed: ReviewedRun, figures: dict[str, Any]) -> dict[str, Any] | None:
    """Write the votes of a locked review into its run, and return them; None where no item was decided."""
    pair = next(
        (
            pair
            for pair in figures["pairs"]
            if (pair["left"], pair["right"]) == (UPDATE.format(reviewed.first), UPDATE.format(reviewed.last))
        ),
        None,
    )
    if pair is None or pair["win_rate_decided"] is None:
        return None
    rate, (change, low) = pair["win_rate_decided"], _reward_change(reviewed)
    votes = {
        "update": reviewed.last,
        "decided": pair["wins"] + pair["losses"],
        "win_rate": rate["value"],
        "low": rate["low"],
        "high": rate["high"],
        "reward_change": change,
        "reward_change_low": low,
        "study": figures["study"],
    }
    write_live_votes(reviewed.run, votes)
    return votes


def live_line(votes: dict[str, Any], reviewed: ReviewedRun) -> str:
    """Say in one line how votes and reward moved."""
    return (
        f"Since the start of training the mean reward of these responses changed by {votes['reward_change']:+.3f}, and "
        f"raters prefer those after update {votes['update']} in {votes['win_rate']:.0%} of {votes['decided']} decided "
        f"items. The run at {reviewed.run.root} logs the votes with its next step, and its health monitor reads them."
    )


def _reward_change(reviewed: ReviewedRun) -> tuple[float, float]:
    """Return the mean paired change of the reward, and the lower end of its 95 % interval clustered by prompt.

    The lower end is the change minus its size where too few prompts give no interval: it then shows no rise.
    """
    before, after = (
        {(row["prompt_id"], row["sample"]): float(row["reward"]) for row in read_rows(reviewed.table(update))}
        for update in (reviewed.first, reviewed.last)
    )
    shared_keys = [key for key in after if key in before]
    interval = clustered_mean_interval(
        [after[key] - before[key] for key in shared_keys], [key[0] for key in shared_keys]
    )
    low = interval.bounds[0]
    return interval.mean, interval.mean - abs(interval.mean) if low is None else low
