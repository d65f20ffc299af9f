"""Rules on the distance to the reference, and on the sampler being the policy that is scored."""

from __future__ import annotations

import math
from statistics import fmean, median

from harken.health.history import History
from harken.health.limits import Limits
from harken.health.reward_rules import risen
from harken.health.rule import Observation, Rule


def _level(history: History, limits: Limits) -> float | None:
    """KL in nats per sequence, without single outliers; the first updates are judged by what there is."""
    values = history.values("kl/mean")[-limits.window :]
    return median(values) if values else None


def _explosion(history: History, limits: Limits) -> Observation | None:
    kl = _level(history, limits)
    if kl is None or kl <= limits.kl_amber:
        return None
    red = kl > limits.kl_red
    line = limits.kl_red if red else limits.kl_amber
    return Observation(
        "red" if red else "amber", f"KL to the reference is {kl:.1f} nats per sequence, above {line:g}"
    )


def _drift(history: History, limits: Limits) -> Observation | None:
    kl = _level(history, limits)
    if kl is None or kl <= limits.kl_drift:
        return None
    return Observation("red", f"KL to the reference is {kl:.1f} nats per sequence, above {limits.kl_drift:g}")


def _unrewarded(history: History, limits: Limits) -> Observation | None:
    kl = _level(history, limits)
    rewards = history.learning("reward/mean")
    if kl is None or kl <= limits.kl_unrewarded or len(rewards) < limits.kl_patience:
        return None
    if risen(rewards, limits):
        return None
    return Observation(
        "amber",
        f"KL is {kl:.1f} nats per sequence, above {limits.kl_unrewarded:g}, and the reward has not risen "
        f"in {len(rewards)} updates",
    )


def _tight(history: History, limits: Limits) -> Observation | None:
    rewards = history.learning("reward/mean")
    recent = history.learning("kl/mean")[-limits.kl_patience :]
    if len(rewards) < limits.kl_patience or len(recent) < limits.kl_patience:
        return None
    kl = median(recent)
    if kl >= limits.kl_tight or risen(rewards, limits):
        return None
    return Observation(
        "amber",
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
    if kl >= limits.kl_negative_amber or kl > -limits.kl_negative_errors * error:
        return None
    return Observation(
        "red" if kl < limits.kl_negative_red else "amber",
        f"the mean KL is {kl:.2f} ± {error:.2f} nats per sequence; a KL cannot be negative",
    )


def _sampler(history: History, limits: Limits) -> Observation | None:
    gaps = history.values("sampler/logprob_gap")[-limits.window :]
    gap = median(gaps) if gaps else 0.0
    if gap <= limits.sampler_gap_amber:
        return None
    return Observation(
        "red" if gap > limits.sampler_gap_red else "amber",
        f"sampler and trainer differ by {gap:.3f} nats per token, more than {limits.sampler_gap_amber:g}",
    )


def _first_ratio(history: History, limits: Limits) -> Observation | None:
    gaps = history.values("policy/first_ratio_gap")[-limits.window :]
    gap = median(gaps) if gaps else 0.0
    if gap <= limits.first_ratio_amber:
        return None
    return Observation(
        "red" if gap > limits.first_ratio_red else "amber",
        f"before the first optimiser step a ratio is {gap:.3g} away from 1, more than {limits.first_ratio_amber:g}",
    )


KL_RULES = (
    Rule(
        name="kl_explosion",
        kinds=("ppo",),
        amber="KL > {kl_amber:g} nats per sequence, median of {window} updates",
        red="KL > {kl_red:g} nats per sequence, median of {window} updates",
        cause="the learning rate is too high or kl_coef too low",
        fix="raise training.ppo.kl_coef, lower training.lr, or set kl_control: adaptive with a kl_target",
        items="S1-45, S1-50, S4-31, S4-42",
        look=_explosion,
    ),
    Rule(
        name="kl_drift",
        kinds=("ppo",),
        amber="–",
        red="KL > {kl_drift:g} nats per sequence, median of {window} updates",
        cause="the policy has left what the reward model was trained on; its scores mean little there",
        fix="go back to an earlier checkpoint, raise kl_coef, lower training.lr; kl_budget ends a run in time",
        items="S2-93",
        look=_drift,
    ),
    Rule(
        name="kl_unrewarded",
        kinds=("ppo",),
        amber="KL > {kl_unrewarded:g} nats per sequence and reward not risen: last {trend_last} against first "
        "{trend_first} updates, < {rise_errors:g} standard errors; from update {kl_patience}",
        red="–",
        cause="the policy moves without being paid for it: noise in the advantages, or a reward it cannot learn",
        fix="raise training.ppo.kl_coef; take more prompts_per_update; check the reward model",
        items="S2-45, S2-46",
        look=_unrewarded,
    ),
    Rule(
        name="kl_too_tight",
        kinds=("ppo",),
        amber="KL < {kl_tight:g} nats per sequence (median of {kl_patience} updates) and reward not risen: last "
        "{trend_last} against first {trend_first} updates, < {rise_errors:g} standard errors",
        red="–",
        cause="the policy cannot move: kl_coef is too high or the learning rate too low",
        fix="lower training.ppo.kl_coef, or raise training.lr",
        items="S2-47",
        look=_tight,
    ),
    Rule(
        name="kl_negative",
        kinds=("ppo",),
        amber="mean KL of {window} updates < {kl_negative_amber:g} nats per sequence and more than "
        "{kl_negative_errors:g} standard errors below 0",
        red="the same and < {kl_negative_red:g} nats per sequence",
        cause="the answers were not drawn from the distribution that is scored",
        fix="check the sampler: temperature, top-k, top-p, penalties, stale weights (harken doctor)",
        items="S0-32, properties 5, 16, 32",
        look=_negative,
    ),
    Rule(
        name="sampler_gap",
        kinds=("ppo",),
        amber="mean |log-probability of sampler − trainer| > {sampler_gap_amber:g} nats per token, median of "
        "{window} updates",
        red="the same > {sampler_gap_red:g} nats per token",
        cause="sampler and trainer do not compute the same policy: other weights, temperature or precision",
        fix="run harken doctor; set dtype: float32 to see whether it is rounding",
        items="S1-41, properties 5, 6, 28",
        look=_sampler,
    ),
    Rule(
        name="first_ratio",
        kinds=("ppo",),
        amber="largest |ratio − 1| before the first optimiser step > {first_ratio_amber:g}, median of {window} updates",
        red="the same > {first_ratio_red:g}",
        cause="the old log-probabilities are not those of the policy that learns: dropout, an adapter, padding",
        fix="run harken doctor; set dtype: float32 to see whether it is rounding",
        items="S4-02, property 28",
        look=_first_ratio,
    ),
)
