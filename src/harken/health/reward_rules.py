"""Rules on the reward: whether it is there, whether it grows, and whether it still means something."""

from __future__ import annotations

from collections.abc import Sequence

from harken.health.history import History, errors_moved
from harken.health.limits import Limits
from harken.health.rule import Observation, Rule

JUDGE = "eval/judge_"
GUARD = "eval/guard_"
"""A rule that detects damage: its fall is an alarm, a constant one is not."""


def moved(rewards: Sequence[float], limits: Limits) -> float | None:
    """Standard errors between the first and the latest updates' rewards; None while these would overlap."""
    first, last = limits.trend_first, limits.trend_last
    return errors_moved(rewards[:first], rewards[-last:]) if len(rewards) >= first + last else None


def risen(rewards: Sequence[float], limits: Limits) -> bool:
    """Whether the latest rewards are above the first ones by more than noise."""
    errors = moved(rewards, limits)
    return errors is not None and errors > limits.rise_errors


def _collapse(history: History, limits: Limits) -> Observation | None:
    spread = history.median("reward/std", limits.window)
    if spread is not None and spread < limits.reward_std:
        return Observation(
            "red",
            f"rewards of a batch differ by {spread:.4f} (standard deviation), less than {limits.reward_std:g}",
        )
    mean = history.median("reward/mean", limits.window)
    if mean is None or mean >= limits.reward_mean:
        return None
    start = history.values("reward/mean")[0]
    fell = start >= limits.reward_mean
    return Observation(
        "red" if fell else "amber",
        f"the mean reward is {mean:.1f}, below {limits.reward_mean:g}, from {start:.1f} at the start",
    )


def _flat(history: History, limits: Limits) -> Observation | None:
    rewards = history.learning("reward/mean")
    if len(rewards) >= limits.long_window and max(rewards) - min(rewards) < limits.reward_same:
        return Observation(
            "red", f"the mean reward is {rewards[-1]:.3f} in every one of {len(rewards)} updates"
        )
    if len(rewards) < limits.flat_patience or risen(rewards, limits):
        return None
    return Observation("amber", f"the reward has not risen in {len(rewards)} updates")


def _falling(history: History, limits: Limits) -> Observation | None:
    errors = moved(history.learning("reward/mean"), limits)
    if errors is None or errors > -limits.fall_errors:
        return None
    return Observation(
        "amber", f"the reward has fallen below where it began, by {-errors:.1f} standard errors"
    )


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
    what = f"score and length correlate by {r:.2f}, above {limits.length_correlation:g}"
    if tokens is None or start is None or tokens <= limits.length_growth * start:
        return Observation("amber", what)
    return Observation("red", f"{what}, and answers grew from {start:.0f} to {tokens:.0f} tokens")


def _hacking(history: History, limits: Limits) -> Observation | None:
    rewards = history.values("eval/reward_mean")[-limits.hacking_evaluations :]
    if len(rewards) < limits.hacking_least or _halves(rewards) <= limits.rise_errors:
        return None
    worst: Observation | None = None
    for name in [*history.names(JUDGE), *history.names(GUARD)]:
        judged = history.values(name)[-limits.hacking_evaluations :]
        if len(judged) < limits.hacking_least or (errors := _halves(judged)) >= limits.rise_errors / 2:
            continue
        fell = errors < -limits.rise_errors
        if name.startswith(GUARD) and not fell:
            continue
        kind, _, who = name.removeprefix("eval/").partition("_")
        seen = Observation(
            "red" if fell else "amber",
            f"held-out reward rose from {rewards[0]:.2f} to {rewards[-1]:.2f} while {kind} {who} went from "
            f"{judged[0]:.2f} to {judged[-1]:.2f}",
        )
        if worst is None or fell:
            worst = seen
    return worst


def _halves(values: Sequence[float]) -> float:
    """Standard errors between the two halves of a series."""
    middle = len(values) // 2
    return errors_moved(values[:middle], values[middle:])


REWARD_RULES = (
    Rule(
        name="reward_collapse",
        kinds=("ppo",),
        amber="mean reward < {reward_mean:g} units of reward since the start, median of {window} updates",
        red="standard deviation of a batch's rewards < {reward_std:g}, or mean reward fallen below {reward_mean:g}, "
        "units of reward, median of {window} updates",
        cause="the reward model is not loaded or does not read the answer, every score is clipped or at its ceiling, "
        "or the KL penalty silenced the policy",
        fix="read the rollouts; check the reward model (harken doctor); lower kl_coef; widen score_clip",
        items="S4-30",
        look=_collapse,
    ),
    Rule(
        name="reward_flat",
        kinds=("ppo",),
        amber="reward not risen after {flat_patience} updates: last {trend_last} against first {trend_first}, "
        "< {rise_errors:g} standard errors",
        red="the same mean reward (to {reward_same:g} units of reward) in all updates, from update {long_window}",
        cause="the reward model is not loaded, its head is random, or the steps are too small",
        fix="check the reward model's held-out accuracy and the role table; raise training.lr or lower kl_coef",
        items="S1-44, S1-48",
        look=_flat,
    ),
    Rule(
        name="reward_falling",
        kinds=("ppo",),
        amber="reward below its start: last {trend_last} against first {trend_first} updates, by ≥ {fall_errors:g} "
        "standard errors",
        red="–",
        cause="steps too large, a critic that misleads, or a KL price that outweighs the reward",
        fix="lower training.lr; warm the critic up (critic_warmup_updates); look at value/explained_var and kl/coef",
        items="S1-44, S1-51",
        look=_falling,
    ),
    Rule(
        name="reward_negative",
        kinds=("ppo",),
        amber="– (a note at the first update: mean reward < 0)",
        red="–",
        cause="a reward model's zero is arbitrary: only differences count, so this alone says nothing bad",
        fix="none needed; judge the reward model by its held-out accuracy, the run by the change of the reward",
        items="S1-49",
        look=_negative,
    ),
    Rule(
        name="length_bias",
        kinds=("ppo",),
        amber="correlation of score and length in a batch > {length_correlation:g}, mean of {long_window} updates",
        red="the same, and answers > {length_growth:g} × as long as in the first {window} updates",
        cause="the reward model likes length itself",
        fix="set length_penalty, retrain the reward model on pairs of like length, or raise kl_coef",
        items="S2-48, S1-51",
        look=_length,
    ),
    Rule(
        name="reward_hacking",
        kinds=("ppo",),
        amber="held-out reward rises by > {rise_errors:g} standard errors (halves of the last {hacking_evaluations} "
        "evaluations, at least {hacking_least}) and a judge does not rise by half as many",
        red="the same, and the judge, or a guard such as `intact`, falls by > {rise_errors:g} standard errors",
        cause="the policy exploits the reward model: its score grows, what it stands for does not",
        fix="stop at the best checkpoint; raise kl_coef; train the reward model on more diverse pairs, or use several",
        items="S1-51, S2-94",
        look=_hacking,
    ),
)
