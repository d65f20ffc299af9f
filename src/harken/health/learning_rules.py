"""Health rules on the optimisation of PPO and of every other stage."""

from __future__ import annotations

from statistics import median

from harken.health.history import History
from harken.health.limits import Limits
from harken.health.rule import Observation, Rule


def _not_finite(history: History, limits: Limits) -> Observation | None:
    if not history.nonfinite:
        return None
    return Observation("unhealthy", f"NaN or infinite: {', '.join(history.nonfinite)}")


def _gradient(history: History, limits: Limits) -> Observation | None:
    norms = history.values("grad_norm")
    past = norms[: -limits.window][-limits.gradient_past :]
    if len(past) < limits.gradient_past // 5:
        return None
    usual, recent = median(past), median(norms[-limits.window :])
    if not usual or recent <= limits.gradient_warning * usual:
        return None
    unhealthy = recent > limits.gradient_unhealthy * usual
    return Observation(
        "unhealthy" if unhealthy else "warning", f"the gradient norm is {recent:.3g}, it was {usual:.3g}"
    )


def _entropy(history: History, limits: Limits) -> Observation | None:
    values = history.values("policy/entropy")
    recent = history.median("policy/entropy", limits.window)
    if recent is None:
        return None
    if recent < limits.entropy_unhealthy:
        return Observation(
            "unhealthy", f"the entropy is {recent:.3f} nats per token, below {limits.entropy_unhealthy:g}"
        )
    if len(values) < 2 * limits.window:
        return None
    earlier = max(len(values) - limits.window - limits.entropy_updates, 0)
    before = median(values[earlier : earlier + limits.window])
    if recent >= limits.entropy_fall * before:
        return None
    return Observation("warning", f"the entropy fell from {before:.2f} to {recent:.2f} nats per token")


def _clipped(history: History, limits: Limits) -> Observation | None:
    share = history.mean("policy/clipfrac", limits.window)
    if share is None or share <= limits.clip_warning:
        return None
    unhealthy = share > limits.clip_unhealthy
    return Observation(
        "unhealthy" if unhealthy else "warning", f"{share:.0%} of the tokens leave the clip range"
    )


def _explained(history: History, limits: Limits) -> Observation | None:
    # Without a critic (rloo, grpo) there is no value loss and no explained variance.
    explained = history.mean("value/explained_var", limits.long_window)
    if explained is None or not history.values("value/loss"):
        return None
    updates = len(history.values("value/explained_var"))
    if explained < limits.explained_unhealthy and updates >= limits.explained_unhealthy_from:
        return Observation(
            "unhealthy", f"explained variance is {explained:.2f}: the critic is worse than a constant"
        )
    if explained < limits.explained_warning and updates >= limits.explained_warning_from:
        return Observation(
            "warning", f"explained variance is {explained:.2f}, below {limits.explained_warning:g}"
        )
    return None


LEARNING_RULES = (
    Rule(
        name="not_finite",
        kinds=("sft", "reward", "classifier", "ppo", "dpo", "online_dpo"),
        metric=None,
        warning="–",
        unhealthy="a metric of the latest step is NaN or infinite",
        cause="numbers overflowed: the learning rate is too high, or bfloat16 too coarse",
        fix="lower training.lr, set dtype: float32, resume from the last checkpoint",
        observe=_not_finite,
    ),
    Rule(
        name="gradient_explosion",
        kinds=("sft", "reward", "classifier", "ppo", "dpo", "online_dpo"),
        metric="grad_norm",
        warning="gradient norm (median of {window}) > {gradient_warning:g} × its median over the {gradient_past} "
        "steps before",
        unhealthy="the same > {gradient_unhealthy:g} ×",
        cause="the learning rate is too high, or a few rows are very different from the rest",
        fix="lower training.lr or max_grad_norm; add warmup_steps",
        observe=_gradient,
    ),
    Rule(
        name="entropy",
        kinds=("ppo",),
        metric="policy/entropy",
        warning="entropy < {entropy_fall:g} × its level {entropy_updates} updates before (or at the start), "
        "medians of {window}",
        unhealthy="entropy < {entropy_unhealthy:g} nats per token, median of {window} updates",
        cause="the policy becomes certain too fast: large steps, or a reward that a few words are enough for",
        fix="lower training.lr, raise kl_coef, set entropy_coef to about 0.001",
        observe=_entropy,
    ),
    Rule(
        name="clip_fraction",
        kinds=("ppo",),
        metric="policy/clipfrac",
        warning="tokens outside the clip range > {clip_warning:g} (share, mean of {window} updates)",
        unhealthy="the same > {clip_unhealthy:g}",
        cause="an update moves the policy too far from the one that sampled its rollouts",
        fix="lower training.lr, training.ppo.epochs or training.ppo.minibatches; set training.ppo.target_kl_per_token",
        observe=_clipped,
    ),
    Rule(
        name="explained_variance",
        kinds=("ppo",),
        metric="value/explained_var",
        warning="explained variance < {explained_warning:g}, mean of {long_window} updates, from update "
        "{explained_warning_from}",
        unhealthy="explained variance < {explained_unhealthy:g}, mean of {long_window} updates, from update "
        "{explained_unhealthy_from}",
        cause="the critic does not predict the returns, so advantages are mostly noise",
        fix="raise critic_lr; set critic: adapter with critic_init: reward_model; give it critic_warmup_updates",
        observe=_explained,
    ),
)
