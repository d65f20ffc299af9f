"""Checks of one update by the stage's own code, on a few rows: it learns, and changes only what trains."""

from __future__ import annotations

import math

from harken.doctor.check import ALL, Check, check
from harken.doctor.context import Context
from harken.doctor.finding import Outcome, error, note, ok, warning
from harken.doctor.ppo_context import PPOContext

COST = "an update of 4 rows"
NO_KL = 0.05
"""Nats per sequence between a policy and a reference that are the same model; bfloat16 rounds to about 0.001."""


@check(
    ALL,
    what="loss and gradient of one update",
    why="A loss that is not finite destroys the weights at the first step.",
    items="P29",
    cost=COST,
)
def update_runs(context: Context) -> Outcome:
    """Nothing of it is kept on disk."""
    metrics = context.update.metrics
    loss = metrics["ppo_loss"] if isinstance(context, PPOContext) else metrics["loss"]
    norm = metrics["grad_norm"]
    measured = f"loss {loss:.3f}, gradient norm {norm:.3g}"
    if not math.isfinite(loss) or not math.isfinite(norm):
        return error(measured, "set dtype: float32, or look for NaN in the model's weights")
    return ok(measured)


@check(
    ALL,
    what="whether the gradient reaches what trains",
    why="An adapter that gets no gradient stays what it was while every metric looks alive.",
    items="S0-13, P28",
    cost=COST,
)
def adapter_learns(context: Context) -> Outcome:
    """The B matrices of the adapter, or eight tensors of a whole model, before and after."""
    update = context.update
    measured = f"{update.moved} of {update.watched} watched tensors changed"
    if update.moved == update.watched:
        return ok(measured)
    if update.metrics.get("reward/std") == 0 and isinstance(context, PPOContext):
        return warning(
            f"{measured}; every answer earned the same reward",
            "look at the parts of the reward: nothing differs",
        )
    if update.moved == 0:
        return error(
            measured,
            "no gradient reaches the adapter: check lora.target_modules, and that nothing freezes or switches it",
        )
    return warning(measured, "some layers get no gradient: check lora.target_modules")


@check(
    ALL,
    what="fingerprints of the base, the reference and the reward model before and after",
    why="A reference that moves measures no KL, a reward model that moves is judge in its own cause.",
    items="S0-13, P37",
    cost=COST,
)
def frozen_weights(context: Context) -> Outcome:
    """To the last bit."""
    if thawed := context.update.thawed:
        return error(
            "; ".join(thawed), "something besides the adapter trains: no weight of these may be touched"
        )
    return ok("unchanged to the bit" if context.config.lora else "every weight trains; rewards unchanged")


@check(
    ("ppo",),
    what="ratio and KL(old‖new) of the first minibatch",
    why="Before its first step the policy is the one that sampled: any other ratio clips and biases at once.",
    items="P28",
    cost=COST,
)
def first_ratio(context: PPOContext) -> Outcome:
    """The largest ratio of any token."""
    gap, limits = context.update.metrics.get("policy/first_ratio_gap"), context.limits
    if gap is None:
        return note("the update took no step on the policy: every answer was cut and masked")
    measured = f"largest |ratio − 1| {gap:.2g}"
    fix = "old log-probabilities must come from the training forward: set dtype: float32, look for dropout"
    if not gap <= limits.first_ratio_red:
        return error(measured, fix)
    return ok(measured) if gap <= limits.first_ratio_amber else warning(measured, fix)


@check(
    ("ppo",),
    what="KL(policy ‖ reference) before the first update",
    why="PPO starts at its reference: a KL at the start means they are not the same model.",
    items="S0-27, P16",
    cost=COST,
)
def kl_at_start(context: PPOContext) -> Outcome:
    """Of another reference than `sft` it is a fact, not a fault."""
    kl = context.update.metrics["kl/mean"]
    measured = f"{kl:.3g} nats per sequence to the reference ({context.settings.reference})"
    if context.settings.reference != "sft":
        return note(measured, "the KL is measured from there: kl_budget and kl_target have to allow for it")
    if not abs(kl) <= NO_KL:
        return error(measured, "the reference must be the model PPO starts from")
    return ok(measured)


UPDATE: tuple[Check, ...] = (update_runs, adapter_learns, frozen_weights, first_ratio, kl_at_start)
