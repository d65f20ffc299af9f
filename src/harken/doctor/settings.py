"""Checks that read the configuration alone: ranges that are known to work, for every kind of training (S2-82)."""

from __future__ import annotations

from typing import NamedTuple

from harken.config.training import RewardTraining, SupervisedTraining
from harken.doctor.check import ALL, Check, Kind, check
from harken.doctor.context import Context
from harken.doctor.finding import Outcome, error, note, ok, warning
from harken.health.monitor import Monitor
from harken.train.sampler import num_steps


class Range(NamedTuple):
    """Learning rates: advised from `low` to `high`; outside `least` … `most` they are hardly meant."""

    least: float
    low: float
    high: float
    most: float


ADAPTER: dict[Kind, Range] = {
    "sft": Range(1e-6, 1e-4, 5e-4, 3e-3),
    "reward": Range(1e-6, 1e-5, 1e-4, 3e-3),
    "ppo": Range(1e-7, 1e-6, 1e-5, 2e-3),
}
"""With LoRA. The advice is S2-82's, which is for models of billions of weights; small ones take much more."""
WHOLE: dict[Kind, Range] = {
    "sft": Range(1e-8, 1e-6, 5e-5, 3e-4),
    "ppo": Range(1e-9, 1e-7, 5e-6, 5e-5),
}
"""With every weight trained: a tenth to a hundredth of an adapter's."""
DIVERGES = 10
"""So many times the most is an error: the weights are lost in the first steps."""


@check(
    ALL,
    what="training.lr against the range for the stage, with LoRA or without",
    why="A rate too high destroys the model in its first steps; one too low trains for nothing.",
    items="S2-82",
)
def learning_rate(context: Context) -> Outcome:
    """The range is that of the stage, and of what trains."""
    lr, kind = context.config.training.lr, context.kind
    ranges = ADAPTER if context.config.lora else WHOLE
    span, what = ranges[kind], "LoRA" if context.config.lora else "every weight"
    measured = f"lr {lr:g} ({what}; advised {span.low:g} to {span.high:g})"
    fix = f"set training.lr between {span.low:g} and {span.high:g}, and start low"
    if lr > DIVERGES * span.most:
        return error(measured, fix)
    if not span.least <= lr <= span.most:
        return warning(measured, fix)
    if not span.low <= lr <= span.high:
        return note(measured, "watch the first steps: loss or KL that jumps asks for less")
    return ok(measured)


@check(
    ("sft", "reward"),
    what="epochs, batch size, warm-up and evaluations against the number of steps",
    why="Few rows seen often are learnt by heart; a warm-up longer than the run never reaches its rate.",
    items="S2-82, S2-41",
)
def schedule_and_batches(context: Context) -> Outcome:
    """Counts steps as training does."""
    training = context.config.training
    assert isinstance(training, SupervisedTraining | RewardTraining)
    rows = len(context.rows.train)
    steps = num_steps(rows, training.batch_size, training.epochs, training.max_steps)
    measured = (
        f"{steps:,} steps of {training.batch_size} from {rows:,} rows, {training.epochs} epochs at most"
    )
    if steps <= training.warmup_steps:
        return warning(f"{measured}; warm-up of {training.warmup_steps}", "lower training.warmup_steps")
    if training.epochs > 4:
        return warning(measured, "set training.epochs to 1 … 4, and 1 or 2 for a reward model")
    if training.batch_size < 4:
        return note(measured, "batches of less than 4 rows make a noisy gradient: raise training.batch_size")
    return ok(measured)


@check(
    ALL,
    what="whether there are held-out rows to choose and to judge by",
    why="Without held-out rows nobody sees a model that learns its rows by heart, and the last weights are kept.",
    items="S0-24",
)
def held_out_rows(context: Context) -> Outcome:
    """PPO's may be few: they are answered again and again."""
    count = len(context.rows.held_out)
    if count == 0:
        return note(
            "0 held-out rows", "set data.eval_path, or data.eval_fraction: 0.1 with data.eval_limit: 32"
        )
    return ok(f"{count:,} held-out rows beside {len(context.rows.train):,}")


@check(
    ALL,
    what="the names in health.stop_on",
    why="A finding that is misspelled would never end the run it should end.",
    items="S0-40",
)
def stop_on(context: Context) -> Outcome:
    """As the monitor itself reads them."""
    Monitor(context.config.health.stop_on, context.kind)
    named = ", ".join(context.config.health.stop_on)
    return ok(f"ends on {named}" if named else "no finding ends the run")


SETTINGS: tuple[Check, ...] = (learning_rate, schedule_and_batches, held_out_rows, stop_on)
