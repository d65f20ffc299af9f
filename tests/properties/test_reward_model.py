"""Properties 11–14 of a right PPO: the reward model (docs/correctness.md)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import END, PAD, tiny_backbone, tiny_model, tiny_tokenizer
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaForSequenceClassification

from harken.batches import TokenBatch, collate
from harken.config import RunConfig
from harken.config.training import RewardTraining
from harken.data.chat import Renderer
from harken.models.backbone import Backbone
from harken.models.resolve import resolve
from harken.models.roles import RewardModel, ScalarHead
from harken.records import Rollout, TokenPair
from harken.reward.learned import LearnedReward
from harken.train.optim.optimiser import lr_multiplier
from harken.train.reward_model import RewardStage

PAIRS = [
    TokenPair("a", (9, 8, 7, 30, 31, 32, END), (9, 8, 7, 40, END)),
    TokenPair("b", (5, 6, 50, END), (5, 6, 60, 61, 62, 63, 64, END)),
]


def reward_config(**keys: object) -> RunConfig:
    return RunConfig.model_validate(
        {
            "dtype": "float32",
            "data": {"path": "rows"},
            "lora": {"rank": 4},
            "training": {"type": "reward", "batch_size": 2, **keys},
        }
    )


def reward_stage(backbone: Backbone, seed: int = 839, **keys: object) -> RewardStage:
    config = reward_config(**keys).model_copy(update={"seed": seed})
    return RewardStage(config, backbone, Path("base"), PAIRS, [])


def kept_states(backbone: Backbone) -> list[Tensor]:
    """What the trunk says from now on, with its gradients."""
    outputs: list[Tensor] = []
    hidden = backbone.hidden

    def keeping(batch: TokenBatch) -> Tensor:
        outputs.append(hidden(batch))
        outputs[-1].retain_grad()
        return outputs[-1]

    backbone.hidden = keeping  # type: ignore[method-assign]
    return outputs


def test_property_11_bradley_terry_at_the_last_token_only() -> None:
    """−log σ(r_c − r_r − margin); its gradient reaches the trunk's output at one place of each row."""
    for margin in (0.0, 0.8):
        keys = {"strength": "margin", "margin_scale": margin} if margin else {}
        stage = reward_stage(tiny_backbone(), centre_coef=0.0, **keys)
        outputs = kept_states(stage.backbone)
        with stage.backbone.role("reward"):
            better, worse = stage._scores(PAIRS)
            losses = stage.loss(better, worse, PAIRS)
            losses.sum().backward()
        rows = [pair.chosen_tokens for pair in PAIRS] + [pair.rejected_tokens for pair in PAIRS]
        (states,) = outputs
        assert states.grad is not None
        touched = states.grad.abs().sum(-1) > 0
        assert touched.nonzero().tolist() == [[i, len(row) - 1] for i, row in enumerate(rows)]
        for i in range(len(PAIRS)):
            ends = [states[i + half][len(rows[i + half]) - 1].double() for half in (0, len(PAIRS))]
            good, bad = (float((end @ stage.model.head.weight.double()).detach()) for end in ends)
            wanted = math.log1p(math.exp(-(good - bad - margin)))
            assert float(losses[i].detach()) == pytest.approx(wanted, rel=1e-5)


