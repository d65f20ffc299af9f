"""Group methods on the token task whose best policy dynamic programming knows (`test_token_mdp`).

Targets and losses are those of training (`compute_targets`, `policy_loss`); policy and reference are tables. There is
one prompt, so every eight responses are a group.
"""

import pytest
import torch
from core.test_token_mdp import BETA, LENGTH, REFERENCE, REWARD, reached, sample
from torch import nn

from harken.batches import PolicyOutputs
from harken.config.ppo import PPOSettings
from harken.train.ppo.loss import UpdateStats, policy_divisor, policy_loss
from harken.train.ppo.minibatch import TokenCounts
from harken.train.ppo.targets import compute_targets

SHARED = {"samples_per_prompt": 8, "prompts_per_update": 32, "max_gen_len": LENGTH, "clip_range": 0.2}
METHODS = {
    "rloo": {"advantage": "rloo"},
    "grpo": {"advantage": "grpo"},
    "Dr. GRPO": {"advantage": "grpo", "scale_rewards": "none", "loss_aggregation": "constant"},
    "batch scale": {"advantage": "rloo", "scale_rewards": "batch"},
    "sequence mean": {"advantage": "rloo", "loss_aggregation": "sequence"},
    "REINFORCE++ baseline": {"advantage": "reinforce_plus_plus_baseline"},
    "GSPO": {"advantage": "grpo", "importance_sampling_level": "sequence", "clip_range": 0.05},
}
QUICK = ("Dr. GRPO", "GSPO")
"""The others run at night: five seconds each."""


def train(keys, seed=2, updates=40, answers=256):
    """The policy's log-probabilities [prefixes, 4] after training with these settings."""
    settings = PPOSettings(**SHARED | keys)
    generator = torch.Generator().manual_seed(seed)
    logits = nn.Parameter(REFERENCE.clone())
    adam = torch.optim.Adam([logits], lr=0.1, eps=1e-5)
    decay = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.02, updates)
    zero = torch.zeros(answers, 1 + LENGTH)
    for _ in range(updates):
        with torch.no_grad():
            states, tokens, mask = sample(torch.log_softmax(logits, -1), answers, generator)
            old = torch.where(mask, torch.log_softmax(logits, -1)[states, tokens], torch.nan)
            reference = torch.where(mask, REFERENCE[states, tokens], torch.nan)
            reward = torch.tensor(
                [REWARD[tuple(row[on].tolist())] for row, on in zip(tokens, mask, strict=True)]
            )
            ended = torch.zeros(answers, dtype=torch.bool)
            outputs = PolicyOutputs(old, zero, zero, None)
            targets = compute_targets(outputs, reference, mask, ended, reward, BETA, settings)
            counts = TokenCounts.of(targets.policy_mask, targets.value_mask)
        for _ in range(4):
            stats = UpdateStats()
            stats.begin_step(counts)
            now = torch.log_softmax(logits, -1)[states, tokens]
            loss = policy_loss(PolicyOutputs(now, zero, zero, None), targets, settings, stats)
            adam.zero_grad()
            (loss / policy_divisor(counts, settings)).backward()
            adam.step()
        decay.step()
    return torch.log_softmax(logits.detach(), -1)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.nightly) for n in METHODS]
)
def test_each_method_reaches_the_optimum(name):
    """S2-13, S0-03: nearly all of the way from the reference to the best policy, like PPO with a critic."""
    assert 0.97 < reached(train(METHODS[name])) <= 1 + 1e-6


def test_with_the_advantage_upside_down_it_does_not(monkeypatch):
    import harken.train.ppo.targets as module

    right = module.group_advantages
    monkeypatch.setattr(module, "group_advantages", lambda *given: -right(*given))
    assert reached(train(METHODS["grpo"], updates=10)) < 0
