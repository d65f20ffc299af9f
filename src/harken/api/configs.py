"""Build run configurations from the arguments of a Python program: config objects, keys, rewards."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from harken.api.loaded import LoadedRewardModel
from harken.config import RunConfig, Strict
from harken.config.files import validate_settings
from harken.config.ppo import PPOSettings, PPOTraining
from harken.config.preference_training import DPOTraining, OnlineDPOTraining
from harken.config.rewards import (
    ClassifierPart,
    EnsemblePart,
    HonestyBonusPart,
    ModelPart,
    PythonPart,
    RulePart,
    SycophancyPenaltyPart,
)
from harken.config.training import ClassifierTraining, Optimisation, RewardTraining, SupervisedTraining
from harken.errors import UserError

PPOConfig = PPOSettings
"""The section `training.ppo`."""
Part = (
    PythonPart
    | ModelPart
    | EnsemblePart
    | ClassifierPart
    | RulePart
    | SycophancyPenaltyPart
    | HonestyBonusPart
)
Reward = LoadedRewardModel | str | Callable[..., float | None] | Part | Mapping[str, Any]
"""A reward model, the path of one, `my_reward.py:score`, a function, or an entry of `training.rewards`."""

TRAINING: dict[str, type[Optimisation]] = {
    "sft": SupervisedTraining,
    "reward": RewardTraining,
    "classifier": ClassifierTraining,
    "ppo": PPOTraining,
    "dpo": DPOTraining,
    "online_dpo": OnlineDPOTraining,
}


class SFTConfig(SupervisedTraining):
    """The section `training` of supervised fine-tuning."""

    type: Literal["sft"] = "sft"


class RewardConfig(RewardTraining):
    """The section `training` of a reward model's training."""

    type: Literal["reward"] = "reward"


@dataclass(frozen=True)
class RewardParts:
    """The reward of a run as configuration, and the functions that its paths stand for."""

    settings: dict[str, Any] = field(default_factory=dict)
    """`reward_model` and `rewards`, as under `training`."""
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)


def reward_settings(reward: Reward | Sequence[Reward] | None) -> RewardParts:
    """Return the configuration of a reward: `training.reward_model` is the first reward model, the rest are parts.

    Raises UserError for an object that is not a reward.
    """
    reward_parts = RewardParts()
    rewards = [] if reward is None else reward if isinstance(reward, list | tuple) else [reward]
    entries: list[dict[str, Any]] = []
    for entry in rewards:
        if isinstance(entry, LoadedRewardModel) or (isinstance(entry, str) and ".py:" not in entry):
            path = entry.name if isinstance(entry, LoadedRewardModel) else entry
            if "reward_model" not in reward_parts.settings:
                reward_parts.settings["reward_model"] = {"checkpoint_path": path}
            else:
                entries.append(
                    {"type": "model", "checkpoint_path": path, "name": f"model_{len(entries) + 1}"}
                )
        elif isinstance(entry, str):
            entries.append({"type": "python", "path": entry})
        elif isinstance(entry, Part):
            entries.append(entry.model_dump(mode="json", exclude_unset=True) | {"type": entry.type})
        elif isinstance(entry, Mapping):
            entries.append(dict(entry))
        elif callable(entry):
            name = getattr(entry, "__name__", "")
            name = name if name.isidentifier() else f"reward_{len(entries) + 1}"
            path = f"provided_{len(entries) + 1}.py:{name}"
            entries.append({"type": "python", "path": path, "name": name})
            reward_parts.functions[path] = entry
        else:
            raise UserError(
                f"{type(entry).__name__} is not a reward",
                where="reward",
                fix="give a reward model, a function of prompt and response, or an entry of training.rewards",
            )
    if entries:
        reward_parts.settings["rewards"] = entries
    return reward_parts


def run_config(
    kind: str,
    model_name: str,
    config: Strict | None,
    settings: Mapping[str, Any],
    data: Mapping[str, Any],
    training: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Build and validate the configuration of a run.

    `config` is the section `training` or, for PPO and DPO, the section of that name in it. `settings` are further keys
    of the run or of `training`, without their section. Raises UserError for an unknown key and for a value that is not
    allowed.
    """
    run: dict[str, Any] = {"model_name": model_name, "data": dict(data)}
    section: dict[str, Any] = {"type": kind, **(training or {})}
    if config is not None:
        values = config.model_dump(mode="json", exclude_unset=True)
        section |= {kind: values} if kind in TRAINING[kind].model_fields else values
    for key, value in settings.items():
        if key in TRAINING[kind].model_fields and key != "type":
            section[key] = _plain(value)
        elif key in RunConfig.model_fields and key not in ("training", "model_name", "data", "output_dir"):
            run[key] = _plain(value)
        else:
            known_keys = sorted({*TRAINING[kind].model_fields, *RunConfig.model_fields})
            matches = difflib.get_close_matches(key, known_keys, 1)
            fix = f"write {matches[0]}" if matches else "use a key of the configuration (docs/api.md)"
            raise UserError("unknown setting", where=key, fix=fix)
    return validate_settings(RunConfig, run | {"training": section}, "the arguments")


def check_config(model: type[Strict], config: object, where: str) -> None:
    """Raise UserError if `config` is not None and not an object of `model`."""
    if config is not None and not isinstance(config, model):
        raise UserError(
            f"config is a {type(config).__name__}", where=where, fix=f"give a harken.{where}Config(...)"
        )


def _plain(value: Any) -> Any:
    """Return a config object as the mapping of a YAML file."""
    return value.model_dump(mode="json", exclude_unset=True) if isinstance(value, BaseModel) else value
