"""A critic of its own: an adapter on the policy's base or a model apart, new or from the reward model."""

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
    """The critic that `critic` (adapter or model) and `critic_init` (zero or reward_model) describe.

    From the reward model, its first value of a state is the standardised score that the reward model would
    give there. Raises UserError when base or tokenizer do not allow what is asked for.
    """
    training = config.training
    assert isinstance(training, PPOTraining)
    settings, lora = training.ppo, config.lora
    if lora is None:
        raise _cannot(
            "a critic of its own is trained as an adapter", "give `lora` its keys, or use critic: shared"
        )
    if settings.critic_init == "zero":
        backbone = (
            shared if settings.critic == "adapter" and shared else Backbone.load(source, weight_dtype, device)
        )
        backbone.add_adapter(ADAPTER, lora, config.seed)
        return Critic(backbone, ADAPTER, ScalarHead(backbone.hidden_size, 0.0).to(device))
    if reward_source is None or reward_model is None:
        raise _cannot("there is no trained reward model to start from", "set critic_init: zero")
    rewards = reward_model
    if settings.critic == "model":
        rewards = RewardModel.load(reward_source, weight_dtype, device)
    elif rewards.backbone is not shared:
        raise _cannot("the reward model has another base than the policy", "set critic: model")
    if shared and not same_tokenizer(rewards.tokenizer, shared.tokenizer):
        raise _cannot("the reward model reads other tokens than the policy writes", "set critic_init: zero")
    assert rewards.adapter is not None
    rewards.backbone.copy_adapter(rewards.adapter, ADAPTER, trainable=True)
    head = ScalarHead(rewards.backbone.hidden_size, 0.0).to(device)
    with torch.no_grad():
        head.weight.copy_(rewards.head.weight * rewards.scale)
        head.bias.copy_((rewards.head.bias - rewards.offset) * rewards.scale)
    return Critic(rewards.backbone, ADAPTER, head)


def _cannot(why: str, fix: str) -> UserError:
    return UserError(why, where="training.ppo.critic", fix=fix)
