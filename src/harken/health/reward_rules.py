"""Health rules on the reward: constant, falling, exploited."""

from __future__ import annotations

from collections.abc import Sequence

from harken.health.findings import Level
from harken.health.history import History, welch_t
from harken.health.limits import Limits
from harken.health.rule import Observation, Rule

JUDGE_METRIC_PREFIX = "eval/judge_"
GUARD_METRIC_PREFIX = "eval/guard_"
"""A judge that detects damage: its fall is an alarm, a constant score is not."""


def reward_trend(rewards: Sequence[float], limits: Limits) -> float | None:
    """Return Welch's t of the latest updates' rewards against the first ones; None while these overlap."""
    first, last = limits.trend_first, limits.trend_last
    return welch_t(rewards[:first], rewards[-last:]) if len(rewards) >= first + last else None


def has_risen(rewards: Sequence[float], limits: Limits) -> bool:
    """Return whether the latest rewards are above the first ones by more than `rise_errors` standard errors."""
    errors = reward_trend(rewards, limits)
    return errors is not None and errors > limits.rise_errors


def _collapse(history: History, limits: Limits) -> Observation | None:
    spread = history.median("reward/std", limits.window)
    if spread is not None and spread < limits.reward_std:
        return Observation(
            "unhealthy",
            f"rewards of a batch differ by {spread:.4f} (standard deviation), less than {limits.reward_std:g}",
        )
    mean = history.median("reward/mean", limits.window)
    if mean is None or mean >= limits.reward_mean:
        return None
    start = history.values("reward/mean")[0]
    fell = start >= limits.reward_mean
    return Observation(
        "unhealthy" if fell else "warning",
        f"the mean reward is {mean:.1f}, below {limits.reward_mean:g}, from {start:.1f} at the start",
    )


def _uniform_groups(history: History, limits: Limits) -> Observation | None:
    share = history.median("group/zero_spread_frac", limits.window)
    if share is None or share <= limits.group_warning:
        return None
    level: Level = "unhealthy" if share > limits.group_unhealthy else "warning"
    return Observation(level, f"in {share:.0%} of the groups all rewards are equal: they give no gradient")


def _flat(history: History, limits: Limits) -> Observation | None:
    rewards = history.after_warmup("reward/mean")
    if len(rewards) >= limits.long_window and max(rewards) - min(rewards) < limits.reward_same:
        return Observation(
            "unhealthy", f"the mean reward is {rewards[-1]:.3f} in every one of {len(rewards)} updates"
        )
    if len(rewards) < limits.flat_patience or has_risen(rewards, limits):
        return None
    return Observation("warning", f"the reward has not risen in {len(rewards)} updates")


def _falling(history: History, limits: Limits) -> Observation | None:
    errors = reward_trend(history.after_warmup("reward/mean"), limits)
    if errors is None or errors > -limits.fall_errors:
        return None
    return Observation("warning", f"the reward has fallen below its start, by {-errors:.1f} standard errors")


def _negative(history: History, limits: Limits) -> Observation | None:
    rewards = history.values("reward/mean")
    if len(rewards) != 1 or rewards[0] >= 0:
        return None
    return Observation("note", f"the first mean reward is {rewards[0]:.2f}")


def _length(history: History, limits: Limits) -> Observation | None:
    r = history.mean("reward/length_correlation", limits.long_window)
    if r is None or r <= limits.length_correlation:
        return None
    tokens = history.median("response/tokens_mean", limits.window)
    start = history.start("response/tokens_mean", limits.window)
    text = f"score and length correlate by {r:.2f}, above {limits.length_correlation:g}"
    if tokens is None or start is None or tokens <= limits.length_growth * start:
        return Observation("warning", text)
    return Observation("unhealthy", f"{text}, and responses grew from {start:.0f} to {tokens:.0f} tokens")


def _hacking(history: History, limits: Limits) -> Observation | None:
    rewards = history.values("eval/reward_mean")[-limits.hacking_evaluations :]
    if len(rewards) < limits.hacking_least or _half_trend(rewards) <= limits.rise_errors:
        return None
    worst: Observation | None = None
    for name in [*history.names(JUDGE_METRIC_PREFIX), *history.names(GUARD_METRIC_PREFIX)]:
        judged = history.values(name)[-limits.hacking_evaluations :]
        if len(judged) < limits.hacking_least or (errors := _half_trend(judged)) >= limits.rise_errors / 2:
            continue
        fell = errors < -limits.rise_errors
        if name.startswith(GUARD_METRIC_PREFIX) and not fell:
            continue
        kind, _, judge = name.removeprefix("eval/").partition("_")
        observation = Observation(
            "unhealthy" if fell else "warning",
            f"held-out reward rose from {rewards[0]:.2f} to {rewards[-1]:.2f} while {kind} {judge} went from "
            f"{judged[0]:.2f} to {judged[-1]:.2f}",
        )
        if worst is None or fell:
            worst = observation
    return worst


