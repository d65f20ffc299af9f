"""Build a separate critic: an adapter on the policy's base or its own model, new or from the reward model."""

from __future__ import annotations

import torch

from harken.config import RunConfig
from harken.config.ppo import PPOTraining
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.quantised import WeightDtype
from harken.models.resolve import ModelSource
from harken.models.roles import Critic, RewardModel, ScalarHead
from harken.models.tokenizer import same_tokenizer

ADAPTER = "critic"


def build_critic(
    config: RunConfig,
    source: ModelSource,
    shared: Backbone | None,
    reward_model: RewardModel | None,
    reward_source: ModelSource | None,
    weight_dtype: WeightDtype,
    device: torch.device,
) -> Critic:
    """Build the critic that `critic` (adapter or model) and `critic_init` (zero or reward_model) describe.

    Initialised from the reward model, its initial value of a prefix is the reward model's standardised score of that
    prefix. Raises UserError if the base or the tokenizer does not allow that.
    """
    training = config.training
    assert isinstance(training, PPOTraining)
    settings, lora = training.ppo, config.lora
    if lora is None:
        raise _critic_error(
            "a separate critic is trained as a LoRA adapter", "set lora, or use critic: shared"
        )
    if settings.critic_init == "zero":
        backbone = (
            shared if settings.critic == "adapter" and shared else Backbone.load(source, weight_dtype, device)
        )
        backbone.add_adapter(ADAPTER, lora, config.seed)
        return Critic(backbone, ADAPTER, ScalarHead(backbone.hidden_size, 0.0).to(device))
    if reward_source is None or reward_model is None:
        raise _critic_error("there is no trained reward model to initialise it from", "set critic_init: zero")
    initial = reward_model
    if settings.critic == "model":
        initial = RewardModel.load(reward_source, weight_dtype, device)
    elif initial.backbone is not shared:
        raise _critic_error("the reward model and the policy have different bases", "set critic: model")
    if initial.adapter is None or not isinstance(initial.backbone, Backbone):
        raise _critic_error(
            "the reward model is an encoder, or all its weights were trained: it has no adapter for values of prefixes",
            "set critic_init: zero",
        )
    if shared and not same_tokenizer(initial.tokenizer, shared.tokenizer):
        raise _critic_error(
            "the reward model and the policy have different tokenizers", "set critic_init: zero"
        )
    initial.backbone.copy_adapter(initial.adapter, ADAPTER, trainable=True)
    head = ScalarHead(initial.backbone.hidden_size, 0.0).to(device)
    with torch.no_grad():
        head.weight.copy_(initial.head.weight * initial.scale)
        head.bias.copy_((initial.head.bias - initial.offset) * initial.scale)
    return Critic(initial.backbone, ADAPTER, head)


def _critic_error(problem: str, fix: str) -> UserError:
    return UserError(problem, where="training.ppo.critic", fix=fix)
