"""Health rules on the KL from the reference, and on sampler and trainer computing the same policy."""

from __future__ import annotations

import math
from statistics import fmean, median

from harken.health.history import History
from harken.health.limits import Limits
from harken.health.reward_rules import has_risen
from harken.health.rule import Observation, Rule


def _recent_kl(history: History, limits: Limits) -> float | None:
    """Return the median KL of the latest updates, nats per sequence; at the start, of the updates so far."""
    values = history.values("kl/mean")[-limits.window :]
    return median(values) if values else None


def _explosion(history: History, limits: Limits) -> Observation | None:
    kl = _recent_kl(history, limits)
    if kl is None or kl <= limits.kl_warning:
        return None
    unhealthy = kl > limits.kl_unhealthy
    line = limits.kl_unhealthy if unhealthy else limits.kl_warning
    return Observation(
        "unhealthy" if unhealthy else "warning",
        f"KL from the reference is {kl:.1f} nats per sequence, above {line:g}",
    )


def _drift(history: History, limits: Limits) -> Observation | None:
    kl = _recent_kl(history, limits)
    if kl is None or kl <= limits.kl_drift:
        return None
    return Observation(
        "unhealthy", f"KL from the reference is {kl:.1f} nats per sequence, above {limits.kl_drift:g}"
    )


def _unrewarded(history: History, limits: Limits) -> Observation | None:
    kl = _recent_kl(history, limits)
    rewards = history.after_warmup("reward/mean")
    if kl is None or kl <= limits.kl_unrewarded or len(rewards) < limits.kl_patience:
        return None
    if has_risen(rewards, limits):
        return None
    return Observation(
        "warning",
        f"KL is {kl:.1f} nats per sequence, above {limits.kl_unrewarded:g}, and the reward has not risen "
        f"in {len(rewards)} updates",
    )


def _tight(history: History, limits: Limits) -> Observation | None:
    rewards = history.after_warmup("reward/mean")
    recent = history.after_warmup("kl/mean")[-limits.kl_patience :]
    if len(rewards) < limits.kl_patience or len(recent) < limits.kl_patience:
        return None
    kl = median(recent)
    if kl >= limits.kl_tight or has_risen(rewards, limits):
        return None
    return Observation(
        "warning",
        f"KL is {kl:.3f} nats per sequence, below {limits.kl_tight:g}, and the reward has not risen "
        f"in {len(rewards)} updates",
    )


def _negative(history: History, limits: Limits) -> Observation | None:
    recent = history.values("kl/mean")[-limits.window :]
    errors = history.values("kl/std_error")[-limits.window :]
    if len(recent) < limits.window or len(errors) < limits.window:
        return None
    kl = fmean(recent)
    error = math.sqrt(fmean(e**2 for e in errors) / limits.window)
    if kl >= limits.kl_negative_warning or kl > -limits.kl_negative_errors * error:
        return None
    return Observation(
        "unhealthy" if kl < limits.kl_negative_unhealthy else "warning",
        f"the mean KL is {kl:.2f} ± {error:.2f} nats per sequence; a KL cannot be negative",
    )


def _sampler(history: History, limits: Limits) -> Observation | None:
    gaps = history.values("sampler/logprob_gap")[-limits.window :]
    gap = median(gaps) if gaps else 0.0
    if gap <= limits.sampler_gap_warning:
        return None
    return Observation(
        "unhealthy" if gap > limits.sampler_gap_unhealthy else "warning",
        f"sampler and trainer differ by {gap:.3f} nats per token, more than {limits.sampler_gap_warning:g}",
    )


def _first_ratio(history: History, limits: Limits) -> Observation | None:
    gaps = history.values("policy/first_ratio_gap")[-limits.window :]
    gap = median(gaps) if gaps else 0.0
    if gap <= limits.first_ratio_warning:
        return None
    return Observation(
        "unhealthy" if gap > limits.first_ratio_unhealthy else "warning",
        f"before the first optimiser step a ratio is {gap:.3g} away from 1, more than {limits.first_ratio_warning:g}",
    )


KL_RULES = (
    Rule(
        name="kl_explosion",
        kinds=("ppo",),
        metric="kl/mean",
        warning="KL > {kl_warning:g} nats per sequence, median of {window} updates",
        unhealthy="KL > {kl_unhealthy:g} nats per sequence, median of {window} updates",
        cause="the learning rate is too high or kl_coef too low",
        fix="raise training.ppo.kl_coef, lower training.lr, or set kl_control: adaptive with a kl_target",
        observe=_explosion,
    ),
    Rule(
        name="kl_drift",
        kinds=("ppo",),
        metric="kl/mean",
        warning="–",
        unhealthy="KL > {kl_drift:g} nats per sequence, median of {window} updates",
        cause="the policy has left the data the reward model was trained on, where its scores are not reliable",
        fix="resume from an earlier checkpoint, raise kl_coef, lower training.lr; kl_budget ends a run in time",
        observe=_drift,
        covers=("kl_explosion",),
    ),
    Rule(
        name="kl_unrewarded",
        kinds=("ppo",),
        metric="kl/mean",
        warning="KL > {kl_unrewarded:g} nats per sequence and reward not risen: last {trend_last} against first "
        "{trend_first} updates, < {rise_errors:g} standard errors; from update {kl_patience}",
        unhealthy="–",
        cause="the policy changes without gaining reward: noisy advantages, or a reward it cannot learn",
        fix="raise training.ppo.kl_coef; take more prompts_per_update; check the reward model",
        observe=_unrewarded,
    ),
    Rule(
        name="kl_too_tight",
        kinds=("ppo",),
        metric="kl/mean",
        warning="KL < {kl_tight:g} nats per sequence (median of {kl_patience} updates) and reward not risen: last "
        "{trend_last} against first {trend_first} updates, < {rise_errors:g} standard errors",
        unhealthy="–",
        cause="the policy cannot move: kl_coef is too high or the learning rate too low",
        fix="lower training.ppo.kl_coef, or raise training.lr",
        observe=_tight,
    ),
    Rule(
        name="kl_negative",
        kinds=("ppo",),
        metric="kl/mean",
        warning="mean KL of {window} updates < {kl_negative_warning:g} nats per sequence and more than "
        "{kl_negative_errors:g} standard errors below 0",
        unhealthy="the same and < {kl_negative_unhealthy:g} nats per sequence",
        cause="the responses were not sampled from the distribution that is scored",
        fix="check the sampler: temperature, top-k, top-p, penalties, stale weights (harken doctor)",
        observe=_negative,
    ),
    Rule(
        name="sampler_gap",
        kinds=("ppo",),
        metric="sampler/logprob_gap",
        warning="mean |log-probability of sampler − trainer| > {sampler_gap_warning:g} nats per token, median of "
        "{window} updates",
        unhealthy="the same > {sampler_gap_unhealthy:g} nats per token",
        cause="sampler and trainer do not compute the same policy: different weights, temperature or precision",
        fix="run harken doctor; set dtype: float32 to see whether it is rounding",
        observe=_sampler,
    ),
    Rule(
        name="first_ratio",
        kinds=("ppo",),
        metric="policy/first_ratio_gap",
        warning="largest |ratio − 1| before the first optimiser step > {first_ratio_warning:g}, median of "
        "{window} updates",
        unhealthy="the same > {first_ratio_unhealthy:g}",
        cause="the old log-probabilities are not those of the policy that trains: dropout, an adapter, padding",
        fix="run harken doctor; set dtype: float32 to see whether it is rounding",
        observe=_first_ratio,
    ),
)