def test_property_12_the_reward_head_starts_small_and_trains_one_pass() -> None:
    """Weights N(0, 1/√(d+1)), bias 0; one epoch, a rate that ends at 0; no dropout, that of the base included."""
    weights = []
    for number in range(40):
        stage = reward_stage(tiny_backbone(), number)
        weights.append(stage.model.head.weight.detach())
        assert float(stage.model.head.bias.detach()) == 0.0
    drawn = torch.cat(weights).numpy()
    wanted = 1 / math.sqrt(32 + 1)
    n = len(drawn)
    assert abs(drawn.mean()) < 4 * wanted / math.sqrt(n)
    assert drawn.std() == pytest.approx(wanted, rel=4 / math.sqrt(2 * n))

    training = reward_config().training
    assert isinstance(training, RewardTraining)
    assert training.epochs == 1
    rates = [lr_multiplier(step, 10, training) for step in range(11)]
    assert rates == pytest.approx([1 - step / 10 for step in range(11)])

    assert reward_config().lora.dropout == 0.0  # type: ignore[union-attr]
    torch.manual_seed(0)
    noisy = GPT2Config(
        vocab_size=len(tiny_tokenizer()), n_embd=32, n_layer=2, n_head=4, n_positions=64,
        resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5, initializer_range=0.2, bos_token_id=1, eos_token_id=END,
    )  # fmt: skip
    backbone = Backbone(GPT2LMHeadModel(noisy), tiny_tokenizer())
    stage = reward_stage(backbone, centre_coef=0.0)
    scores = stage.model.raw_scores(
        [t for pair in PAIRS for t in (pair.chosen_tokens, pair.rejected_tokens)], 100
    )
    losses = [math.log1p(math.exp(-(scores[i] - scores[i + 1]))) for i in (0, 2)]
    assert stage.step(0)["loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_property_13_a_score_is_read_at_the_last_token() -> None:
    """Whatever pads stand behind it, whoever shares the batch. Oracle: transformers' classifier, one row, no pads."""
    torch.manual_seed(1)
    backbone = tiny_backbone()
    config = tiny_model().config
    config.num_labels = 1
    peer = LlamaForSequenceClassification(config).eval()
    peer.model.load_state_dict(backbone.model.model.state_dict())
    head = ScalarHead(32, 0.0)
    with torch.no_grad():
        head.weight.copy_(peer.score.weight[0])
    model = RewardModel(backbone, None, head)
    rows = [
        [9, 8, 7, END],
        [9, 8, 7, END, 11, 12, END],
        [END],
        [5, 5, 5, 5, 5, 5, 5, 5, 5, 5],
        [9, PAD, 7, END],
    ]
    with torch.no_grad():
        wanted = [
            float(peer.score(peer.model(torch.tensor([row])).last_hidden_state)[0, -1, 0]) for row in rows
        ]
    assert model.raw_scores(rows, 1000) == pytest.approx(wanted, abs=1e-5)
    for row, score in zip(rows, wanted, strict=True):
        for filler in (PAD, END, 77):
            batch = collate(
                [row, [3] * (len(row) + 6)], [[False] * len(row), [False] * (len(row) + 6)], filler
            )
            with torch.no_grad():
                assert float(model.rewards(batch)[0]) == pytest.approx(score, abs=1e-5)


def test_property_14_scores_are_in_saved_standard_units(trained_reward: Any) -> None:
    """g(r) = (r − μ)/σ of the calibration responses is saved with the model and applied wherever it scores.

    Read from disk by another object: mean 0 and deviation 1 on those responses. `centre` keeps the spread.
    """
    model = RewardModel.load(resolve(str(trained_reward.run)), torch.float32, "cpu")
    rows = [t for pair in trained_reward.pairs for t in (pair.chosen_tokens, pair.rejected_tokens)]
    rollouts = [
        Rollout(None, i, row[:-1], row[-1:], (-1.0,), "", "end_of_turn", "v")  # type: ignore[arg-type]
        for i, row in enumerate(rows)
    ]
    scores = np.array([s.value for s in LearnedReward(model, Renderer(tiny_tokenizer())).score(rollouts)])
    assert scores.mean() == pytest.approx(0.0, abs=1e-4)
    assert scores.std() == pytest.approx(1.0, rel=1e-4)
    raw = np.array(model.raw_scores(rows, 1000))
    assert raw.std() != pytest.approx(1.0, abs=0.05)
    assert abs(raw.mean()) > 1e-3
    card = json.loads((trained_reward.run / "final" / "reward.json").read_text())
    assert (raw - card["offset"]) * card["scale"] == pytest.approx(scores, abs=1e-6)
