"""Tasks that must learn: a policy with a known optimum reaches it by PPO, and does not with the KL sign flipped.

The response is one token y, the reward r(y) = w_y · u is linear in the token's output embedding. Over all
distributions the optimum of E[r] − β KL(π‖π_ref) is π* ∝ π_ref exp(r/β), worth β log Σ π_ref exp(r/β). The model
comes as near to it as its final norm allows: gradient ascent on the objective itself, which 259 outcomes let one
compute exactly, says how near. PPO sees sampled responses only and has to arrive at the same place.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ppo_stage import build_stage, ppo_config
from torch import Tensor

from harken.records import Rollout
from harken.train.ppo.stage import PPOStage

BETA = 0.5
UPDATES = 16


def rewards_of_tokens(weight: Tensor) -> Tensor:
    """r(y) with mean 0 and spread 1 over the vocabulary."""
    u = torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(4))
    r = weight.detach() @ u
    return (r - r.mean()) / r.std()


def stage_for(root: Path) -> tuple[PPOStage, Tensor]:
    settings = {
        "updates": UPDATES,
        "prompts_per_update": 1,
        "samples_per_prompt": 96,
        "epochs": 2,
        "minibatches": 2,
        "max_gen_len": 1,
        "kl_coef": BETA,
    }
    table: list[float] = []

    def rule(rollout: Rollout) -> float:
        return table[rollout.response_tokens[0]]

    stage = build_stage(
        root, ppo_config(lr=4e-3, critic_lr=2e-2, lr_schedule="linear", ppo=settings), rule, prompts=1
    )
    table += rewards_of_tokens(stage.policy.backbone.output_weight).tolist()
    return stage, torch.tensor(table)


@torch.no_grad()
def distribution(stage: PPOStage, adapter: str | None) -> Tensor:
    """log π(y) of the only prompt, the whole vocabulary, in float64."""
    backbone = stage.policy.backbone
    prompt = stage._generate(0)[0].prompt_tokens
    with backbone.role(adapter):
        state = backbone.trunk(torch.tensor([prompt])).last_hidden_state[0, -1]
    return torch.log_softmax((state @ backbone.output_weight.T).double(), -1)


def objective(log_p: Tensor, log_reference: Tensor, r: Tensor) -> float:
    """E[r] − β KL(π‖π_ref), exactly."""
    return float((log_p.exp() * (r.double() - BETA * (log_p - log_reference))).sum())


def exact_ascent(root: Path, steps: int = 150) -> float:
    """The objective that ascent on its exact gradient reaches with the same adapter."""
    stage, r = stage_for(root)
    backbone, reference = stage.policy.backbone, distribution(stage, None)
    prompt = torch.tensor([stage._generate(0)[0].prompt_tokens])
    adam = torch.optim.Adam(backbone.adapter_parameters("policy").values(), lr=4e-3)
    for _ in range(steps):
        with backbone.role("policy"):
            state = backbone.trunk(prompt).last_hidden_state[0, -1]
            log_p = torch.log_softmax((state @ backbone.output_weight.T).double(), -1)
            loss = -(log_p.exp() * (r.double() - BETA * (log_p - reference))).sum()
            adam.zero_grad()
            loss.backward()
        adam.step()
    return objective(distribution(stage, "policy"), reference, r)


def test_ppo_reaches_a_known_optimum(tmp_path: Path) -> None:
    """S0-03, S4-54: PPO's policy is worth what exact ascent reaches, and the closed form bounds both."""
    stage, r = stage_for(tmp_path)
    for number in range(UPDATES):
        stage.step(number)
    reference, policy = distribution(stage, None), distribution(stage, "policy")
    start, reached = objective(reference, reference, r), objective(policy, reference, r)
    best = torch.log_softmax(reference + r.double() / BETA, -1)
    bound = BETA * float(torch.logsumexp(reference + r.double() / BETA, -1))
    assert abs(objective(best, reference, r) - bound) < 1e-9
    reachable = exact_ascent(tmp_path)
    assert start < reachable <= bound
    assert (reached - start) / (reachable - start) > 0.95


@pytest.mark.sample(0)
def test_with_the_sign_of_the_kl_flipped_it_does_not(tmp_path: Path) -> None:
    """The same run with −β: leaving the reference pays, and the true objective ends below where it began."""
    stage, r = stage_for(tmp_path)
    stage.kl.coefficient.value = -BETA
    for number in range(UPDATES):
        stage.step(number)
    reference, policy = distribution(stage, None), distribution(stage, "policy")
    assert objective(policy, reference, r) < objective(reference, reference, r)
