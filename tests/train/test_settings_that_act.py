"""Settings whose effect shows in the composed stage alone: each is set to a value that its step must show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ppo_stage import build_stage, ppo_config


@pytest.mark.parametrize(("critic_lr", "expected"), [(0.03, 0.03), (None, 1e-3)])
def test_critic_lr_is_the_step_of_the_value_head(
    tmp_path: Path, critic_lr: float | None, expected: float
) -> None:
    """The first step of Adam moves each weight by the learning rate, whatever the size of its gradient."""
    one = {"epochs": 1, "minibatches": 1, "updates": 4}
    stage = build_stage(tmp_path, ppo_config(critic_lr=critic_lr, max_grad_norm=1e6, adam_eps=1e-12, ppo=one))
    head = stage.policy.value_head
    assert head is not None
    before = head.weight.detach().clone()
    adapter = {name: p.detach().clone() for name, p in stage.policy.parameters().items() if "lora_B" in name}
    stage.step(0)
    assert float((head.weight.detach() - before).abs().max()) == pytest.approx(expected, rel=1e-3)
    moved = [
        (p.detach() - adapter[n]).abs().max() for n, p in stage.policy.parameters().items() if n in adapter
    ]
    assert float(torch.stack(moved).max()) == pytest.approx(1e-3, rel=1e-3)
