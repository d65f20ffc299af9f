"""Broken models, reward models and code: the doctor names the cause, before what suffers from it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from healthy_pipeline import HealthyPipeline, first_cause
from safetensors.torch import load_file, save_file
from tiny import END, tiny_backbone, tiny_model, tiny_tokenizer
from torch import Tensor

from harken.batches import TokenBatch
from harken.doctor.finding import CheckLevel
from harken.models import roles
from harken.models.backbone import Backbone
from harken.models.roles import Policy, RewardModel
from harken.rollout import in_process
from harken.rollout.sampler import sample_tokens
from harken.train.ppo import models, targets
from harken.train.ppo.evaluator import Evaluator
from harken.train.ppo.learner import Learner
from harken.train.ppo.minibatch import Minibatch
from harken.train.ppo.stage import PPOStage

Spoilt = dict[str, Any]
Spoil = Callable[[HealthyPipeline, Path, pytest.MonkeyPatch], Spoilt]
CASES: list[tuple[Spoil, str, CheckLevel]] = []


def names(finding: str, level: CheckLevel) -> Callable[[Spoil], Spoil]:
    """What the function spoils has to be called this."""

    def keep(corrupt: Spoil) -> Spoil:
        CASES.append((corrupt, finding, level))
        return corrupt

    return keep


# -- models ---------------------------------------------------------------------------------------


@names("vocabulary", "error")
def a_tokenizer_with_more_tokens_than_embeddings(
    healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch
) -> Spoilt:
    model = tiny_model()
    model.resize_token_embeddings(200)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return healthy.config("sft") | {"model_name": str(folder)}


@names("left_padding", "error")
def a_model_deaf_to_mask_and_positions(
    healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch
) -> Spoilt:
    """P3: what is padded on the left is read."""
    forward = Backbone.forward

    def deaf(self: Backbone, kernel: str | None = None, **inputs: Any) -> Tensor:
        if inputs.get("past_key_values") is None:
            inputs.pop("attention_mask", None)
            inputs.pop("position_ids", None)
        return forward(self, kernel, **inputs)

    patch.setattr(Backbone, "forward", deaf)
    return healthy.config("ppo")


@names("repeatable", "error")
def dropout_that_stays_on(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    """P33."""
    hidden = Backbone.hidden
    patch.setattr(Backbone, "hidden", lambda self, batch: torch.dropout(hidden(self, batch), 0.1, True))
    return healthy.config("ppo")


@names("padding_ignored", "error")
def a_model_that_reads_ahead(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    """P24: an encoder's attention in a decoder's place."""
    hidden = Backbone.hidden

    def ahead(self: Backbone, batch: TokenBatch) -> Tensor:
        states = hidden(self, batch)
        return states + states.mean(1, keepdim=True)

    patch.setattr(Backbone, "hidden", ahead)
    return healthy.config("sft")


UNSEALED = shutil.ignore_patterns("SHA256SUMS")
"""These tests damage a model's outputs, not its files: damaged files would be detected."""


# -- reward models --------------------------------------------------------------------------------


def with_head(healthy: HealthyPipeline, folder: Path, change: Callable[[Tensor], Tensor]) -> Spoilt:
    """PPO against the healthy reward model with another head."""
    shutil.copytree(healthy.root / "reward", folder / "reward", ignore=UNSEALED)
    path = folder / "reward" / "final" / "reward_head.safetensors"
    save_file({name: change(tensor) for name, tensor in load_file(path).items()}, path)
    return healthy.config("ppo", reward_model={"checkpoint_path": str(folder / "reward")})


def scoring(
    healthy: HealthyPipeline, patch: pytest.MonkeyPatch, score: Callable[[TokenBatch], Tensor]
) -> Spoilt:
    """PPO against a reward model that computes this."""
    patch.setattr(RewardModel, "rewards", lambda self, batch: score(batch))
    return healthy.config("ppo")


