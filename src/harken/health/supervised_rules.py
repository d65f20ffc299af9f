"""Health rules for training on rows: supervised fine-tuning, the reward model, DPO."""

from __future__ import annotations

from statistics import fmean

from harken.health.history import History, welch_t
from harken.health.limits import Limits
from harken.health.rule import Observation, Rule


def _rising(history: History, limits: Limits) -> Observation | None:
    losses, size = history.values("loss"), limits.loss_block
    latest, earlier = losses[-size:], losses[:-size]
    blocks = [earlier[i : i + size] for i in range(0, len(earlier) - size + 1, size)]
    if not blocks:
        return None
    best = min(blocks, key=fmean)
    recent, lowest = fmean(latest), fmean(best)
    if recent < limits.loss_warning * lowest or welch_t(best, latest) < limits.loss_errors:
        return None
    unhealthy = recent >= limits.loss_unhealthy * lowest
    return Observation(
        "unhealthy" if unhealthy else "warning",
        f"the loss rose from {lowest:.3f} to {recent:.3f} (means of {size} steps)",
    )


def _overfitting(history: History, limits: Limits) -> Observation | None:
    held_out, losses, size = history.values("eval/loss"), history.values("loss"), limits.loss_block
    if len(held_out) < 3 or len(losses) < 2 * size:
        return None
    best, least = min(held_out[:-2]), min(held_out[-2:])
    if least < limits.overfit_warning * best or fmean(losses[-size:]) >= fmean(losses[:size]):
        return None
    unhealthy = least >= limits.overfit_unhealthy * best
    return Observation(
        "unhealthy" if unhealthy else "warning",
        f"held-out loss rose from {best:.3f} to {held_out[-1]:.3f} while the training loss fell",
    )


def _accuracy(history: History, limits: Limits) -> Observation | None:
    held_out = history.median("eval/accuracy", 1)
    if held_out is not None:
        text = f"{held_out:.1%} of the held-out pairs are ordered as labelled"
        high = history.median("eval/accuracy_high", 1)
        if high is not None and high < 0.5:
            return Observation("unhealthy", f"{text}, fewer than by chance")
        return Observation("warning", f"{text}, 50 % is chance") if held_out < limits.accuracy else None
    share = history.mean("accuracy", limits.accuracy_window)
    if share is None or history.step < limits.accuracy_from or share >= limits.accuracy:
        return None
    return Observation(
        "warning", f"{share:.1%} of the training pairs are ordered as labelled, 50 % is chance"
    )


def _discrimination(history: History, limits: Limits) -> Observation | None:
    area = history.median("eval/auc", 1)
    if area is None:
        return None
    high = history.median("eval/auc_high", 1)
    text = f"a held-out positive scores above a negative in {area:.1%} of cases"
    if high is not None and high < 0.5:
        return Observation("unhealthy", f"{text}, fewer than by chance")
    return Observation("warning", f"{text}, 50 % is chance") if area < limits.accuracy else None


SUPERVISED_RULES = (
    Rule(
        name="loss_rising",
        kinds=("sft", "reward", "classifier", "dpo"),
        metric="loss",
        warning="mean loss of {loss_block} steps ≥ {loss_warning:g} × the best earlier block of {loss_block}, and "
        "{loss_errors:g} standard errors above it",
        unhealthy="the same ≥ {loss_unhealthy:g} ×",
        cause="the learning rate is too high",
        fix="lower training.lr, add warmup_steps, resume from an earlier checkpoint",
        observe=_rising,
    ),
    Rule(
        name="overfitting",
        kinds=("sft", "reward", "classifier", "dpo"),
        metric="eval/loss",
        warning="held-out loss ≥ {overfit_warning:g} × its best in two evaluations running, while the training loss "
        "(mean of {loss_block} steps) is below its start",
        unhealthy="the same ≥ {overfit_unhealthy:g} ×",
        cause="the model memorises the training rows",
        fix="stop here: the best checkpoint is kept; fewer epochs, a lower lr, more rows, lora.dropout",
        observe=_overfitting,
    ),
    Rule(
        name="reward_accuracy",
        kinds=("reward",),
        metric="eval/accuracy",
        warning="share of pairs ordered as labelled < {accuracy:g}: held-out, or else of the training pairs of "
        "{accuracy_window} steps from step {accuracy_from}",
        unhealthy="the 95 % interval of the held-out accuracy lies below 0.5",
        cause="the labels are noise or swapped, responses are truncated before they differ, or training.lr is far off",
        fix="run harken data on the pairs (label balance, truncation); read a few; try another training.lr",
        observe=_accuracy,
    ),
    Rule(
        name="classifier_auc",
        kinds=("classifier",),
        metric="eval/auc",
        warning="held-out area under the ROC curve < {accuracy:g}",
        unhealthy="the 95 % interval of the held-out area under the ROC curve lies below 0.5",
        cause="the labels are noise or swapped between training and held-out rows, or training.lr is far off",
        fix="run harken data --task classifier on the rows; read a few; set data.positive_label; try another "
        "training.lr",
        observe=_discrimination,
    ),
)
