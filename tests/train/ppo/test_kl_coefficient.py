"""The KL coefficient of trained runs: at the default the reward rises; with a far too large one nothing is learned."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ppo_stage import ppo_config, share_of_low_tokens

from harken.config.ppo import PPOSettings
from harken.records import Rollout
from harken.train.ppo.stage import PPOStage

UPDATES, SPAN = 14, 4


def reward(rollout: Rollout) -> float:
    """Between 0 and 5: a nat of KL costs 0.1 at the default coefficient."""
    return 5 * share_of_low_tokens(rollout)


def gain(make_stage: Callable[..., PPOStage], kl_coef: float) -> float:
    """The mean reward of the last updates minus that of the first."""
    keys = {"updates": UPDATES, "prompts_per_update": 24, "kl_coef": kl_coef}
    stage = make_stage(ppo_config(lr=3e-3, ppo=keys), rule=reward, folder=f"run-{kl_coef}")
    rewards = [stage.step(number)["reward/mean"] for number in range(UPDATES)]
    return float(np.mean(rewards[-SPAN:]) - np.mean(rewards[:SPAN]))


def test_too_large_a_coefficient_learns_nothing(make_stage: Callable[..., PPOStage]) -> None:
    """S1-38: same seed, prompts and reward; only the coefficient differs."""
    default = PPOSettings().kl_coef
    assert gain(make_stage, default) > 0.35
    assert abs(gain(make_stage, 300 * default)) < 0.2
