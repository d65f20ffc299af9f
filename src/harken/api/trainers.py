"""Train in a Python program as `harken train` does, in a run folder or in a temporary one."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.api.configs import Reward, RewardConfig, SFTConfig, check_config, reward_settings, run_config
from harken.api.loaded import LoadedPolicy
from harken.api.rows import RowsLike, data_settings
from harken.config import RunConfig, Strict
from harken.config.preference_training import DPOSettings, OnlineDPOSettings
from harken.errors import UserError
from harken.models.resolve import require_use, resolve
from harken.reward.provided_function import provide_functions
from harken.run import atomic, checksums, json_io
from harken.run.folder import RunFolder
from harken.train.launch import train

Model = LoadedPolicy | str | Path
"""A loaded policy, or anything `model_name` accepts."""


class Trainer:
    """The configuration and the folder of a run. Without a folder the run is in a temporary one.

    A temporary folder is deleted with the trainer: call `save` to keep the model. With a folder the run is as by
    `harken train`: a second call resumes it, and a finished run is not changed.
    """

    kind: str

    def __init__(
        self,
        model: Model,
        config: Strict | None,
        folder: str | Path | None,
        settings: Mapping[str, Any],
        training: Mapping[str, Any] | None = None,
        functions: Mapping[str, Callable[..., Any]] | None = None,
    ) -> None:
        self.model_name = model.name if isinstance(model, LoadedPolicy) else str(model)
        require_use(resolve(self.model_name), "policy")
        self._settings, self._config, self._training = dict(settings), config, dict(training or {})
        self._data = dict(_mapping(self._settings.pop("data", None)))
        self._functions = dict(functions or {})
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="harken-")
            folder = Path(self._temporary.name) / "run"
        self.folder = Path(folder)
        self.config_of(
            {"path": "rows given in Python"}
        )  # report mistakes in the settings before reading rows

    def config_of(self, data: Mapping[str, Any]) -> RunConfig:
        """Return the whole configuration for a section `data`. Raises UserError for settings that are not allowed."""
        return run_config(
            self.kind, self.model_name, self._config, self._settings, self._data | dict(data), self._training
        )

    def train(
        self, rows: RowsLike, *, held_out: RowsLike | None = None, accept_changes: bool = False
    ) -> Path:
        """Train on `rows` and return the folder of the trained model, which `load_policy` accepts.

        `rows` is a path or data set as in `data.path`, a DataConfig, or a list or `datasets.Dataset` of rows. Raises
        UserError where `harken train` does, for example if the run in the folder began with other settings or
        rows; `accept_changes` accepts them.
        """
        config = self.config_of(data_settings(rows, held_out, RunFolder(self.folder).rows))
        with provide_functions(self._functions):
            run = train(config, self.folder, accept_changes=accept_changes)
        return run.final

    def save(self, folder: str | Path) -> Path:
        """Copy the trained model to a new folder and return it.

        Raises UserError if nothing is trained yet or the folder exists.
        """
        final = RunFolder(self.folder).final
        if not final.is_dir():
            raise UserError("nothing is trained yet", where=str(self.folder), fix="call train() first")
        return copy_model(final, Path(folder), self.folder if self._temporary else None)


class SFT(Trainer):
    """Supervised fine-tuning: train a policy on demonstrations.

    `settings` are keys of the run and of `training`, such as lr=2e-4, max_steps=100, seed=1, lora={"rank": 8}, dtype,
    data={"max_length": 512}.
    """

    kind = "sft"

    def __init__(
        self,
        model: Model,
        config: SFTConfig | None = None,
        *,
        folder: str | Path | None = None,
        **settings: Any,
    ) -> None:
        check_config(SFTConfig, config, "SFT")
        super().__init__(model, config, folder, settings)


class RewardModelTraining(Trainer):
    """Train a reward model on preferences. `settings` as for SFT; `load_reward_model` opens the result."""

    kind = "reward"

    def __init__(
        self,
        model: Model,
        config: RewardConfig | None = None,
        *,
        folder: str | Path | None = None,
        **settings: Any,
    ) -> None:
        check_config(RewardConfig, config, "Reward")
        super().__init__(model, config, folder, settings)


class DPO(Trainer):
    """Train a policy on preferences directly. `config` is the section `training.dpo`; `settings` as for SFT."""

    kind = "dpo"

    def __init__(
        self,
        policy: Model,
        config: DPOSettings | None = None,
        *,
        folder: str | Path | None = None,
        **settings: Any,
    ) -> None:
        check_config(DPOSettings, config, "DPO")
        super().__init__(policy, config, folder, settings)


class OnlineDPO(Trainer):
    """Train a policy on preferences between its own responses, by their reward.

    `config` is the section `training.online_dpo`; `reward` as for PPO; `settings` as for SFT.
    """

    kind = "online_dpo"

    def __init__(
        self,
        policy: Model,
        reward: Reward | Sequence[Reward],
        config: OnlineDPOSettings | None = None,
        *,
        folder: str | Path | None = None,
        **settings: Any,
    ) -> None:
        check_config(OnlineDPOSettings, config, "OnlineDPO")
        parts = reward_settings(reward)
        super().__init__(policy, config, folder, settings, parts.settings, parts.functions)


def copy_model(final: Path, folder: Path, temporary: Path | None) -> Path:
    """Copy a trained model to `folder`, including the base of an adapter in the folder `temporary`.

    Raises UserError if `folder` has files.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError("this folder has files", where=str(folder), fix="choose another folder")
    atomic.make_folder(folder.absolute().parent)
    unfinished = folder.with_name(f".{folder.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(final, unfinished)
    checksums.remove_checksums(unfinished)
    _keep_base(unfinished, folder, temporary)
    checksums.write_checksums(unfinished)
    atomic.publish_folder(unfinished, folder)
    return folder


def _keep_base(unfinished: Path, folder: Path, temporary: Path | None) -> None:
    """Move the base of an adapter from a temporary folder into the model's folder."""
    path = unfinished / "adapter_config.json"
    if temporary is None or not path.exists():
        return
    settings = json_io.read_object(path)
    base = Path(settings["base_model_name_or_path"])
    if base.is_relative_to(temporary.resolve()):
        shutil.copytree(base, unfinished / "base")
        settings["base_model_name_or_path"] = str(folder.absolute() / "base")
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _mapping(data: Any) -> Mapping[str, Any]:
    if data is None or isinstance(data, Mapping):
        return data or {}
    raise UserError(
        f"data is a {type(data).__name__}", where="data", fix="give its keys: data={'max_length': 512}"
    )
