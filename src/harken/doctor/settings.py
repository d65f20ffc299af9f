"""Check settings that every type of training has."""

from __future__ import annotations

from typing import NamedTuple

from harken.config.preference_training import DPOTraining
from harken.config.training import HeadTraining, SupervisedTraining
from harken.doctor.check import ALL, Check, check
from harken.doctor.context import Context
from harken.doctor.finding import CheckOutcome, error, note, ok, warning
from harken.health.monitor import Monitor
from harken.health.rule import TrainingType
from harken.train.sampler import num_steps


class Range(NamedTuple):
    """Range of learning rates: advised from `low` to `high`; probably a mistake outside `least` … `most`."""

    least: float
    low: float
    high: float
    most: float


ADAPTER_LR: dict[TrainingType, Range] = {
    "sft": Range(1e-6, 1e-4, 5e-4, 3e-3),
    "reward": Range(1e-6, 1e-5, 1e-4, 3e-3),
    "classifier": Range(1e-6, 1e-5, 1e-4, 3e-3),
    "ppo": Range(1e-7, 1e-6, 1e-5, 2e-3),
    "dpo": Range(1e-7, 5e-6, 5e-5, 2e-3),
    "online_dpo": Range(1e-7, 1e-6, 2e-5, 2e-3),
}
"""With LoRA. The advice is for models with billions of weights; small ones need higher rates."""
FULL_LR: dict[TrainingType, Range] = {
    "sft": Range(1e-8, 1e-6, 5e-5, 3e-4),
    "reward": Range(1e-8, 1e-6, 5e-5, 3e-4),
    "classifier": Range(1e-8, 1e-6, 5e-5, 3e-4),
    "ppo": Range(1e-9, 1e-7, 5e-6, 5e-5),
    "dpo": Range(1e-9, 1e-7, 5e-6, 5e-5),
    "online_dpo": Range(1e-9, 1e-7, 5e-6, 5e-5),
}
"""With all weights trained: a tenth to a hundredth of an adapter's rate."""
DIVERGES = 10
"""A learning rate above `most` times this is an error."""


@check(
    ALL,
    what="training.lr, compared with the range for the stage, with or without LoRA",
    why="A learning rate that is too high destroys the model in a few steps; one that is too low learns nothing.",
)
def learning_rate(context: Context) -> CheckOutcome:
    """Compare with the range for the stage and the trained weights."""
    lr, kind = context.config.training.lr, context.kind
    ranges = ADAPTER_LR if context.config.lora else FULL_LR
    span, trained = ranges[kind], "LoRA" if context.config.lora else "every weight"
    measured = f"lr {lr:g} ({trained}; advised {span.low:g} to {span.high:g})"
    fix = f"set training.lr between {span.low:g} and {span.high:g}, and start low"
    if lr > DIVERGES * span.most:
        return error(measured, fix)
    if not span.least <= lr <= span.most:
        return warning(measured, fix)
    if not span.low <= lr <= span.high:
        return note(measured, "watch the first steps: if loss or KL jumps, lower it")
    return ok(measured)


@check(
    ("sft", "reward", "classifier", "dpo"),
    what="epochs, batch size and warm-up, compared with the number of steps",
    why="Many epochs over few rows overfit; a warm-up longer than the run never reaches the learning rate.",
)
def schedule_and_batches(context: Context) -> CheckOutcome:
    """Count steps as training does."""
    training = context.config.training
    assert isinstance(training, SupervisedTraining | HeadTraining | DPOTraining)
    rows = len(context.rows.train)
    steps = num_steps(rows, training.batch_size, training.epochs, training.max_steps)
    measured = (
        f"{steps:,} steps of {training.batch_size} from {rows:,} rows, {training.epochs} epochs at most"
    )
    if steps <= training.warmup_steps:
        return warning(f"{measured}; warm-up of {training.warmup_steps}", "lower training.warmup_steps")
    if training.epochs > 4:
        return warning(measured, "set training.epochs to 1 … 4, and 1 or 2 for a reward model or DPO")
    if training.batch_size < 4:
        return note(measured, "batches of less than 4 rows make a noisy gradient: raise training.batch_size")
    return ok(measured)


@check(
    ALL,
    what="whether there are held-out rows to select a checkpoint by",
    why="Without held-out rows overfitting goes unnoticed, and the last weights are kept.",
)
def held_out_rows(context: Context) -> CheckOutcome:
    """Count held-out rows. A few are enough for PPO, which samples responses to them repeatedly."""
    count = len(context.rows.held_out)
    if count == 0:
        return note(
            "0 held-out rows", "set data.eval_path, or data.eval_fraction: 0.1 with data.eval_limit: 32"
        )
    return ok(f"{count:,} held-out rows, {len(context.rows.train):,} training rows")


@check(
    ALL,
    what="names in health.stop_on",
    why="A misspelled finding would never stop the run.",
)
def stop_on(context: Context) -> CheckOutcome:
    """Validate the names as the monitor does."""
    Monitor(context.config.health.stop_on, context.kind)
    rules = ", ".join(context.config.health.stop_on)
    return ok(f"ends on {rules}" if rules else "no finding ends the run")


SETTINGS_CHECKS: tuple[Check, ...] = (learning_rate, schedule_and_batches, held_out_rows, stop_on)
