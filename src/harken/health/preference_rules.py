"""Health rules for preference optimisation: DPO and its relatives, online DPO."""

from __future__ import annotations

from harken.health.history import History
from harken.health.limits import Limits
from harken.health.rule import Observation, Rule


def _chosen_falls(history: History, limits: Limits) -> Observation | None:
    changes = [
        history.mean("logps/chosen_change", limits.long_window),
        history.median("eval/logps/chosen_change", 1),
    ]
    change = min((value for value in changes if value is not None), default=0.0)
    if change >= limits.chosen_warning:
        return None
    return Observation(
        "unhealthy" if change < limits.chosen_unhealthy else "warning",
        f"the log-probability of chosen responses fell by {-change:.2f} nats per token since the start",
    )


def _margin_alone(history: History, limits: Limits) -> Observation | None:
    margins, accuracies = history.values("eval/rewards/margins"), history.values("eval/rewards/accuracies")
    if len(accuracies) < 3 or len(margins) != len(accuracies):
        return None
    best = max(range(len(accuracies) - 2), key=lambda i: accuracies[i])
    least, highest = min(margins[-2:]), max(accuracies[-2:])
    if margins[best] <= 0 or least < limits.margin_growth * margins[best]:
        return None
    if highest >= limits.margin_accuracy or highest > accuracies[best]:
        return None
    high = history.median("eval/rewards/accuracies_high", 1)
    fell = high is not None and high < accuracies[best]
    return Observation(
        "unhealthy" if fell else "warning",
        f"the held-out margin grew from {margins[best]:.2f} to {margins[-1]:.2f} while the accuracy went from "
        f"{accuracies[best]:.1%} to {accuracies[-1]:.1%}",
    )


def _length_drifts(history: History, limits: Limits) -> Observation | None:
    change = history.median("eval/tokens_change", 1)
    if not change:
        return None
    factor = max(change, 1.0 / change)
    if factor < limits.drift_warning:
        return None
    return Observation(
        "unhealthy" if factor >= limits.drift_unhealthy else "warning",
        f"sampled responses are {change:.2f} × as long as before training",
    )


def _far(history: History, limits: Limits) -> Observation | None:
    estimates = [history.median("kl/mean", limits.window), history.median("eval/kl/mean", 1)]
    kl = max((value for value in estimates if value is not None), default=0.0)
    if kl <= limits.kl_warning:
        return None
    unhealthy = kl > limits.kl_unhealthy
    return Observation(
        "unhealthy" if unhealthy else "warning",
        f"KL of sampled responses from the reference is {kl:.1f} nats per sequence, above "
        f"{limits.kl_unhealthy if unhealthy else limits.kl_warning:g}",
    )


PREFERENCE_RULES = (
    Rule(
        name="chosen_falling",
        kinds=("dpo", "online_dpo"),
        metric="logps/chosen_change",
        warning="change of the chosen responses' log-probability since the start < {chosen_warning:g} nats per token "
        "(mean of {long_window} steps, or held-out)",
        unhealthy="the same < {chosen_unhealthy:g}",
        cause="the loss needs only that the rejected response falls faster, and other responses gain",
        fix="set nll_coef to 0.1 … 1, lower training.lr, or raise beta",
        observe=_chosen_falls,
    ),
    Rule(
        name="margin_without_accuracy",
        kinds=("dpo",),
        metric="eval/rewards/margins",
        warning="held-out margin ≥ {margin_growth:g} × that at the best accuracy, in two evaluations running, and "
        "the accuracy is not better and below {margin_accuracy:g}",
        unhealthy="the same, and the 95 % interval of the accuracy lies below the best",
        cause="the margin grows on pairs that are ordered already, or noisy labels are memorised",
        fix="stop here: the best checkpoint is kept; raise label_smoothing or use loss: ipo, fewer epochs, a lower lr",
        observe=_margin_alone,
    ),
    Rule(
        name="length_drift",
        kinds=("dpo", "online_dpo"),
        metric="eval/tokens_mean",
        warning="mean tokens of sampled responses ≥ {drift_warning:g} × those before training, or the inverse",
        unhealthy="the same ≥ {drift_unhealthy:g} ×",
        cause="chosen responses are longer (or shorter) than rejected ones, and sums of log-probabilities reward that",
        fix="set ld_alpha: 0.5 or length_normalise: true, check the lengths of both sides with harken data, raise beta",
        observe=_length_drifts,
    ),
    Rule(
        name="far_from_reference",
        kinds=("dpo", "online_dpo"),
        metric="kl/mean",
        warning="KL of sampled responses > {kl_warning:g} nats per sequence (median of {window} updates, or held-out)",
        unhealthy="the same > {kl_unhealthy:g}",
        cause="the learning rate is too high or beta too low",
        fix="raise beta, lower training.lr, train fewer epochs or updates",
        observe=_far,
    ),
)
