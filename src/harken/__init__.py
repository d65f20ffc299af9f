"""Harken: RLHF you can see into. Supervised fine-tuning, reward model, token-level PPO, evaluation, report.

`harken.load_policy`, `harken.PPO` and the other names of `harken.api` are attributes of this module; they are imported
when they are first used (docs/api.md).
"""

import importlib
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "DPO",
    "PPO",
    "SFT",
    "DPOConfig",
    "LoadedPolicy",
    "LoadedRewardModel",
    "Message",
    "OnlineDPO",
    "OnlineDPOConfig",
    "PPOConfig",
    "Prompt",
    "RewardConfig",
    "RewardModelTraining",
    "Rollout",
    "SFTConfig",
    "UserError",
    "compare",
    "evaluate",
    "load_policy",
    "load_reward_model",
]


def __getattr__(name: str) -> Any:
    """Import a name of `harken.api` on first use: importing `harken` alone reads no torch."""
    if name in __all__:
        return getattr(importlib.import_module("harken.api"), name)
    raise AttributeError(f"module 'harken' has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the names of `harken.api` with the module's own."""
    return sorted({*globals(), *__all__})