@names("reward_spread", "error")
def a_reward_head_of_nan(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    return with_head(healthy, folder, lambda tensor: tensor * torch.nan)


@names("reward_spread", "error")
def a_reward_head_of_zeros(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    """S4-30: every response scores alike."""
    return with_head(healthy, folder, torch.zeros_like)


@names("reward_accuracy", "error")
def a_reward_head_turned_round(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    """S1-49: worse than a coin."""
    return with_head(healthy, folder, torch.neg)


@names("reward_length", "warning")
def a_reward_that_counts_tokens(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    """S2-48."""
    return scoring(healthy, patch, lambda batch: batch.attention_mask.sum(-1).float())


@names("reward_of_nothing", "warning")
def a_reward_that_likes_silence(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    """S0-40: the empty response, with its end token right after the header's newline, scores best."""
    rewards = RewardModel.rewards
    newline = tiny_tokenizer()("\n", add_special_tokens=False)["input_ids"][0]

    def silence(self: RewardModel, batch: TokenBatch) -> Tensor:
        last = batch.attention_mask.sum(-1) - 1
        before = batch.tokens[torch.arange(len(last)), last - 1]
        return rewards(self, batch) + 50.0 * (before == newline)

    patch.setattr(RewardModel, "rewards", silence)
    return healthy.config("ppo")


@names("reward_units", "warning")
def a_reward_in_thousands(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    """P14: scored in other units than kl_coef and penalties are meant for."""
    return with_head(healthy, folder, lambda tensor: 1000 * tensor)


@names("reward_parts", "warning")
def a_python_reward_that_is_always_one(
    healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch
) -> Spoilt:
    """S4-30: nothing to learn, once no response is truncated."""
    (folder / "my_reward.py").write_text("def score(prompt, response):\n    return 1.0\n")
    part = {"type": "python", "path": f"{folder / 'my_reward.py'}:score"}
    config = healthy.config("ppo", reward_model=None, rewards=[part])
    config["training"]["ppo"]["missing_eos_penalty"] = 0.0
    return config


@names("reward_parts", "error")
def a_python_reward_that_fails(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    (folder / "my_reward.py").write_text("def score(prompt, response):\n    return 1 / 0\n")
    part = {"type": "python", "path": f"{folder / 'my_reward.py'}:score"}
    return healthy.config("ppo", reward_model=None, rewards=[part])


# -- code -----------------------------------------------------------------------------------------


@names("sampling_is_fair", "error")
def an_engine_that_is_greedy(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    """P9: its log-probabilities are right, and its tokens are not drawn."""
    patch.setattr(
        in_process,
        "sample_tokens",
        lambda logits, uniforms, temperature: sample_tokens(logits / 2, uniforms, 0.0),
    )
    config = healthy.config("ppo")
    config["training"]["ppo"]["temperature"] = 2.0
    return config


@names("sampler_is_scorer", "error")
def an_engine_that_takes_the_top_three(
    healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch
) -> Spoilt:
    """P5: top-k renormalises what is scored whole."""

    def top(logits: Tensor, uniforms: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        least = logits.topk(3, -1).values[:, -1:]
        return sample_tokens(logits.masked_fill(logits < least, -torch.inf), uniforms, temperature)

    patch.setattr(in_process, "sample_tokens", top)
    config = healthy.config("ppo")
    config["training"]["ppo"]["temperature"] = 1.5
    return config


@names("sampler_is_scorer", "error")
def an_engine_without_temperature(
    healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch
) -> Spoilt:
    """P6."""
    patch.setattr(
        in_process,
        "sample_tokens",
        lambda logits, uniforms, temperature: sample_tokens(logits, uniforms, 1.0),
    )
    config = healthy.config("ppo")
    config["training"]["ppo"]["temperature"] = 1.5
    return config


@names("sampler_is_scorer", "error")
def a_scorer_off_by_one(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    """P25: the output at a token is taken to describe that token."""
    patch.setattr(roles, "shift_right", lambda at_position: at_position)
    return healthy.config("ppo")


@names("loss_ignores_padding", "error")
def whitening_that_multiplies_by_the_mask(
    healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch
) -> Spoilt:
    """P24: NaN × 0 is NaN."""

    def multiplied(values: Tensor, mask: Tensor) -> Tensor:
        count = mask.sum()
        mean = (values * mask).sum() / count
        return (values - mean) / ((values - mean).square() * mask).sum().div(count).sqrt()

    patch.setattr(targets, "whiten", multiplied)
    # A value of the critic at a padded place is what an unmasked mean would meet.
    patch.setattr(targets, "gae", lambda rewards, values, response_mask, *_: rewards + 0.1 * values)
    return healthy.config("ppo")


@names("advantages_centred", "error")
def whitening_that_keeps_the_mean(
    healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch
) -> Spoilt:
    """P26."""
    whiten = targets.whiten

    def kept(values: Tensor, mask: Tensor) -> Tensor:
        return whiten(values, mask) + values[mask].mean()

    patch.setattr(targets, "whiten", kept)
    config = healthy.config("ppo")
    config["training"]["ppo"]["lam"] = 1.0
    return config


@names("split_invariance", "error")
def a_loss_averaged_by_micro_batch(
    healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch
) -> Spoilt:
    """P31: each micro-batch divided by its own count."""
    backward = Learner._backward

    def own(self: Learner, micro_batch: Minibatch, *rest: Any) -> None:
        backward(self, micro_batch.select(range(len(micro_batch.rows))), *rest)

    patch.setattr(Learner, "_backward", own)
    return healthy.config("ppo")


@names("adapter_learns", "error")
def an_adapter_without_gradient(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    """S0-13: the value head learns, every metric is alive, and the policy stays what it was."""
    hidden = Backbone.hidden
    patch.setattr(Backbone, "hidden", lambda self, batch: hidden(self, batch).detach())
    return healthy.config("ppo")


@names("frozen_weights", "error")
def a_base_that_moves(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    """P37: one weight of the base, by a little."""
    step = PPOStage.step

    def moving(self: PPOStage, number: int) -> dict[str, float]:
        metrics = step(self, number)
        with torch.no_grad():
            next(iter(self.policy.backbone.model.parameters()))[0, 0] += 1e-3
        return metrics

    patch.setattr(PPOStage, "step", moving)
    return healthy.config("ppo")


@names("first_ratio", "error")
def old_logprobs_of_the_reference(
    healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch
) -> Spoilt:
    """P28: the ratio is taken to another model than the one that sampled."""
    evaluate = Evaluator.old_logprobs_and_values

    def other(self: Evaluator, *args: Any, **keys: Any) -> Any:
        outputs = evaluate(self, *args, **keys)
        outputs.logprobs.mul_(1.5)
        return outputs

    patch.setattr(Evaluator, "old_logprobs_and_values", other)
    return healthy.config("ppo")


@names("kl_at_start", "error")
def a_reference_that_is_another_model(
    healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch
) -> Spoilt:
    """S0-27."""
    patch.setattr(models, "load_reference", lambda *_: Policy(tiny_backbone(seed=5), None))
    return healthy.config("ppo")


@names("responses_end", "warning")
def a_policy_that_never_ends(healthy: HealthyPipeline, folder: Path, patch: pytest.MonkeyPatch) -> Spoilt:
    """P22: the unembedding of its end-of-turn token is turned round, so it writes on until it is truncated."""
    shutil.copytree(healthy.root / "sft", folder / "sft", ignore=UNSEALED)
    path = folder / "sft" / "final" / "model.safetensors"
    weights = load_file(path)
    weights["model.embed_tokens.weight"][END] *= -1
    save_file(weights, path, {"format": "pt"})
    return healthy.config("ppo") | {"model_name": str(folder / "sft")}


@pytest.mark.sample(8)
@pytest.mark.parametrize(("corrupt", "finding", "level"), CASES, ids=[case[0].__name__ for case in CASES])
def test_the_cause_is_named(
    healthy: HealthyPipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    corrupt: Spoil,
    finding: str,
    level: CheckLevel,
) -> None:
    """The first finding as bad as this one has the right name."""
    assert first_cause(corrupt(healthy, tmp_path, monkeypatch), level) == (finding, level)
