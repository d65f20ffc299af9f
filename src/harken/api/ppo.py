"""Run PPO in a Python program: the whole run, or a custom loop of generate and step."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from harken.api.configs import Reward, check_config, reward_settings
from harken.api.rows import PromptLike, as_prompts
from harken.api.trainers import Model, Trainer, copy_model
from harken.config.ppo import PPOSettings
from harken.data.chat import Renderer
from harken.errors import UserError
from harken.models.check_logits import check_vocabulary
from harken.models.device import choose_device
from harken.models.quantised import WEIGHT_DTYPES
from harken.models.resolve import resolve
from harken.records import Rollout, Score, ScoredRollout
from harken.reward.provided_function import provide_functions
from harken.reward.rules import penalties
from harken.reward.source import score_all
from harken.rollout.choose_decoder import require_decodable
from harken.run.folder import RunFolder
from harken.seeds import derive_seed
from harken.train.ppo.models import build_ppo_models
from harken.train.ppo.stage import PPOStage
from harken.train.sampler import split_repeats

GIVEN_REWARD = "given"
"""Name of the reward that a program gives to `PPO.step`."""


class PPO(Trainer):
    """Train a policy by PPO against a reward.

    `reward` is a reward model, the path of one, `my_reward.py:score`, a function of (prompt, response, **details), an
    entry of `training.rewards`, or a list of these, which are summed by weight. None: `step` gets the rewards. `config`
    is the section `training.ppo`; `settings` are keys of the run and of `training`: lr=1e-5, seed=1, lora={"rank": 8},
    dtype, data.
    """

    kind = "ppo"

    def __init__(
        self,
        policy: Model,
        reward: Reward | Sequence[Reward] | None = None,
        config: PPOSettings | None = None,
        *,
        folder: str | Path | None = None,
        **settings: Any,
    ) -> None:
        check_config(PPOSettings, config, "PPO")
        self._rewardless = reward is None
        # `step` gets the rewards. The configuration needs one, so use a cheap rule; `train` refuses it.
        parts = reward_settings({"type": "rule", "name": "intact"} if reward is None else reward)
        self.updates = 0
        """Updates that `step` has run."""
        super().__init__(policy, config, folder, settings, parts.settings, parts.functions)

    def train(self, rows: Any, *, held_out: Any = None, accept_changes: bool = False) -> Path:
        """Run all updates on `rows`, which are prompts, as `Trainer.train` does."""
        if self._rewardless:
            raise UserError("PPO has no reward", where="reward", fix="give PPO(policy, reward=...) one")
        if self.updates:
            raise UserError(
                f"{self.updates} updates were run by step()",
                where="train",
                fix="make another PPO object for train()",
            )
        return super().train(rows, held_out=held_out, accept_changes=accept_changes)

    # -- custom loop ---------------------------------------------------------------------------------

    def generate(self, prompts: Sequence[PromptLike]) -> list[Rollout]:
        """Sample `samples_per_prompt` responses to each prompt from the current policy, for the next `step`.

        A rollout has its prompt, text, tokens and their log-probabilities. Those of a prompt are adjacent.
        """
        by_id = {prompt.id: prompt for prompt in as_prompts(prompts)}
        draws = split_repeats([prompt.id for prompt in as_prompts(prompts)])
        return self._stage.generate(self.updates, [[by_id[name] for name in draw] for draw in draws])

    def step(
        self, rollouts: Sequence[Rollout], rewards: Sequence[float] | NDArray[Any] | None = None
    ) -> dict[str, float]:
        """Run one update on rollouts of `generate` and return its metrics (docs/metrics.md).

        `rewards` are finite numbers, one per rollout. They replace `reward`; the penalties of the configuration are
        subtracted as usual. Without them `reward` scores. The same rollouts and rewards change the weights as
        `train` does, bit for bit. Raises UserError for rewards that do not fit, and NonFinite, with nothing changed, if
        the update meets a NaN or infinity.
        """
        stage = self._stage
        size = self._settings_of_ppo.samples_per_prompt
        if not rollouts or len(rollouts) % size:
            raise UserError(
                f"{len(rollouts)} rollouts are not whole groups of samples_per_prompt {size}",
                where="rollouts",
                fix="give all rollouts of generate(), in order",
            )
        if self.updates >= stage.total:
            raise UserError(
                f"all {stage.total} updates are run",
                where="step",
                fix="raise PPOConfig(updates=...)",
            )
        scored = self._score(rollouts, rewards)
        torch.manual_seed(derive_seed(stage.seed, stage.label, "step", self.updates))
        metrics = stage.step(self.updates, scored)
        self.updates += 1
        return metrics

    def save(self, folder: str | Path) -> Path:
        """Write the policy of `step`, else of `train`, with its value head to a new folder, and return the folder.

        Raises UserError if nothing is trained yet or the folder has files.
        """
        if not self.updates:
            return super().save(folder)
        with tempfile.TemporaryDirectory(prefix="harken-") as temporary:
            self._stage.save(Path(temporary))
            return copy_model(Path(temporary), Path(folder), self.folder if self._temporary else None)

    def _score(
        self, rollouts: Sequence[Rollout], rewards: Sequence[float] | NDArray[Any] | None
    ) -> list[ScoredRollout]:
        if rewards is None:
            if self._rewardless:
                raise UserError(
                    "PPO has no reward", where="rewards", fix="give step(rollouts, rewards) the rewards"
                )
            return score_all(self._stage.reward_sources, rollouts)
        values = np.asarray(rewards, dtype=np.float64)
        if values.shape != (len(rollouts),) or not np.isfinite(values).all():
            raise UserError(
                f"rewards of shape {list(values.shape)} for {len(rollouts)} rollouts, or not finite",
                where="rewards",
                fix="give one finite number for each rollout",
            )
        extra = score_all(penalties(self._settings_of_ppo), rollouts)
        return [
            ScoredRollout(rollout, (Score(GIVEN_REWARD, float(value), 1.0), *penalised.scores))
            for rollout, value, penalised in zip(rollouts, values, extra, strict=True)
        ]

    @property
    def _settings_of_ppo(self) -> PPOSettings:
        return self._stage.settings

    @cached_property
    def _stage(self) -> PPOStage:
        """The models and the state of PPO, as in a run."""
        config, run = self.config_of({"path": "prompts given in Python"}), RunFolder(self.folder)
        if run.config.exists():
            raise UserError(
                "there is a run in this folder",
                where=str(self.folder),
                fix="choose another folder for a loop of steps",
            )
        source = resolve(self.model_name)
        with provide_functions(self._functions):
            models = build_ppo_models(
                config, source, run, WEIGHT_DTYPES[config.dtype], choose_device(config.device)
            )
        backbone = models.policy.backbone
        check_vocabulary(backbone.tokenizer, backbone.output_weight, str(source.folder))
        require_decodable(backbone)
        renderer = Renderer(backbone.tokenizer, config.data.keep_special_tokens)
        return models.stage(renderer, [], [], run)
