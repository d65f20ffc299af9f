"""Checks of one update by the stage's own code, on a few rows: it learns, and changes only what trains."""

from __future__ import annotations

import math

from harken.doctor.check import ALL, Check, check
from harken.doctor.finding import Seen, error, note, ok, warning
from harken.doctor.ppo_subject import PPOSubject
from harken.doctor.subject import Subject

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
def update_runs(subject: Subject) -> Seen:
    """Nothing of it is kept on disk."""
    metrics = subject.update.metrics
    loss = metrics["ppo_loss"] if isinstance(subject, PPOSubject) else metrics["loss"]
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
def adapter_learns(subject: Subject) -> Seen:
    """The B matrices of the adapter, or eight tensors of a whole model, before and after."""
    update = subject.update
    measured = f"{update.moved} of {update.watched} watched tensors changed"
    if update.moved == update.watched:
        return ok(measured)
    if update.metrics.get("reward/std") == 0 and isinstance(subject, PPOSubject):
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
def frozen_weights(subject: Subject) -> Seen:
    """To the last bit."""
    if thawed := subject.update.thawed:
        return error(
            "; ".join(thawed), "something besides the adapter trains: no weight of these may be touched"
        )
    return ok("unchanged to the bit" if subject.config.lora else "every weight trains; rewards unchanged")


@check(
    ("ppo",),
    what="ratio and KL(old‖new) of the first minibatch",
    why="Before its first step the policy is the one that sampled: any other ratio clips and biases at once.",
    items="P28",
    cost=COST,
)
def first_ratio(subject: PPOSubject) -> Seen:
    """The largest ratio of any token."""
    gap, limits = subject.update.metrics.get("policy/first_ratio_gap"), subject.limits
    if gap is None:
        return note("the update took no step on the policy: every answer was cut and masked")
    measured = f"largest |ratio − 1| {gap:.2g}"
    mend = "old log-probabilities must come from the training forward: set dtype: float32, look for dropout"
    if not gap <= limits.first_ratio_red:
        return error(measured, mend)
    return ok(measured) if gap <= limits.first_ratio_amber else warning(measured, mend)


@check(
    ("ppo",),
    what="KL(policy ‖ reference) before the first update",
    why="PPO starts at its reference: a KL at the start means they are not the same model.",
    items="S0-27, P16",
    cost=COST,
)
def kl_at_start(subject: PPOSubject) -> Seen:
    """Of another reference than `sft` it is a fact, not a fault."""
    kl = subject.update.metrics["kl/mean"]
    measured = f"{kl:.3g} nats per sequence to the reference ({subject.settings.reference})"
    if subject.settings.reference != "sft":
        return note(measured, "the KL is measured from there: kl_budget and kl_target have to allow for it")
    if not abs(kl) <= NO_KL:
        return error(measured, "the reference must be the model PPO starts from")
    return ok(measured)


UPDATE: tuple[Check, ...] = (update_runs, adapter_learns, frozen_weights, first_ratio, kl_at_start)
