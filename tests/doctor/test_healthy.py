"""What is healthy is called healthy, in every mode."""

from __future__ import annotations

from typing import Any

import pytest
from healthy_pipeline import HealthyPipeline, first_cause

MODES: dict[str, dict[str, Any]] = {
    "rloo": {"advantage": "rloo", "samples_per_prompt": 4},
    "critic on an adapter, bootstrap": {"critic": "adapter", "truncated": "bootstrap"},
    "critic from the reward model": {"critic": "model", "critic_init": "reward_model"},
    "full KL in the loss, mask": {"kl_estimator": "full", "kl_in": "loss", "truncated": "mask"},
    "k2 in the loss, reward minus V": {
        "kl_estimator": "k2",
        "kl_in": "loss",
        "advantage": "reward_minus_value",
    },
    "full KL in both, adaptive": {"kl_estimator": "full", "kl_in": "both", "kl_control": "adaptive"},
}


@pytest.mark.parametrize("kind", ["sft", "reward", "ppo"])
def test_a_healthy_stage_is_called_healthy(healthy: HealthyPipeline, kind: str) -> None:
    """Not so much as a note: whatever the sabotage tests find is theirs."""
    assert first_cause(healthy.config(kind), "note") == ("", "ok")


@pytest.mark.sample(2)
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_can_be_examined(healthy: HealthyPipeline, mode: str) -> None:
    config = healthy.config("ppo")
    config["training"]["ppo"] |= MODES[mode]
    assert first_cause(config, "warning") == ("", "ok")


def test_every_weight_may_train(healthy: HealthyPipeline) -> None:
    """Without LoRA there is no frozen base: reference and reward model are models of their own."""
    assert first_cause(healthy.config("ppo", lr=1e-6) | {"lora": None}, "warning") == ("", "ok")
    assert first_cause(healthy.config("sft", lr=1e-5) | {"lora": None}, "warning") == ("", "ok")


def test_rewards_of_several_parts(healthy: HealthyPipeline) -> None:
    """Two reward models as an ensemble beside the main one, and supervised rows mixed in."""
    path = str(healthy.root / "reward")
    parts = [
        {"type": "ensemble", "checkpoint_paths": [path, f"{path}/final"], "weight": 0.5},
        {"type": "python", "path": f"{healthy.root / 'short.py'}:short"},
    ]
    (healthy.root / "short.py").write_text("def short(prompt, response):\n    return -0.01 * len(response)\n")
    config = healthy.config("ppo", rewards=parts)
    config["training"]["ppo"]["ptx"] = {"data": {"path": str(healthy.root / "sft.jsonl"), "max_length": 96}}
    assert first_cause(config, "note") == ("", "ok")
