"""Every finding: a run that raises it, and one that just does not. The lines are the requirements' own."""

# ruff: noqa: E501  one case a line reads better than a wrapped table

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from health_series import HEALTHY, Bent, Series, always, level, line, run, then, wobble

from harken.health.findings import Level
from harken.health.limits import limits_for
from harken.health.monitor import RULES
from harken.health.rule import TrainingType


class Case(NamedTuple):
    """After `steps` steps the run `ill` shows `name` at `level`, and `near` shows it at `otherwise`."""

    name: str
    level: Level
    kind: TrainingType
    steps: int
    ill: Bent
    near: Bent
    otherwise: Level | None = None


def evaluations(values: list[float], every: int = 5) -> Series:
    """A held-out metric that is there every so many steps."""
    return lambda t: values[t // every - 1] if t % every == 0 and t // every <= len(values) else None


def apart(errors: float, steps: int, level: float = 0.0, first: int = 5, last: int = 10) -> Series:
    """Noise, and a step up before the `last` of `steps` values that puts them so many standard errors above the `first`."""
    noise = np.array([wobble(t) for t in range(1, steps + 1)])
    before, after = noise[:first], noise[-last:]
    error = np.sqrt(before.var(ddof=1) / first + after.var(ddof=1) / last)
    shift = errors * error - (after.mean() - before.mean())
    return lambda t: level + wobble(t) + (float(shift) if t > steps - last else 0.0)


def two_levels(last: float) -> Series:
    return lambda t: last if t > 53 else 2.0 if t > 28 else 1.0


FLAT: Bent = {"reward/mean": wobble}
UP = evaluations([0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2])


def hacked(judge: list[float]) -> Bent:
    return {"eval/reward_mean": UP, "eval/judge_gold": evaluations(judge)}


def margin(margins: list[float], accuracies: list[float], high: float = 0.8) -> Bent:
    return {
        "eval/rewards/margins": evaluations(margins),
        "eval/rewards/accuracies": evaluations(accuracies),
        "eval/rewards/accuracies_high": always(high),
    }


def votes(**changes: float) -> Bent:
    """Votes that a run has from update 5 on: the reward rose, and nobody is shown to prefer the later responses."""
    figures = {
        "update": 4,
        "decided": 16,
        "win_rate": 0.5,
        "low": 0.3,
        "high": 0.7,
        "reward_change": 0.4,
        "reward_change_low": 0.2,
    }
    return {
        f"votes/{name}": (lambda t, value=value: value if t >= 5 else None)
        for name, value in (figures | changes).items()
    }


CASES = [
    # KL, nats per sequence
    Case("kl_explosion", "warning", "ppo", 6, {"kl/mean": always(10.1)}, {"kl/mean": always(10.0)}),
    Case("kl_explosion", "unhealthy", "ppo", 6, {"kl/mean": always(15.1)}, {"kl/mean": always(15.0)}, "warning"),
    Case("kl_explosion", "unhealthy", "ppo", 6, {"kl/mean": then(3, 5, 16)}, {"kl/mean": then(3, 6, 900)}),
    Case("kl_explosion", "unhealthy", "ppo", 2, {"kl/mean": then(0, 2, 38)}, {"kl/mean": then(0, 2, 19)}),
    Case("kl_drift", "unhealthy", "ppo", 6, {"kl/mean": always(20.1)}, {"kl/mean": always(20.0)}),
    Case("kl_unrewarded", "warning", "ppo", 20, {**FLAT, "kl/mean": always(2.1)}, {**FLAT, "kl/mean": always(2.0)}),
    Case("kl_unrewarded", "warning", "ppo", 20, {**FLAT, "kl/mean": always(4.0)}, {"kl/mean": always(4.0)}),
    Case("kl_too_tight", "warning", "ppo", 20, {**FLAT, "kl/mean": always(0.096)}, {**FLAT, "kl/mean": always(0.1)}),
    Case("kl_too_tight", "warning", "ppo", 20, {**FLAT, "kl/mean": always(0.05)}, {"kl/mean": always(0.05)}),
    Case(
        "kl_negative", "warning", "ppo", 6,
        {"kl/mean": always(-0.2), "kl/std_error": always(0.113)},  # 0.2 ÷ (0.113 ÷ √3) = 3.07
        {"kl/mean": always(-0.2), "kl/std_error": always(0.118)},  # 2.94
    ),
    Case(
        "kl_negative", "warning", "ppo", 6,
        {"kl/mean": always(-0.102), "kl/std_error": always(0.01)},
        {"kl/mean": always(-0.099), "kl/std_error": always(0.01)},
    ),
    Case("kl_negative", "unhealthy", "ppo", 6, {"kl/mean": always(-1.02)}, {"kl/mean": always(-0.99)}, "warning"),
    # The sampler is the policy that is scored
    Case("sampler_gap", "warning", "ppo", 3, {"sampler/logprob_gap": always(0.102)}, {"sampler/logprob_gap": always(0.1)}),
    Case("sampler_gap", "unhealthy", "ppo", 1, {"sampler/logprob_gap": always(0.31)}, {"sampler/logprob_gap": always(0.3)}, "warning"),
    Case("first_ratio", "warning", "ppo", 3, {"policy/first_ratio_gap": always(0.21)}, {"policy/first_ratio_gap": always(0.2)}),
    Case("first_ratio", "unhealthy", "ppo", 1, {"policy/first_ratio_gap": always(1.02)}, {"policy/first_ratio_gap": always(1.0)}, "warning"),
    # Reward
    Case("reward_collapse", "unhealthy", "ppo", 6, {"reward/std": then(1, 4, 0.0099)}, {"reward/std": then(1, 4, 0.01)}),
    Case("reward_collapse", "unhealthy", "ppo", 6, {"reward/std": then(1, 5, 0.0)}, {"reward/std": then(1, 6, 0.0)}),
    Case("reward_collapse", "unhealthy", "ppo", 6, {"reward/mean": then(0, 4, -10.1)}, {"reward/mean": then(0, 4, -10.0)}),
    Case("reward_collapse", "unhealthy", "ppo", 6, {"reward/mean": then(-9, 4, -11)}, {"reward/mean": always(-11)}, "warning"),
    Case("reward_collapse", "warning", "ppo", 6, {"reward/mean": always(-10.1)}, {"reward/mean": always(-10.0)}),
    Case("uniform_groups", "warning", "ppo", 6, {"group/zero_spread_frac": always(0.51)}, {"group/zero_spread_frac": always(0.5)}),
    Case("uniform_groups", "unhealthy", "ppo", 6, {"group/zero_spread_frac": always(0.91)}, {"group/zero_spread_frac": always(0.9)}, "warning"),
    Case("reward_flat", "unhealthy", "ppo", 5, {"reward/mean": line(0.4, 0.24e-6)}, {"reward/mean": line(0.4, 0.26e-6)}),
    Case("reward_flat", "unhealthy", "ppo", 5, {"reward/mean": always(0.4)}, {"reward/mean": then(0.3, 2, 0.4)}),
    Case("reward_flat", "warning", "ppo", 30, {"reward/mean": apart(1.95, 30)}, {"reward/mean": apart(2.05, 30)}),
    Case("reward_flat", "warning", "ppo", 30, {"reward/mean": apart(1.95, 30, -9)}, {"reward/mean": apart(2.05, 30, -9)}),
    Case("reward_falling", "warning", "ppo", 15, {"reward/mean": apart(-3.05, 15)}, {"reward/mean": apart(-2.95, 15)}),
    Case("reward_negative", "note", "ppo", 1, {"reward/mean": always(-0.01)}, {"reward/mean": always(0.0)}),
    Case("reward_negative", "note", "ppo", 1, {"reward/mean": always(-3.0)}, {"reward/mean": always(3.0)}),
    Case("length_bias", "warning", "ppo", 6, {"reward/length_correlation": always(0.51)}, {"reward/length_correlation": always(0.5)}),
    Case("length_bias", "warning", "ppo", 6, {"reward/length_correlation": always(0.6)}, {"reward/length_correlation": then(0.6, 5, 0.3)}),
    Case("length_bias", "unhealthy", "ppo", 12,
         {"reward/length_correlation": always(0.6), "response/tokens_mean": then(20, 6, 31)},
         {"reward/length_correlation": always(0.6), "response/tokens_mean": then(20, 6, 30)}, "warning"),
    Case("reward_hacking", "warning", "ppo", 30, hacked([0.5, 0.4, 0.6, 0.5, 0.6, 0.4]), hacked([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])),
    Case("reward_hacking", "unhealthy", "ppo", 30, hacked([0.6, 0.5, 0.4, 0.3, 0.2, 0.1]), hacked([0.5, 0.4, 0.6, 0.5, 0.6, 0.4]), "warning"),
    Case("reward_hacking", "warning", "ppo", 35, hacked([9, 0.5, 0.4, 0.6, 0.5, 0.6, 0.4]), hacked([9, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])),
    Case("reward_hacking", "warning", "ppo", 30, hacked([0.2, 0.5, 0.2, 0.5, 0.45, 0.2]), hacked([0, 0.2, 0.5, 0.5, 0.45, 0.5])),
    Case("reward_hacking", "unhealthy", "ppo", 20, hacked([0.6, 0.5, 0.4, 0.3]), hacked([0.6, 0.5, 0.4])),
    Case("reward_hacking", "warning", "ppo", 30,
         {"eval/reward_mean": UP, "eval/judge_gold": evaluations([0.5] * 6)},
         {"eval/reward_mean": evaluations([0.5] * 6), "eval/judge_gold": evaluations([0.5] * 6)}),
    Case("reward_hacking", "unhealthy", "ppo", 30,
         {"eval/reward_mean": UP, "eval/guard_intact": evaluations([0.9, 0.8, 0.7, 0.5, 0.4, 0.3])},
         {"eval/reward_mean": UP, "eval/guard_intact": evaluations([1.0] * 6)}),
    # Votes of people
    Case("votes_disagree", "warning", "ppo", 12, votes(low=0.5), votes(low=0.51)),
    Case("votes_disagree", "unhealthy", "ppo", 12, votes(low=0.1, high=0.49), votes(low=0.1, high=0.51), "warning"),
    Case("votes_disagree", "warning", "online_dpo", 12, votes(decided=10), votes(decided=9)),
    Case("votes_disagree", "warning", "ppo", 12, votes(reward_change_low=0.01), votes(reward_change_low=0.0)),
    # Responses
    Case("policy_collapse", "warning", "ppo", 9, {"response/unique": then(1, 7, 0.7)}, {"response/unique": then(1, 7, 0.71)}),
    Case("policy_collapse", "unhealthy", "ppo", 9, {"response/unique": then(1, 7, 0.5)}, {"response/unique": then(1, 7, 0.51)}, "warning"),
    Case("policy_collapse", "unhealthy", "ppo", 9, {"response/distinct_2": then(0.9, 7, 0.44)}, {"response/distinct_2": then(0.9, 7, 0.64)}),
    Case("policy_collapse", "unhealthy", "ppo", 9, {"response/unique": then(1, 8, 0.1)}, {"response/unique": then(1, 9, 0.1)}),
    Case("policy_collapse", "warning", "ppo", 9, {"response/tokens_std": then(20, 7, 4)}, {"response/tokens_std": then(20, 7, 4.1)}),
    Case("policy_collapse", "unhealthy", "ppo", 10, {"eval/unique": evaluations([1.0, 0.5])}, {"eval/unique": evaluations([1.0, 0.75])}),
    Case("policy_collapse", "warning", "ppo", 10, {"eval/distinct_2": evaluations([1.0, 0.7])}, {"eval/distinct_2": evaluations([0.3, 0.3])}),
    Case("length_collapse", "warning", "ppo", 12, {"response/tokens_mean": then(40, 9, 20)}, {"response/tokens_mean": then(40, 9, 20.1)}),
    Case("length_collapse", "unhealthy", "ppo", 12, {"response/tokens_mean": then(40, 9, 10)}, {"response/tokens_mean": then(40, 9, 10.1)}, "warning"),
    Case("length_collapse", "unhealthy", "ppo", 20,
         {"response/tokens_mean": then(64, 5, 16), "response/cap_hit": then(0.5, 5, 0)},
         {"response/tokens_mean": then(64, 5, 16), "response/cap_hit": then(0.6, 5, 0)}),
    Case("empty_responses", "warning", "ppo", 6, {"response/empty": always(0.0104)}, {"response/empty": always(0.01)}),
    Case("empty_responses", "unhealthy", "ppo", 10, {"response/empty": always(0.031)}, {"response/empty": always(0.03)}, "warning"),
    Case("empty_responses", "warning", "ppo", 9, {"response/empty": always(0.2)}, {"response/empty": always(0)}),
    Case("truncated_responses", "warning", "ppo", 10, {"response/cap_hit": always(0.51)}, {"response/cap_hit": always(0.5)}),
    Case("truncated_responses", "warning", "ppo", 10, {"response/cap_hit": always(1)}, {"response/cap_hit": then(1, 8, 0)}),
    Case("truncated_responses", "unhealthy", "ppo", 12, {"response/cap_hit": then(0.4, 6, 0.91)}, {"response/cap_hit": then(0.4, 6, 0.9)}, "warning"),
    Case("truncated_responses", "unhealthy", "ppo", 12, {"response/cap_hit": then(0.4, 6, 1)}, {"response/cap_hit": then(0.5, 6, 1)}, "warning"),
    Case("repetition", "warning", "ppo", 6, {"response/repetition": always(0.104)}, {"response/repetition": always(0.099)}),
    Case("repetition", "unhealthy", "ppo", 6, {"response/repetition": always(0.26)}, {"response/repetition": always(0.25)}, "warning"),
    Case("repetition", "unhealthy", "ppo", 6, {"eval/repetition": evaluations([0.3])}, {"eval/repetition": evaluations([0.09])}),
    # Learning
    Case("not_finite", "unhealthy", "sft", 3, {"loss": then(2, 3, float("nan"))}, {"loss": then(2, 2, 9)}),
    Case("not_finite", "unhealthy", "reward", 3, {"grad_norm": then(2, 3, float("inf"))}, {"grad_norm": lambda t: float("inf") if t == 2 else 1.0}),
    Case("not_finite", "unhealthy", "ppo", 3, {"policy/loss": then(0, 3, float("-inf"))}, {"policy/loss": always(0)}),
    Case("gradient_explosion", "warning", "sft", 13, {"grad_norm": then(1, 12, 10.1)}, {"grad_norm": then(1, 12, 10)}),
    Case("gradient_explosion", "warning", "ppo", 13, {"grad_norm": then(1, 12, 11)}, {"grad_norm": then(1, 13, 11)}),
    Case("gradient_explosion", "unhealthy", "reward", 13, {"grad_norm": then(1, 12, 101)}, {"grad_norm": then(1, 12, 100)}, "warning"),
    # 25 norms of 1 and 25 of 2 are looked back at: their median is 1.5
    Case("gradient_explosion", "warning", "ppo", 56, {"grad_norm": two_levels(15.1)}, {"grad_norm": two_levels(14.9)}),
    Case("entropy", "unhealthy", "ppo", 3, {"policy/entropy": always(0.099)}, {"policy/entropy": always(0.1)}),
    Case("entropy", "warning", "ppo", 13, {"policy/entropy": then(2, 11, 0.99)}, {"policy/entropy": then(2, 11, 1)}),
    Case("entropy", "warning", "ppo", 13, {"policy/entropy": lambda t: 2 * 0.93**t}, {"policy/entropy": lambda t: 2 * 0.94**t}),
    Case("entropy", "warning", "ppo", 30, {"policy/entropy": then(2, 20, 0.9)}, {"policy/entropy": then(2, 19, 0.9)}),
    Case("clip_fraction", "warning", "ppo", 4, {"policy/clipfrac": always(0.31)}, {"policy/clipfrac": always(0.3)}),
    Case("clip_fraction", "unhealthy", "ppo", 4, {"policy/clipfrac": always(0.51)}, {"policy/clipfrac": always(0.5)}, "warning"),
    Case("clip_fraction", "warning", "ppo", 4, {"policy/clipfrac": then(0.1, 3, 0.5)}, {"policy/clipfrac": then(0.1, 4, 0.5)}),
    Case("explained_variance", "unhealthy", "ppo", 20, {"value/explained_var": always(-0.01)}, {"value/explained_var": always(0)}),
    Case("explained_variance", "warning", "ppo", 50, {"value/explained_var": always(0.49)}, {"value/explained_var": always(0.5)}),
    Case("explained_variance", "unhealthy", "ppo", 20, {"value/explained_var": then(0.3, 18, -0.5)}, {"value/explained_var": then(0.3, 20, -0.5)}),
    # Supervised stages
    Case("loss_rising", "warning", "sft", 40, {"loss": then(2.0, 31, 2.41)}, {"loss": then(2.0, 31, 2.39)}),
    Case("loss_rising", "unhealthy", "reward", 40, {"loss": then(0.5, 31, 1.01)}, {"loss": then(0.5, 31, 0.99)}, "warning"),
    Case("loss_rising", "warning", "sft", 40,
         {"loss": apart(4.05, 40, 4.0, first=10)}, {"loss": apart(3.95, 40, 4.0, first=10)}),
    Case("overfitting", "warning", "sft", 40, {"eval/loss": evaluations([2, 1.9, 1.8, 1.84, 1.84])}, {"eval/loss": evaluations([2, 1.9, 1.8, 1.83, 1.83])}),
    Case("overfitting", "warning", "sft", 40, {"eval/loss": evaluations([2, 1.8, 1.9, 1.9])}, {"eval/loss": evaluations([2, 1.8, 1.8, 1.9])}),
    Case("overfitting", "unhealthy", "reward", 40, {"eval/loss": evaluations([0.5, 0.55, 0.56])}, {"eval/loss": evaluations([0.5, 0.54, 0.56])}, "warning"),
    Case("overfitting", "unhealthy", "sft", 40, {"eval/loss": evaluations([1, 2, 2])}, {"eval/loss": evaluations([1, 2, 2]), "loss": always(2)}),
    Case("classifier_auc", "warning", "classifier", 5, {"eval/auc": evaluations([0.54])}, {"eval/auc": evaluations([0.55])}),
    Case("classifier_auc", "unhealthy", "classifier", 5,
         {"eval/auc": evaluations([0.4]), "eval/auc_high": evaluations([0.49])},
         {"eval/auc": evaluations([0.4]), "eval/auc_high": evaluations([0.51])}, "warning"),
    Case("reward_accuracy", "warning", "reward", 50, {"accuracy": always(0.54)}, {"accuracy": always(0.55)}),
    Case("reward_accuracy", "warning", "reward", 50, {"accuracy": then(0.9, 31, 0.54)}, {"accuracy": then(0.9, 32, 0.54)}),
    Case("reward_accuracy", "warning", "reward", 5,
         {"eval/accuracy": evaluations([0.54]), "eval/accuracy_high": evaluations([0.6])},
         {"eval/accuracy": evaluations([0.55]), "eval/accuracy_high": evaluations([0.6])}),
    Case("reward_accuracy", "unhealthy", "reward", 5,
         {"eval/accuracy": evaluations([0.4]), "eval/accuracy_high": evaluations([0.49])},
         {"eval/accuracy": evaluations([0.4]), "eval/accuracy_high": evaluations([0.5])}, "warning"),
    # preference optimisation: nats per token, rewards, times a length, nats per sequence
    Case("chosen_falling", "warning", "dpo", 5, {"logps/chosen_change": always(-0.21)}, {"logps/chosen_change": always(-0.2)}),
    Case("chosen_falling", "unhealthy", "online_dpo", 5, {"logps/chosen_change": always(-1.01)}, {"logps/chosen_change": always(-1.0)}, "warning"),
    Case("chosen_falling", "warning", "dpo", 5, {"eval/logps/chosen_change": evaluations([-0.3])}, {"eval/logps/chosen_change": evaluations([-0.1])}),
    Case("margin_without_accuracy", "warning", "dpo", 15, margin([0.5, 1.5, 1.6], [0.7, 0.7, 0.7]), margin([0.5, 1.4, 1.6], [0.7, 0.7, 0.7])),
    Case("margin_without_accuracy", "warning", "dpo", 15, margin([0.5, 1.5, 1.6], [0.7, 0.7, 0.6]), margin([0.5, 1.5, 1.6], [0.7, 0.7, 0.71])),
    Case("margin_without_accuracy", "warning", "dpo", 15, margin([0.5, 1.5, 1.6], [0.89, 0.89, 0.89], 0.95), margin([0.5, 1.5, 1.6], [0.9, 0.9, 0.9], 0.95)),
    Case("margin_without_accuracy", "warning", "dpo", 15, margin([0.5, 1.5, 1.6], [0.7, 0.6, 0.6]), margin([-0.5, 1.5, 1.6], [0.7, 0.6, 0.6])),
    Case("margin_without_accuracy", "unhealthy", "dpo", 15, margin([0.5, 1.5, 1.6], [0.7, 0.6, 0.6], 0.69), margin([0.5, 1.5, 1.6], [0.7, 0.6, 0.6], 0.7), "warning"),
    Case("length_drift", "warning", "dpo", 5, {"eval/tokens_change": evaluations([1.5])}, {"eval/tokens_change": evaluations([1.49])}),
    Case("length_drift", "warning", "dpo", 5, {"eval/tokens_change": evaluations([0.66])}, {"eval/tokens_change": evaluations([0.67])}),
    Case("length_drift", "unhealthy", "online_dpo", 5, {"eval/tokens_change": evaluations([0.5])}, {"eval/tokens_change": evaluations([0.51])}, "warning"),
    Case("far_from_reference", "warning", "dpo", 5, {"eval/kl/mean": evaluations([10.1])}, {"eval/kl/mean": evaluations([10.0])}),
    Case("far_from_reference", "unhealthy", "online_dpo", 6, {"kl/mean": always(15.1)}, {"kl/mean": always(15.0)}, "warning"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.name}-{c.level}-{CASES.index(c)}")
def test_a_finding_is_raised_at_its_line_and_not_before(case: Case) -> None:
    """S4-30…32, S4-42…45, S2-45…48, S2-53, S2-93, S2-94, S1-44…51, S0-40: each threshold, from both sides."""
    assert level(run(case.kind, case.steps, case.ill)[-1], case.name) == case.level
    assert level(run(case.kind, case.steps, case.near)[-1], case.name) == case.otherwise


def test_every_finding_and_level_has_a_case() -> None:
    shown = {(case.name, case.level) for case in CASES}
    for rule in RULES:
        assert (not rule.warning.startswith("–")) == ((rule.name, "warning") in shown)
        assert (rule.unhealthy != "–") == ((rule.name, "unhealthy") in shown)


@pytest.mark.parametrize(
    ("name", "early", "bent"),
    [
        ("reward_flat", 29, FLAT),
        ("kl_unrewarded", 19, {**FLAT, "kl/mean": always(4.0)}),
        ("kl_too_tight", 19, {**FLAT, "kl/mean": always(0.0)}),
        ("truncated_responses", 9, {"response/cap_hit": always(1.0)}),
        ("explained_variance", 19, {"value/explained_var": always(-0.5)}),
        ("explained_variance", 49, {"value/explained_var": always(0.3)}),
        ("reward_accuracy", 49, {"accuracy": always(0.5)}),
        ("reward_collapse", 2, {"reward/std": always(0.0)}),
        ("clip_fraction", 2, {"policy/clipfrac": always(0.9)}),
        ("reward_flat", 4, {"reward/mean": always(0.4)}),
        ("gradient_explosion", 12, {"grad_norm": then(1.0, 11, 11.0)}),
    ],
)
def test_a_finding_waits_for_enough_updates(name: str, early: int, bent: Bent) -> None:
    kind: TrainingType = "reward" if name == "reward_accuracy" else "ppo"
    reports = run(kind, early + 1, bent)
    assert not any(level(report, name) for report in reports[:-1])
    assert level(reports[-1], name)


def test_without_a_critic_no_explained_variance_is_reported() -> None:
    """RLOO and GRPO log an explained variance of 0 and no value loss."""
    no_critic: Bent = {"value/explained_var": always(-0.5), "value/loss": lambda t: None}
    assert level(run("ppo", 60, no_critic)[-1], "explained_variance") is None


def test_a_policy_that_waits_for_its_critic_is_not_blamed_for_a_flat_reward() -> None:
    """While critic/warming_up is 1 the policy does not learn: patience counts from there (property 34)."""
    waiting: Bent = {**FLAT, "kl/mean": always(0.0), "critic/warming_up": then(1, 26, 0)}
    assert not [r for r in run("ppo", 44, waiting) if level(r, "kl_too_tight") or level(r, "reward_flat")]
    assert level(run("ppo", 45, waiting)[-1], "kl_too_tight") == "warning"


@pytest.mark.parametrize(
    ("metric", "name", "value"),
    [("sampler/logprob_gap", "sampler_gap", 0.011), ("policy/first_ratio_gap", "first_ratio", 0.0011)],
)
def test_float32_has_to_agree_better_than_bfloat16(metric: str, name: str, value: float) -> None:
    """Property 28: what is rounding in bfloat16 is a mistake in float32."""
    bent: Bent = {metric: always(value)}
    assert level(run("ppo", 3, bent, limits_for("bfloat16"))[-1], name) is None
    assert level(run("ppo", 3, bent, limits_for("float32"))[-1], name) == "warning"
    near: Bent = {metric: always(value / 1.1)}
    assert level(run("ppo", 3, near, limits_for("float32"))[-1], name) is None


@pytest.mark.parametrize("kind", HEALTHY)
def test_the_run_that_is_bent_here_is_healthy(kind: TrainingType) -> None:
    assert {report.status for report in run(kind, 200, {})} == {"healthy"}
