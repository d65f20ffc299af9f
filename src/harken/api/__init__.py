"""The Python interface: load models, train, evaluate. Everything here is also an attribute of `harken`.

Configurations are those of the YAML files (docs/api.md).
"""

from harken.api.configs import PPOConfig, RewardConfig, SFTConfig
from harken.api.evaluation import compare, evaluate
from harken.api.loaded import LoadedPolicy, LoadedRewardModel, load_policy, load_reward_model
from harken.api.ppo import PPO
from harken.api.trainers import DPO, SFT, OnlineDPO, RewardModelTraining
from harken.config.preference_training import DPOSettings as DPOConfig
from harken.config.preference_training import OnlineDPOSettings as OnlineDPOConfig
from harken.errors import UserError
from harken.records import Message, Prompt, Rollout

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
