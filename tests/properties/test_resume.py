"""Property 38 of a right PPO: resuming (docs/correctness.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ppo_stage import ppo_config
from torch import Tensor

from harken.run import checkpoint
from harken.train.ppo.stage import PPOStage

MakeStage = Callable[..., PPOStage]
MODES = {
    "adaptive control": {"kl_control": "adaptive", "kl_horizon": 20.0},
    "own critic, moving reference": {
        "critic": "adapter",
        "critic_warmup_updates": 2,
        "reference_update_every": 2,
    },
    "budget and limit": {"kl_budget": 50.0, "update_kl_limit": 40.0, "kl_estimator": "k3"},
    "every weight": {"kl_control": "linear", "kl_coef_final": 0.0},
}


def test_property_38_a_resumed_run_is_the_run_that_never_stopped(
    make_stage: MakeStage, tmp_path: Path
) -> None:
    """Six updates ≡ two, a checkpoint on disk, other objects, two, another, two: every weight, moment and metric.

    Bit for bit on the CPU in float32, in four modes that keep different state. What random draws happen in
    between (the global generator is stirred) plays no part.
    """
    for name, keys in MODES.items():
        lora = None if name == "every weight" else {"rank": 4}
        settings = {"updates": 6, "prompts_per_update": 4, "max_gen_len": 5, "epochs": 1} | keys
        config = ppo_config(lora=lora, lr_schedule="linear", lr=3e-3, ppo=settings)
        straight = make_stage(config, folder=f"{name} straight")
        whole = [straight.step(number) for number in range(6)]

        pieces: list[dict[str, float]] = []
        folder = tmp_path / f"{name} checkpoints"
        for start in (0, 2, 4):
            torch.manual_seed(start + 77)
            torch.rand(5)
            stage = make_stage(config, folder=f"{name} {start}")
            kept = checkpoint.latest(folder)
            if kept is not None:
                assert kept.step == start
                stage.load(kept.tensors, kept.state)
            pieces += [stage.step(number) for number in (start, start + 1)]
            assert checkpoint.save(folder, start + 2, stage.tensors(), stage.state(), keep=1)
        for once, again in zip(whole, pieces, strict=True):
            assert {k: v for k, v in once.items() if not k.startswith("time/")} == {
                k: v for k, v in again.items() if not k.startswith("time/")
            }
        one, two = straight.tensors(), stage.tensors()
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
        assert straight.state() == stage.state()
        assert moments(one)
        assert whole[-1]["kl/mean"] != pytest.approx(0.0, abs=1e-6)


def moments(tensors: dict[str, Tensor]) -> list[str]:
    return [name for name in tensors if name.startswith("adam/exp_avg_sq/")]
