"""A critic that starts from the reward model says, of a finished response, what the reward model says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ppo_stage import ppo_config
from tiny import PAD, save_tiny, tiny_backbone

from harken.batches import collate
from harken.config import LoraSettings
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.resolve import ModelSource, resolve
from harken.models.roles import RewardModel, ScalarHead, fingerprint_tensors, lineage_fingerprint
from harken.train.ppo.critic import build_critic

CPU = torch.device("cpu")
NAMED: dict[str, Any] = {"reward_model": {"checkpoint_path": "a reward model"}}


def setting(tmp_path: Path, seed: int = 0) -> tuple[ModelSource, Backbone, RewardModel, ModelSource]:
    """A policy's source and backbone, and a reward model with an offset and a scale, trained on it (seed 0)."""
    source = resolve(save_tiny(tmp_path / "base"))
    on = resolve(save_tiny(tmp_path / f"on{seed}", seed=seed))
    backbone = Backbone.load(on, torch.float32, CPU)
    backbone.add_adapter("reward", LoraSettings(rank=4), 1)
    with torch.no_grad():
        for name, p in backbone.adapter_parameters("reward").items():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))) * 0.1)
    made = RewardModel(backbone, "reward", ScalarHead(backbone.hidden_size, 1.0), offset=0.7, scale=2.5)
    made.save(tmp_path / "rm" / "final", on.folder, lineage_fingerprint(on), {})
    trained = resolve(str(tmp_path / "rm" / "final"))
    shared = Backbone.load(source, torch.float32, CPU)
    return source, shared, RewardModel.load(trained, torch.float32, CPU, share=shared), trained


@pytest.mark.parametrize(("critic", "seed"), [("adapter", 0), ("model", 0), ("model", 3)])
def test_its_first_values_are_the_reward_models_scores(tmp_path: Path, critic: str, seed: int) -> None:
    """Property 34: V of a whole row equals the standardised score, on the shared base or a base of its own."""
    source, shared, rewards, trained = setting(tmp_path, seed)
    config = ppo_config(ppo={"critic": critic, "critic_init": "reward_model"}, **NAMED)
    shared.add_adapter("policy", LoraSettings(rank=4), 5)
    got = build_critic(config, source, shared, rewards, trained, torch.float32, CPU)
    rows = [[5, 9, 40, 41, 2], [6, 7, 2]]
    batch = collate(rows, [[False, False, True, True, True], [False, True, True]], PAD)
    _, final = got.values(batch)
    wanted = [rewards.standardize(raw) for raw in rewards.raw_scores(rows, 100)]
    assert final.tolist() == pytest.approx(wanted, abs=1e-5)
    assert all(p.requires_grad for p in got.parameters().values())
    assert not any(p.requires_grad for p in rewards.backbone.adapter_parameters("reward").values())


def test_training_it_leaves_the_reward_model_as_it_is(tmp_path: Path) -> None:
    """Property 37: a copy learns; the adapter it came from does not move."""
    source, shared, rewards, trained = setting(tmp_path)
    config = ppo_config(ppo={"critic": "adapter", "critic_init": "reward_model"}, **NAMED)
    critic = build_critic(config, source, shared, rewards, trained, torch.float32, CPU)
    before = fingerprint_tensors(rewards.backbone.adapter_parameters("reward").values())
    batch = collate([[5, 9, 40, 2]], [[False, True, True, True]], PAD)
    with critic.backbone.role(critic.adapter):
        critic.values(batch)[0].sum().backward()
    parameters = [*critic.parameters().values(), *critic.head.parameters()]
    assert all(p.grad is not None for p in parameters)
    torch.optim.SGD(parameters, lr=0.1).step()
    assert fingerprint_tensors(rewards.backbone.adapter_parameters("reward").values()) == before


@pytest.mark.parametrize(
    ("keys", "seed", "message"),
    [
        ({"critic": "adapter", "critic_init": "reward_model"}, 3, "different bases"),
        ({"critic": "adapter", "lora": None}, 0, "trained as a LoRA adapter"),
    ],
)
def test_invalid_critics_are_refused(tmp_path: Path, keys: dict[str, Any], seed: int, message: str) -> None:
    source, shared, rewards, trained = setting(tmp_path, seed)
    lora = {"lora": keys.pop("lora")} if "lora" in keys else {}
    config = ppo_config(ppo=keys, **lora, **NAMED)
    with pytest.raises(UserError, match=message):
        build_critic(config, source, shared, rewards, trained, torch.float32, CPU)


def test_a_new_critic_gives_zero(tmp_path: Path) -> None:
    source, shared, rewards, _ = setting(tmp_path)
    config = ppo_config(ppo={"critic": "adapter"})
    critic = build_critic(config, source, shared, rewards, None, torch.float32, CPU)
    values, final = critic.values(collate([[5, 9, 2]], [[False, True, True]], PAD))
    assert not values.any()
    assert not final.any()
    assert critic.backbone is shared
    assert tiny_backbone().hidden_size == len(critic.head.weight)
