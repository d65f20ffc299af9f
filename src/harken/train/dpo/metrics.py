"""Compute the metrics of preference examples under TRL's names. Units: nats, and beta × nats (reward)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harken.config.preference_training import PreferenceLossSettings
from harken.maths.statistics.intervals import wilson_interval
from harken.train.dpo.examples import PreferenceExample
from harken.train.dpo.loss import ExampleScores, implicit_rewards
from harken.train.groups import by_domain_and_language


def preference_metrics(
    settings: PreferenceLossSettings, scores: ExampleScores, examples: Sequence[PreferenceExample]
) -> dict[str, float]:
    """Average implicit rewards, log-probabilities, margins and accuracy over the examples.

    Chosen is the better side by its label; ties count for rewards and log-probabilities only. Accuracy is the share
    of pairs whose better side has the larger reward; where all are ties there is no accuracy and no margin. For KTO
    chosen are the responses with a thumb up, rejected those with a thumb down, and accuracy is the share whose reward
    has the sign of the thumb.
    """
    rewards = implicit_rewards(settings, scores)
    label = torch.tensor([example.label for example in examples])
    if settings.loss == "kto":
        return _rated(rewards[:, 0], scores, label > 0.5)
    by_label = _by_label(scores.policy, label)
    ordered, logratios = _by_label(rewards, label), _by_label(scores.logratios, label)
    has_preference = label != 0.5
    margins = (ordered[:, 0] - ordered[:, 1])[has_preference]
    metrics = {"rewards/chosen": _mean(ordered[:, 0]), "rewards/rejected": _mean(ordered[:, 1])}
    if len(margins):
        metrics["rewards/accuracies"] = _mean((margins > 0).float())
        metrics["rewards/margins"] = _mean(margins)
    metrics |= {"logps/chosen": _mean(by_label[:, 0]), "logps/rejected": _mean(by_label[:, 1])}
    if not torch.isnan(scores.reference).any():
        lengths = _by_label(_lengths(settings, examples), label)
        metrics["logps/chosen_change"] = _mean(logratios[:, 0] / lengths[:, 0])
    return metrics


def accuracy_interval(
    metrics: dict[str, float], settings: PreferenceLossSettings, examples: Sequence[PreferenceExample]
) -> dict[str, float]:
    """Return the number of examples with a preference and, with any, the 95 % Wilson interval of the accuracy."""
    pairs = sum(settings.loss == "kto" or example.label != 0.5 for example in examples)
    if not pairs:
        return {"rewards/pairs": 0.0}
    low, high = wilson_interval(round(metrics["rewards/accuracies"] * pairs), pairs)
    return {"rewards/accuracies_low": low, "rewards/accuracies_high": high, "rewards/pairs": float(pairs)}


def accuracies_by_group(
    settings: PreferenceLossSettings, scores: ExampleScores, examples: Sequence[PreferenceExample]
) -> dict[str, float]:
    """Return `rewards/accuracies` by domain and by language. For KTO, whose rows have neither, {}."""
    label = torch.tensor([example.label for example in examples])
    if settings.loss == "kto":
        return {}
    ordered = _by_label(implicit_rewards(settings, scores), label)
    decided = [i for i, example in enumerate(examples) if example.label != 0.5]
    correct = [float(ordered[i, 0] > ordered[i, 1]) for i in decided]
    return by_domain_and_language("rewards/accuracies", [examples[i] for i in decided], correct)


def _rated(rewards: Tensor, scores: ExampleScores, desirable: Tensor) -> dict[str, float]:
    correct = (rewards > 0) == desirable
    metrics = {"rewards/accuracies": _mean(correct.float())}
    # A batch may have thumbs of one kind only: the other kind's means are left out then.
    for name, mask in (("chosen", desirable), ("rejected", ~desirable)):
        if mask.any():
            metrics[f"rewards/{name}"] = _mean(rewards[mask])
            metrics[f"logps/{name}"] = _mean(scores.policy[:, 0][mask])
    if desirable.any() and not desirable.all():
        metrics["rewards/margins"] = metrics["rewards/chosen"] - metrics["rewards/rejected"]
    return metrics


def _by_label(values: Tensor, label: Tensor) -> Tensor:
    """Order the two columns so that the better side comes first."""
    return torch.where((label < 0.5)[:, None], values.flip(-1), values)


def _lengths(settings: PreferenceLossSettings, examples: Sequence[PreferenceExample]) -> Tensor:
    """Return the response tokens of both sides; ones where scores are averages over tokens already."""
    if settings.averages:
        return torch.ones(len(examples), 2)
    return torch.tensor([[max(side.length, 1) for side in example.sides] for example in examples]).float()


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0
