"""Thresholds of the health monitor, with units. docs/health.md gives the source of each."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Limits:
    """The thresholds of warning and unhealthy. "Updates" are PPO's; other training counts steps."""

    window: int = 3
    """Number of latest updates in a median or mean."""
    long_window: int = 5
    """The same for metrics that are noisy within one batch (correlations, explained variance, truncation)."""

    kl_warning: float = 10.0
    """Nats per sequence."""
    kl_unhealthy: float = 15.0
    """Nats per sequence."""
    kl_drift: float = 20.0
    """Nats per sequence."""
    kl_unrewarded: float = 2.0
    """Nats per sequence above which the reward has to rise."""
    kl_tight: float = 0.1
    """Nats per sequence below which a flat reward suggests a lower kl_coef."""
    kl_negative_warning: float = -0.1
    """Nats per sequence; rounding alone stays above it."""
    kl_negative_unhealthy: float = -1.0
    """Nats per sequence."""
    kl_negative_errors: float = 3.0
    """Standard errors that a negative mean KL must be away from 0."""
    sampler_gap_warning: float = 0.1
    """Nats per token between sampler and trainer, mean |difference|; bfloat16 gives about 0.04."""
    sampler_gap_unhealthy: float = 0.3
    """Nats per token."""
    first_ratio_warning: float = 0.2
    """Largest |ratio − 1| before the first optimiser step; 0 up to rounding."""
    first_ratio_unhealthy: float = 1.0
    """The same."""

    reward_std: float = 0.01
    """Units of reward: standard deviation within a batch."""
    reward_mean: float = -10.0
    """Units of reward."""
    group_warning: float = 0.5
    """Share of the groups whose rewards are all equal, with a group baseline."""
    group_unhealthy: float = 0.9
    """The same."""
    reward_same: float = 1e-6
    """Units of reward: batch means this close together count as equal."""
    trend_first: int = 5
    """Number of updates at the start with which later ones are compared."""
    trend_last: int = 10
    """Number of latest updates that are compared with the first `trend_first`."""
    rise_errors: float = 2.0
    """Standard errors of a difference of means that count as a rise."""
    fall_errors: float = 3.0
    """Standard errors of a difference of means that count as a fall of the reward."""
    kl_patience: int = 20
    """Updates after which a reward that has not risen is reported with the KL."""
    flat_patience: int = 30
    """Updates after which a reward that has not risen is reported by itself."""
    hacking_evaluations: int = 6
    """Number of latest held-out evaluations in which reward and judge are compared."""
    hacking_least: int = 4
    """Evaluations needed for that."""
    votes_least: int = 10
    """Items on which raters decided, below which their votes are not compared with the reward (S2-94)."""
    length_correlation: float = 0.5
    """Pearson correlation of score and length within a batch."""
    length_growth: float = 1.5
    """Times the length of the first responses: above it and with that correlation, length is exploited."""

    collapse_warning: float = 0.7
    """Share of the initial distinct responses or distinct bigrams."""
    collapse_unhealthy: float = 0.5
    """The same."""
    collapse_spread: float = 0.2
    """Share of the initial standard deviation of lengths."""
    shorter_warning: float = 0.5
    """Share of the initial mean length."""
    shorter_unhealthy: float = 0.25
    """The same."""
    empty_warning: float = 0.01
    """Share of empty responses."""
    empty_unhealthy: float = 0.03
    """Share of empty responses."""
    empty_from: int = 10
    """Update from which empty responses are unhealthy."""
    truncated_warning: float = 0.5
    """Share of responses truncated at the token limit."""
    truncated_unhealthy: float = 0.9
    """The same, when fewer than `truncated_warning` were truncated at the start."""
    truncated_from: int = 10
    """Update from which truncation is judged: an untrained policy first has to learn to end its responses."""
    repetition_warning: float = 0.1
    """Share of a response's token 4-grams that occurred in it before, mean over responses."""
    repetition_unhealthy: float = 0.25
    """The same."""

    entropy_unhealthy: float = 0.1
    """Nats per token."""
    entropy_fall: float = 0.5
    """Share of its level `entropy_updates` before."""
    entropy_updates: int = 10
    """Updates over which a fall of the entropy is fast."""
    clip_warning: float = 0.3
    """Share of tokens outside the clip range, mean of all optimiser steps of an update."""
    clip_unhealthy: float = 0.5
    """The same."""
    explained_warning: float = 0.5
    """Explained variance of the returns, at most 1."""
    explained_warning_from: int = 50
    """Update from which the critic is expected to explain that much."""
    explained_unhealthy: float = 0.0
    """Explained variance."""
    explained_unhealthy_from: int = 20
    """Update from which the critic is expected to be better than a constant."""
    gradient_warning: float = 10.0
    """Times the median gradient norm of the steps before."""
    gradient_unhealthy: float = 100.0
    """The same."""
    gradient_past: int = 50
    """Earlier steps in that median, at most; a fifth of them is needed."""

    loss_block: int = 10
    """Number of steps whose mean loss is compared."""
    loss_errors: float = 4.0
    """Standard errors by which a loss must have risen over its best block."""
    loss_warning: float = 1.2
    """Times the best block's mean loss."""
    loss_unhealthy: float = 2.0
    """The same."""
    overfit_warning: float = 1.02
    """Times the best held-out loss, in two evaluations running."""
    overfit_unhealthy: float = 1.1
    """The same."""
    accuracy: float = 0.55
    """Share of pairs ordered as labelled; 0.5 is guessing."""
    accuracy_from: int = 50
    """Step from which the accuracy on training pairs is judged, where there are no held-out ones."""
    accuracy_window: int = 20
    """Steps of that mean."""

    chosen_warning: float = -0.2
    """Nats per token: change of the log-probability of chosen responses from the reference's."""
    chosen_unhealthy: float = -1.0
    """The same: such responses are e times less likely per token than before."""
    margin_growth: float = 3.0
    """Times the held-out margin at the evaluation with the best accuracy."""
    margin_accuracy: float = 0.9
    """Share of held-out pairs ordered as labelled from which a growing margin is not reported."""
    drift_warning: float = 1.5
    """Times the length of sampled responses before training, or its inverse."""
    drift_unhealthy: float = 2.0
    """The same."""


def limits_for(dtype: str) -> Limits:
    """Return the thresholds for a model computed in `dtype`.

    float32 rounds less than bfloat16, so sampler and trainer have to agree better.
    """
    if dtype == "float32":
        return replace(
            Limits(),
            sampler_gap_warning=0.01,
            sampler_gap_unhealthy=0.1,
            first_ratio_warning=1e-3,
            first_ratio_unhealthy=0.1,
        )
    return Limits()
