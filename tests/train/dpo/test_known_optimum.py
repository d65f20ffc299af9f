"""Tasks with a known optimum: one response token, rewards by token, preferences drawn from them.

At DPO's optimum on all pairs, with soft labels σ(r(a) − r(b)), β × log-ratio is the reward up to a constant: the policy
is π_ref exp(r/β) / Z on the tokens that the pairs hold (Rafailov et al. 2023, eq. 4 and 6). The pairs here hold every
combination of a few tokens, so the differences of log-ratios are known exactly.
"""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from dpo_stage import dpo_config, dpo_stage, online_stage

from harken.records import Rollout, TokenPair

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


@pytest.mark.nightly
def test_robust_dpo_undoes_flipped_labels(tmp_path: Path) -> None:
    """With labels mixed by ε, rDPO has the optimum of the clean labels; plain DPO has a flatter one."""
    noise = 0.2
    clean = {pair.id: pair.label for pair in pairs(True)}

    def reached(root: Path, **settings: object) -> torch.Tensor:
        config = dpo_config(
            dpo={"beta": 0.5} | settings,
            batch_size=6,
            epochs=80,
            lr=3e-2,
            lr_schedule="cosine",
            lora={"rank": 8},
        )
        mixed = [
            TokenPair(
                p.id, p.chosen_tokens, p.rejected_tokens, clean[p.id] * (1 - noise) + (1 - clean[p.id]) * noise,
                prompt_length=p.prompt_length,
            )
            for p in pairs(True)
        ]  # fmt: skip
        stage = dpo_stage(root, config, mixed)
        for number in range(80):
            stage.step(number)
        margins = stage.learner.scores(stage.models.policy, stage.examples) - stage.reference[: len(mixed)]
        return 0.5 * (margins[:, 0] - margins[:, 1])

    expected = torch.tensor(
        [REWARDS[p.chosen_tokens[-1]] - REWARDS[p.rejected_tokens[-1]] for p in pairs(True)]
    )
    robust = reached(tmp_path / "robust", loss="robust", label_smoothing=noise)
    plain = reached(tmp_path / "plain")
    torch.testing.assert_close(robust, expected, atol=0.1, rtol=0.0)
    assert float(plain.abs().sum()) < 0.8 * float(expected.abs().sum())


def test_ipo_reaches_its_margin_on_one_pair(tmp_path: Path) -> None:
    """A hard label moves IPO's margin to 1/(2β), and DPO's beyond any bound."""
    beta = 0.5
    config = dpo_config(
        dpo={"loss": "ipo", "beta": beta}, batch_size=1, epochs=60, lr=2e-2, lr_schedule="cosine"
    )
    stage = dpo_stage(tmp_path, config, pairs(False)[:1])
    for number in range(60):
        stage.step(number)
    margins = stage.learner.scores(stage.models.policy, stage.examples) - stage.reference[:1]
    assert float(margins[0, 0] - margins[0, 1]) == pytest.approx(1 / (2 * beta), abs=0.05)


@pytest.mark.sample(1)
@pytest.mark.parametrize("loss", ["hinge", "simpo", "orpo", "kto"])
def test_every_loss_finds_the_order_of_the_rewards(tmp_path: Path, loss: str) -> None:
    """Losses without a closed optimum for several pairs: gains of probability follow the rewards."""
    found = logratios(tmp_path, 25, False, loss=loss)
    assert found.argsort(descending=True).tolist() == [0, 1, 2, 3]


@pytest.mark.nightly
def test_online_dpo_finds_the_best_token(tmp_path: Path) -> None:
    """The reward of a response is that of its first token: its probability of the better half rises."""

    def rule(rollout: Rollout) -> float:
        return float(rollout.response_tokens[0] < 128)

    section = {"updates": 30, "prompts_per_update": 4, "samples_per_prompt": 6, "max_gen_len": 1}
    stage = online_stage(tmp_path, dpo_config("online_dpo", lr=2e-2, online_dpo=section), rule)
    rewards = [stage.step(number)["reward/mean"] for number in range(30)]
    assert sum(rewards[-5:]) / 5 > 0.9 > 0.75 > sum(rewards[:2]) / 2
