"""Tasks with a known optimum: one response token, rewards by token, preferences drawn from them.

At DPO's optimum on all pairs, with soft labels σ(r(a) − r(b)), β × log-ratio is the reward up to a constant: the policy
is π_ref exp(r/β) / Z on the tokens that the pairs hold (Rafailov et al. 2023, eq. 4 and 6). The pairs here hold every
combination of a few tokens, so the differences of log-ratios are known exactly.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import torch
from dpo_stage import dpo_config, dpo_stage

from harken.records import TokenPair

TOKENS = (40, 60, 80, 100)
REWARDS = {40: 0.9, 60: 0.2, 80: -0.3, 100: -0.8}
PROMPT = (9, 10, 11)


def pairs(beta_soft: bool) -> list[TokenPair]:
    """All pairs of the tokens: labelled by their probability, or by the sign of the difference."""
    made = []
    for a, b in itertools.combinations(TOKENS, 2):
        label = 1 / (1 + math.exp(REWARDS[b] - REWARDS[a])) if beta_soft else 1.0
        made.append(TokenPair(f"{a}-{b}", (*PROMPT, a), (*PROMPT, b), label, prompt_length=len(PROMPT)))
    return made


def logratios(root: Path, steps: int, soft: bool, **settings: object) -> torch.Tensor:
    """log π − log π_ref of each token after training, without their mean."""
    config = dpo_config(
        dpo=settings, batch_size=6, epochs=steps, lr=3e-2, lr_schedule="cosine", lora={"rank": 8}
    )
    stage = dpo_stage(root, config, pairs(soft))
    for number in range(steps):
        stage.step(number)
    scores = {}
    policy = stage.learner.scores(stage.models.policy, stage.examples)
    for example, own, known in zip(stage.examples, policy, stage.reference, strict=False):
        for side, token in enumerate((example.first.tokens[-1], example.second.tokens[-1])):
            scores[token] = float(own[side] - known[side])
    found = torch.tensor([scores[token] for token in TOKENS])
    return found - found.mean()


def centred() -> torch.Tensor:
    rewards = torch.tensor([REWARDS[token] for token in TOKENS])
    return rewards - rewards.mean()


def test_dpo_recovers_the_reward(tmp_path: Path) -> None:
    """β × log-ratio is the reward that the labels were drawn from, up to a constant."""
    found = logratios(tmp_path, 80, True, beta=0.5)
    torch.testing.assert_close(0.5 * found, centred(), atol=0.05, rtol=0.0)
