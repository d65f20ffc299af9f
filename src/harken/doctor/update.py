"""Check one update by the stage's own code: it changes the trainable weights and nothing else."""

from __future__ import annotations

import math

from harken.doctor.check import ALL, Check, check
from harken.doctor.context import Context
from harken.doctor.finding import CheckOutcome, error, note, ok, warning
from harken.doctor.ppo_context import PPOContext

COST = "an update of 4 rows"
NO_KL = 0.05
"""Nats per sequence between a policy and a reference that are the same model; bfloat16 rounds to about 0.001."""

TIES_FIX = "raise training.online_dpo.samples_per_prompt; check that the reward differs between responses"


@check(
    ALL,
    what="loss and gradient of one update",
    why="A loss that is not finite destroys the weights in the first step.",
    cost=COST,
)
def update_runs(context: Context) -> CheckOutcome:
    """Run one update and check that loss and gradient norm are finite."""
    metrics = context.update.metrics
    if metrics.get("pairs/count") == 0:
        return warning("the responses to every prompt tie: there is no pair", TIES_FIX)
    loss = metrics["ppo_loss"] if isinstance(context, PPOContext) else metrics["loss"]
    norm = metrics["grad_norm"]
    measured = f"loss {loss:.3f}, gradient norm {norm:.3g}"
    if not math.isfinite(loss) or not math.isfinite(norm):
        return error(measured, "set dtype: float32, or look for NaN in the model's weights")
    return ok(measured)


@check(
    ALL,
    what="whether gradients reach the trainable weights",
    why="An adapter without gradients does not change, although the metrics do.",
    cost=COST,
)
def adapter_learns(context: Context) -> CheckOutcome:
    """Compare the adapter's B matrices, or eight tensors of a whole model, before and after."""
    update = context.update
    measured = f"{update.changed} of {update.compared} compared tensors changed"
    if update.changed == update.compared:
        return ok(measured)
    if update.metrics.get("pairs/count") == 0:
        return warning(f"{measured}; the responses to every prompt tie", TIES_FIX)
    if update.metrics.get("reward/std") == 0 and isinstance(context, PPOContext):
        return warning(
            f"{measured}; every response got the same reward",
            "check the parts of the reward: they are constant",
        )
    if update.changed == 0:
        return error(
            measured,
            "no gradient reaches the adapter: check lora.target_modules, and that nothing freezes or switches it",
        )
    return warning(measured, "some layers get no gradient: check lora.target_modules")


@check(
    ALL,
    what="fingerprints of base, reference and reward model before and after the update",
    why="If the reference changes, the KL is meaningless; if the reward model changes, so is the reward.",
    cost=COST,
)
def frozen_weights(context: Context) -> CheckOutcome:
    """Compare the weights bit by bit."""
    if changed_frozen := context.update.changed_frozen:
        return error(
            "; ".join(changed_frozen),
            "something besides the adapter is trained: these weights must stay frozen",
        )
    return ok("unchanged" if context.config.lora else "all weights are trained; rewards unchanged")


@check(
    ("ppo",),
    what="ratio and KL(old‖new) of the first minibatch",
    why="Before the first step the policy is the one that sampled, so every ratio must be 1.",
    cost=COST,
)
def first_ratio(context: PPOContext) -> CheckOutcome:
    """Report the largest |ratio − 1| of any token."""
    gap, limits = context.update.metrics.get("policy/first_ratio_gap"), context.limits
    if gap is None:
        return note("the update took no step on the policy: every response was truncated and masked")
    measured = f"largest |ratio − 1| {gap:.2g}"
    fix = "set dtype: float32 and look for dropout: old log-probabilities must equal those of the training forward"
    if not gap <= limits.first_ratio_unhealthy:
        return error(measured, fix)
    return ok(measured) if gap <= limits.first_ratio_warning else warning(measured, fix)


@check(
    ("ppo",),
    what="KL(policy ‖ reference) before the first update",
    why="PPO starts from its reference, so a KL at the start means that they differ.",
    cost=COST,
)
def kl_at_start(context: PPOContext) -> CheckOutcome:
    """Report the KL; with a reference other than `sft` it need not be 0."""
    kl = context.update.metrics["kl/mean"]
    measured = f"{kl:.3g} nats per sequence from the reference ({context.settings.reference})"
    if context.settings.reference != "sft":
        return note(
            measured, "the KL is measured from this reference: kl_budget and kl_target must allow for it"
        )
    if not abs(kl) <= NO_KL:
        return error(measured, "the reference must be the model PPO starts from")
    return ok(measured)


UPDATE_CHECKS: tuple[Check, ...] = (update_runs, adapter_learns, frozen_weights, first_ratio, kl_at_start)
