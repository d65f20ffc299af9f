"""Every threshold of the monitor, with its unit. docs/health.md says where each comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Limits:
    """Amber and red lines. "Updates" are PPO's; supervised and reward-model training count steps."""

    window: int = 3
    """Updates: a level is the median or the mean of so many of the latest ones."""
    long_window: int = 5
    """Updates: the same for what is noisy within one batch (correlations, explained variance, cut answers)."""

    kl_amber: float = 10.0
    """Nats per sequence (S4-31, S4-42)."""
    kl_red: float = 15.0
    """Nats per sequence (S4-42)."""
    kl_drift: float = 20.0
    """Nats per sequence (S2-93)."""
    kl_unrewarded: float = 2.0
    """Nats per sequence that a rising reward has to justify (S2-46)."""
    kl_tight: float = 0.1
    """Nats per sequence below which a flat reward asks for more room (S2-47)."""
    kl_negative_amber: float = -0.1
    """Nats per sequence: a mean below it is more than rounding."""
    kl_negative_red: float = -1.0
    """Nats per sequence."""
    kl_negative_errors: float = 3.0
    """Standard errors that a negative mean KL must be away from 0."""
    sampler_gap_amber: float = 0.1
    """Nats per token between sampler and trainer, mean |difference|; bfloat16 makes about 0.04."""
    sampler_gap_red: float = 0.3
    """Nats per token."""
    first_ratio_amber: float = 0.2
    """Largest |ratio − 1| before the first optimiser step; 0 up to rounding (property 28)."""
    first_ratio_red: float = 1.0
    """The same."""

    reward_std: float = 0.01
    """Units of reward, between the answers of a batch (S4-30)."""
    reward_mean: float = -10.0
    """Units of reward (S4-30)."""
    reward_same: float = 1e-6
    """Units of reward: batch means this close together are the same number (S1-48)."""
    trend_first: int = 5
    """Updates at the start of learning that later ones are compared with."""
    trend_last: int = 10
    """Latest updates that are compared with them."""
    rise_errors: float = 2.0
    """Standard errors of a difference of means that count as a rise."""
    fall_errors: float = 3.0
    """Standard errors of a difference of means that count as a fall of the reward."""
    kl_patience: int = 20
    """Updates before a reward that has not risen is held against the KL (S2-46, S2-47)."""
    flat_patience: int = 30
    """Updates before a reward that has not risen is reported by itself (S1-44, S1-48)."""
    hacking_evaluations: int = 6
    """Latest held-out evaluations in which reward and judge are compared (S2-94)."""
    hacking_least: int = 4
    """Evaluations needed for that."""
    length_correlation: float = 0.5
    """Pearson correlation of score and length within a batch (S2-48)."""
    length_growth: float = 1.5
    """Times the first answers' length: with that correlation, length is being exploited (S2-48)."""

    collapse_amber: float = 0.7
    """Share of the start that distinct answers or distinct bigrams have fallen to (S2-53, S4-32)."""
    collapse_red: float = 0.5
    """The same."""
    collapse_spread: float = 0.2
    """Share of the start that the spread of lengths has fallen to (S4-32)."""
    shorter_amber: float = 0.5
    """Share of the first answers' length (S4-32)."""
    shorter_red: float = 0.25
    """The same."""
    empty_amber: float = 0.01
    """Share of empty answers."""
    empty_red: float = 0.03
    """Share of empty answers (S0-40)."""
    empty_from: int = 10
    """Update from which empty answers are red (S0-40)."""
    cut_amber: float = 0.5
    """Share of answers cut at the token limit."""
    cut_red: float = 0.9
    """The same, when fewer than half were cut at the start."""
    cut_from: int = 10
    """Update from which cut answers are judged: an untrained policy first has to learn to end."""
    repetition_amber: float = 0.1
    """Share of an answer's token 4-grams that occurred in it before, mean over answers (S2-48, S4-32)."""
    repetition_red: float = 0.25
    """The same."""

    entropy_red: float = 0.1
    """Nats per token (S1-47, S4-43)."""
    entropy_fall: float = 0.5
    """Share of its level `entropy_updates` before."""
    entropy_updates: int = 10
    """Updates over which a fall of the entropy is fast (S4-43)."""
    clip_amber: float = 0.3
    """Share of tokens outside the clip range, mean of all optimiser steps of an update (S4-44)."""
    clip_red: float = 0.5
    """The same (S4-44)."""
    explained_amber: float = 0.5
    """Explained variance of the returns, at most 1 (S4-45)."""
    explained_amber_from: int = 50
    """Update from which the critic is expected to explain that much."""
    explained_red: float = 0.0
    """Explained variance (S4-45)."""
    explained_red_from: int = 20
    """Update from which the critic is expected to be better than a constant."""
    gradient_amber: float = 10.0
    """Times the median gradient norm of the steps before."""
    gradient_red: float = 100.0
    """The same."""
    gradient_past: int = 50
    """Steps before, at most; a fifth of them is needed."""

    loss_block: int = 10
    """Steps whose mean loss is compared."""
    loss_errors: float = 4.0
    """Standard errors by which a loss must have risen over its best block."""
    loss_amber: float = 1.2
    """Times the best block's mean loss."""
    loss_red: float = 2.0
    """The same."""
    overfit_amber: float = 1.02
    """Times the best held-out loss, in two evaluations running."""
    overfit_red: float = 1.1
    """The same."""
    accuracy: float = 0.55
    """Share of pairs ordered as labelled; 0.5 is guessing (S1-49)."""
    accuracy_from: int = 50
    """Step from which the accuracy on training pairs is judged, where there are no held-out ones."""
    accuracy_window: int = 20
    """Steps of that mean."""


def limits_for(dtype: str) -> Limits:
    """The limits for a model computed in `dtype`.

    float32 rounds less than bfloat16, so sampler and trainer have to agree better.
    """
    if dtype == "float32":
        return replace(
            Limits(),
            sampler_gap_amber=0.01,
            sampler_gap_red=0.1,
            first_ratio_amber=1e-3,
            first_ratio_red=0.1,
        )
    return Limits()