def _votes(history: History, limits: Limits) -> Observation | None:
    latest = {
        name: values[-1]
        for name in ("update", "decided", "win_rate", "low", "high", "reward_change", "reward_change_low")
        if (values := history.values(f"votes/{name}"))
    }
    if latest.get("decided", 0.0) < limits.votes_least or latest["reward_change_low"] <= 0:
        return None
    if latest["low"] > 0.5:
        return None
    return Observation(
        "unhealthy" if latest["high"] < 0.5 else "warning",
        f"until update {latest['update']:.0f} the held-out reward rose by {latest['reward_change']:.2f}, and raters "
        f"prefer the later response in {latest['win_rate']:.0%} of {latest['decided']:.0f} decided items "
        f"(95 % interval {latest['low']:.0%} to {latest['high']:.0%})",
    )


def _half_trend(values: Sequence[float]) -> float:
    """Return Welch's t of the second half of a series against the first."""
    middle = len(values) // 2
    return welch_t(values[:middle], values[middle:])


REWARD_RULES = (
    Rule(
        name="reward_collapse",
        kinds=("ppo",),
        metric="reward/mean",
        warning="mean reward < {reward_mean:g} units of reward since the start, median of {window} updates",
        unhealthy="standard deviation of a batch's rewards < {reward_std:g}, or mean reward fallen below "
        "{reward_mean:g}, units of reward, median of {window} updates",
        cause="the reward model is not loaded or does not read the response, every score is clipped or at its ceiling, "
        "or the KL penalty outweighs the reward",
        fix="read the rollouts; check the reward model (harken doctor); lower kl_coef; widen score_clip",
        observe=_collapse,
    ),
    Rule(
        name="uniform_groups",
        kinds=("ppo",),
        metric="group/zero_spread_frac",
        warning="groups whose rewards are all equal > {group_warning:.0%}, median of {window} updates, with a group "
        "baseline",
        unhealthy="the same > {group_unhealthy:.0%}",
        cause="the prompts are too easy or too hard, the reward takes few values, or responses to a prompt are alike",
        fix="choose other prompts, raise samples_per_prompt or temperature, add a finer part to rewards",
        observe=_uniform_groups,
    ),
    Rule(
        name="reward_flat",
        kinds=("ppo",),
        metric="reward/mean",
        warning="reward not risen after {flat_patience} updates: last {trend_last} against first {trend_first}, "
        "< {rise_errors:g} standard errors",
        unhealthy="the same mean reward (to {reward_same:g} units of reward) in all updates, from update {long_window}",
        cause="the reward model is not loaded, its head is random, or the steps are too small",
        fix="check the reward model's held-out accuracy and the role table; raise training.lr or lower kl_coef",
        observe=_flat,
    ),
    Rule(
        name="reward_falling",
        kinds=("ppo",),
        metric="reward/mean",
        warning="reward below its start: last {trend_last} against first {trend_first} updates, by ≥ {fall_errors:g} "
        "standard errors",
        unhealthy="–",
        cause="steps too large, an inaccurate critic, or a KL penalty that outweighs the reward",
        fix="lower training.lr; warm the critic up (critic_warmup_updates); check value/explained_var and kl/coef",
        observe=_falling,
    ),
    Rule(
        name="reward_negative",
        kinds=("ppo",),
        metric="reward/mean",
        warning="– (a note at the first update: mean reward < 0)",
        unhealthy="–",
        cause="a reward model's zero is arbitrary: only differences matter, so this alone is not a problem",
        fix="do nothing; judge the reward model by its held-out accuracy, the run by the change of the reward",
        observe=_negative,
    ),
    Rule(
        name="length_bias",
        kinds=("ppo",),
        metric="response/tokens_mean",
        warning="correlation of score and length in a batch > {length_correlation:g}, mean of {long_window} updates",
        unhealthy="the same, and responses > {length_growth:g} × as long as in the first {window} updates",
        cause="the reward model prefers long responses",
        fix="set length_penalty, retrain the reward model on pairs of equal length, or raise kl_coef",
        observe=_length,
    ),
    Rule(
        name="reward_hacking",
        kinds=("ppo",),
        metric="eval/reward_mean",
        warning="held-out reward rises by > {rise_errors:g} standard errors (halves of the last {hacking_evaluations} "
        "evaluations, at least {hacking_least}) and a judge does not rise by half as many",
        unhealthy="the same, and the judge, or a guard such as `intact`, falls by > {rise_errors:g} standard errors",
        cause="the policy exploits the reward model: its score grows without a better response",
        fix="stop at the best checkpoint; raise kl_coef; train the reward model on more diverse pairs, or use several",
        observe=_hacking,
    ),
    Rule(
        name="votes_disagree",
        kinds=("ppo", "online_dpo"),
        metric="votes/win_rate",
        warning="the reward of the reviewed responses rose since the start (95 % interval above 0), and the interval "
        "of the later ones' win rate by votes is not above 50 %; from {votes_least} decided items",
        unhealthy="the same, and that interval is below 50 %",
        cause="the policy exploits the reward model: people do not prefer the responses that it scores higher",
        fix="stop and take an earlier checkpoint; harken review export makes pairs of the votes for the next reward "
        "model",
        observe=_votes,
    ),
)
