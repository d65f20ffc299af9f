"""Steering: the layer's output moves by the vector in every decoder, and what is sampled is what is scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ppo_stage import build_stage, ppo_config
from tiny import tiny_backbone, with_adapters
from tiny_rewards import answer
from transformers import GPT2Config, GPT2LMHeadModel

from harken.data.chat import Renderer
from harken.errors import UserError
from harken.models.steering import Direction, Steering, layer_outputs, steered
from harken.records import Message, Prompt
from harken.rollout.engine import Sampling
from harken.rollout.in_process import InProcessEngine
from harken.run.folder import RunFolder
from harken.sycophancy.log_odds import target_logprobs
from harken.sycophancy.model_detectors import ProjectionDetector, fit_direction, response_activations
from harken.train.ppo.stage import PPOStage

PROMPT = Prompt("p", (Message("user", "Hello there"),))


def direction(layer: int = 0, features: int = 32, size: float = 1.0) -> Direction:
    draw = torch.randn(features, generator=torch.Generator().manual_seed(3))
    return Direction(layer, size * draw, 1.0, 0.0, {})


def test_the_layer_moves_by_strength_times_the_difference() -> None:
    """S4-52: at every position, at the stated layer; earlier layers do not change, and the hook is removed."""
    backbone, own = tiny_backbone(), direction(1)
    rows = [[5, 6, 7, 8], [9, 10]]
    before = [layer_outputs(backbone, rows, layer) for layer in (0, 1)]
    with steered(backbone, Steering(own, -0.5)):
        during = [layer_outputs(backbone, rows, layer) for layer in (0, 1)]
    after = layer_outputs(backbone, rows, 1)
    for i in range(len(rows)):
        assert torch.equal(before[0][i], during[0][i]) and torch.equal(before[1][i], after[i])
        moved = during[1][i] - before[1][i]
        assert torch.allclose(moved, (-0.5 * own.difference).expand_as(moved), atol=1e-5)


@pytest.mark.parametrize("role", [None, "policy"])
def test_recorded_log_probabilities_are_those_of_the_steered_model(role: str | None) -> None:
    """S4-52: what is sampled is what is scored, in the fast decode step too; rollouts name the steering."""
    backbone = with_adapters(tiny_backbone()) if role else tiny_backbone()
    renderer = Renderer(backbone.tokenizer)
    engine = InProcessEngine(backbone, renderer, role, 64)
    plain = engine.generate([PROMPT], Sampling(12, seed=1), "v", "test")[0]
    engine.steering = Steering(direction(size=2.0), 1.0)
    (rollout,) = engine.generate([PROMPT], Sampling(12, seed=1), "v", "test")
    assert rollout.response_tokens != plain.response_tokens
    assert rollout.policy_version == "v, steered +1 at layer 0" and plain.policy_version == "v"
    tokens = torch.tensor([[*rollout.prompt_tokens, *rollout.response_tokens]])
    start, end = len(rollout.prompt_tokens), tokens.shape[1]

    def logprobs() -> list[float]:
        with torch.no_grad(), backbone.role(role):
            states = backbone.forward(None, input_ids=tokens, use_cache=False)[0]
            found = backbone.logits(states).float().log_softmax(-1)
        return [float(found[i - 1, tokens[0, i]]) for i in range(start, end)]

    with steered(backbone, engine.steering):
        assert rollout.sampler_logprobs == pytest.approx(logprobs(), abs=1e-4)
    assert rollout.sampler_logprobs != pytest.approx(logprobs(), abs=1e-2)
    engine.steering = None
    assert engine.generate([PROMPT], Sampling(12, seed=1), "v", "test")[0] == plain


def test_training_refuses_a_steered_engine(tmp_path: Path) -> None:
    """S4-52: the trainer evaluates the model without the hook, so its ratios would be wrong."""
    stage = build_stage(tmp_path, ppo_config())
    engine = stage.engine
    engine.steering = Steering(direction(), 1.0)  # type: ignore[attr-defined]
    run = RunFolder(tmp_path / "run")
    with pytest.raises(UserError, match="steered") as error:
        PPOStage(
            ppo_config(), stage.policy, stage.policy, engine, stage.reward_sources, stage.prompts, [], run, tmp_path
        )  # fmt: skip
    assert "train without steering" in str(error.value)


def test_the_direction_is_the_difference_of_means_and_separates_its_rows(tmp_path: Path) -> None:
    """S4-52: against means by hand; a saved direction is read back, an edited one refused."""
    backbone = tiny_backbone()
    renderer = Renderer(backbone.tokenizer)
    rows = [answer(text, f"q{i}") for i in range(4) for text in ("yes yes yes", "no no no")]
    faulty = [row.text.startswith("yes") for row in rows]
    own = fit_direction(backbone, None, renderer, rows, faulty, 1, {"model": "tiny"})
    means = {True: [], False: []}
    for row, label in zip(rows, faulty, strict=True):
        tokens = [*row.prompt_tokens, *row.response_tokens]
        (states,) = layer_outputs(backbone, [tokens], 1)
        means[label].append(states[len(row.prompt_tokens) :].mean(0))
    by_hand = torch.stack(means[True]).mean(0) - torch.stack(means[False]).mean(0)
    assert torch.allclose(own.difference, by_hand, atol=1e-5)
    states = response_activations(backbone, None, renderer, rows, 1)
    along = (states @ own.unit).numpy()
    assert along[np.array(faulty)].min() > along[~np.array(faulty)].max()
    own.save(tmp_path)
    again = Direction.load(tmp_path)
    assert torch.equal(again.difference, own.difference) and again.layer == 1 and again.slope == own.slope
    verdicts = ProjectionDetector(backbone, None, renderer, again).score(rows)
    assert [v.faulty > 0.5 for v in verdicts] == faulty
    (tmp_path / "direction.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="not the file"):
        Direction.load(tmp_path)
    with pytest.raises(UserError, match="no direction in this folder"):
        Direction.load(tmp_path / "nothing")


def test_a_direction_of_another_model_and_a_foreign_family_are_refused() -> None:
    backbone = tiny_backbone()
    for wrong in (direction(layer=7), direction(features=16)):
        with (
            pytest.raises(UserError, match="the direction is for layer"),
            steered(backbone, Steering(wrong, 1.0)),
        ):
            pass
    from harken.models.backbone import Backbone

    vocabulary = len(backbone.tokenizer)
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2, n_positions=64))
    other = Backbone(gpt2.eval(), backbone.tokenizer)
    with pytest.raises(UserError, match="no layers"), steered(other, Steering(direction(), 1.0)):
        pass


def test_log_odds_under_steering_are_those_of_the_steered_model() -> None:
    backbone = tiny_backbone()
    rows = [(PROMPT.messages, "abc")]
    renderer = Renderer(backbone.tokenizer)
    plain = target_logprobs(backbone, None, renderer, rows, 64)
    with steered(backbone, Steering(direction(), 1.0)):
        moved = target_logprobs(backbone, None, renderer, rows, 64)
    assert moved != pytest.approx(plain, abs=1e-3)


def test_a_direction_of_no_length_is_refused() -> None:
    """Equal texts with both labels have no difference of means, and no response beyond the positions is measured."""
    backbone = tiny_backbone()
    renderer = Renderer(backbone.tokenizer)
    with pytest.raises(UserError, match="are the same") as error:
        fit_direction(backbone, None, renderer, [answer("Same.")] * 2, [True, False], 0, {})
    assert "name a file" in str(error.value)
    with pytest.raises(UserError, match="512 positions"):
        response_activations(backbone, None, renderer, [answer("x" * 600)], 0)
