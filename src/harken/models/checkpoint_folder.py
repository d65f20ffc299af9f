"""Turn a checkpoint of a finished run into a model folder, so that any step of a run can be evaluated."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from harken.errors import UserError
from harken.models.model_cache import build_once, cache_root
from harken.run import checkpoint
from harken.run.checkpoint import PARAMETER_PREFIX
from harken.run.checksums import CHECKSUMS, file_sha256
from harken.run.config_lock import read_locked_config
from harken.run.folder import RunFolder
from harken.run.json_io import read_object

_ADAPTER_NAME = re.compile(r"\.(lora_\w+)\.(?:policy|reward)\b")
_PEFT = "base_model.model."
_HEAD, _HEAD_FILE = "head.", "reward_head.safetensors"
WEIGHTS = ("adapter_model.safetensors", "model.safetensors")
FORMAT_VERSION = 1
"""Raise it when the files that are written here change, so that cached folders are written again."""


def checkpoint_model_folder(path: Path, base: Path | None) -> Path:
    """Return a folder in the model cache with the weights of a checkpoint and the settings of its run's `final`.

    `base` is the folder of the final adapter's base; None for a run that trains a whole model. A reward model keeps the
    offset and scale of the final one, which do not change the order of rewards. Raises UserError for a damaged
    checkpoint, and where the run's `final` holds other tensors than its checkpoints (an SFT adapter is merged).
    """
    if problem := checkpoint.checkpoint_problem(path):
        raise UserError(
            f"this checkpoint is damaged ({problem})", where=str(path), fix="name another checkpoint"
        )
    final = RunFolder(path.parent.parent).final
    name = next((name for name in WEIGHTS if (final / name).is_file()), None)

    copied = [file for file in final.iterdir() if file.is_file() and file.name not in (name, CHECKSUMS)]

    def build(folder: Path) -> None:
        assert name is not None
        for file in copied:
            shutil.copyfile(file, folder / file.name)
        save_file(_weights(path, final / name), folder / name, metadata={"format": "pt"})
        if (final / _HEAD_FILE).is_file():
            save_file(_head(path), folder / _HEAD_FILE)
        if base is not None:
            card = read_object(folder / "adapter_config.json") | {"base_model_name_or_path": str(base)}
            (folder / "adapter_config.json").write_text(json.dumps(card, indent=2))

    if name is None:
        raise UserError(
            "the weights of its run are in several files",
            where=str(path),
            fix="evaluate the run's final model",
        )
    return build_once(_cached(path, copied, base), f"reading {path}", build)


def _cached(path: Path, copied: Sequence[Path], base: Path | None, *settings: object) -> Path:
    """Return the folder in the model cache for a checkpoint, by the contents of all that it is built from."""
    digest = read_object(path / checkpoint.MANIFEST)["files"][checkpoint.TENSORS][1]
    contents = [(file.name, file_sha256(file)) for file in sorted(copied)]
    key = hashlib.sha256(repr((FORMAT_VERSION, digest, str(base), contents, settings)).encode()).hexdigest()
    return cache_root() / "checkpoints" / f"{path.name}-{key[:24]}"


def has_adapter(path: Path) -> bool:
    """Return whether a checkpoint holds an adapter."""
    with safe_open(path / checkpoint.TENSORS, framework="pt") as state:
        return any("lora_" in key for key in tuple(state.keys()) if key.startswith(PARAMETER_PREFIX))


def checkpoint_adapter_folder(path: Path, base: Path) -> Path:
    """Return a folder in the model cache with a checkpoint's adapter, of a run whose `final` is merged, as SFT's is.

    `base` is the folder of the model that the run started from. Raises UserError for a damaged checkpoint, and for
    adapters on experts, whose settings follow from the loaded model only.
    """
    if problem := checkpoint.checkpoint_problem(path):
        raise UserError(
            f"this checkpoint is damaged ({problem})", where=str(path), fix="name another checkpoint"
        )
    run = RunFolder(path.parent.parent)
    lora = read_locked_config(run.config).get("lora")
    if not isinstance(lora, dict) or lora.get("experts"):
        raise UserError(
            "the adapter of its run cannot be told from a checkpoint alone",
            where=str(path),
            fix="evaluate the run's final model",
        )

    copied = [
        file
        for file in run.final.iterdir()
        if file.is_file() and file.name not in (CHECKSUMS, "config.json") and file.suffix != ".safetensors"
    ]

    def build(folder: Path) -> None:
        for file in copied:
            shutil.copyfile(file, folder / file.name)
        tensors = _adapter(path)
        save_file(tensors, folder / WEIGHTS[0], metadata={"format": "pt"})
        modules = {name.removeprefix(_PEFT).split(".lora_")[0] for name in tensors}
        card = {
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": str(base),
            "r": lora["rank"], "lora_alpha": lora["alpha"], "lora_dropout": 0.0, "bias": "none",
            "target_modules": sorted(modules), "inference_mode": True,
        }  # fmt: skip
        (folder / "adapter_config.json").write_text(json.dumps(card, indent=2))

    return build_once(_cached(path, copied, base, lora), f"reading {path}", build)


def _adapter(path: Path) -> dict[str, Tensor]:
    """Return the adapter's tensors of a checkpoint, under peft's names."""
    with safe_open(path / checkpoint.TENSORS, framework="pt") as state:
        keys = [key for key in tuple(state.keys()) if key.startswith(PARAMETER_PREFIX) and "lora_" in key]
        return {_peft_name(key.removeprefix(PARAMETER_PREFIX)): state.get_tensor(key) for key in keys}


def _peft_name(name: str) -> str:
    return _PEFT + _ADAPTER_NAME.sub(r".\1", name)


def _weights(path: Path, final: Path) -> dict[str, Tensor]:
    """Return the checkpoint's tensors under the names and in the dtype of `final`'s."""
    saved: dict[str, Tensor] = {}
    with (
        safe_open(path / checkpoint.TENSORS, framework="pt") as state,
        safe_open(final, framework="pt") as last,
    ):
        for key in tuple(state.keys()):
            name = key.removeprefix(PARAMETER_PREFIX)
            if name == key or name.startswith(("critic", "value_head", "critic_head", _HEAD)):
                continue
            if "lora_" in name:
                name = _peft_name(name)
            saved[name] = state.get_tensor(key)
        names = set(last.keys())
        if not saved.keys() <= names or (final.name == WEIGHTS[0] and saved.keys() != names):
            raise UserError(
                "its run wrote a model with other tensors than its checkpoints have",
                where=str(path),
                fix="evaluate the run's final model; the adapter of an SFT run is merged when it ends",
            )
        tensors = {name: last.get_tensor(name) for name in names}
    return tensors | {name: tensor.to(tensors[name].dtype) for name, tensor in saved.items()}


def _head(path: Path) -> dict[str, Tensor]:
    """Return the reward head of a checkpoint."""
    with safe_open(path / checkpoint.TENSORS, framework="pt") as state:
        prefix = PARAMETER_PREFIX + _HEAD
        names = [name for name in tuple(state.keys()) if name.startswith(prefix)]
        return {name.removeprefix(prefix): state.get_tensor(name) for name in names}
