"""Where a model's settings are: its folder, the hub, or what an earlier stage will start from. Never its weights."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import snapshot_download
from transformers import AutoConfig, PretrainedConfig

from harken.config import files as config_files
from harken.errors import UserError
from harken.models.load_errors import load_errors
from harken.models.resolve import ModelSource, resolve
from harken.plan.builtin_configs import known_config
from harken.run import checksums

HUB_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]
"""What the hub is asked for: settings and tokenizer."""


@dataclass(frozen=True)
class ModelInfo:
    """A model's settings."""

    name: str
    config: PretrainedConfig
    folder: Path | None = None
    """None where only the architecture is known."""
    source: ModelSource | None = None
    """With its tokenizer, that of an adapter before its base's; None where only the architecture is known."""
    merges_adapters: bool = False
    """Whether adapters on the way are merged while it is loaded, in float32."""
    note: str = ""
    """What stands in for what; "" when nothing does."""


def find_model(name: str) -> ModelInfo:
    """The settings of whatever `model_name` accepts, or of what will be there once an earlier stage has run.

    Raises UserError when nothing says what architecture it is.
    """
    path = Path(name).expanduser()
    if (path / "config.json").is_file() and not (path / "adapter_config.json").exists():
        return _read_config(name, path)
    if name == "embedded" or path.exists():
        source = resolve(name)
        chain = source.chain()
        return replace(_read_config(name, chain[0].folder), source=source, merges_adapters=len(chain) > 1)
    if preset := preset_of_path(name):
        start = find_model(config_files.load_run(preset, []).model_name)
        note = f"{name} is not there yet: counted as {start.name}, which preset {preset} starts from"
        return replace(start, name=name, note=f"{note}; {start.note}" if start.note else note)
    if "/" in name and not path.is_absolute() and (folder := _from_hub(name)):
        return _read_config(name, folder)
    if (config := known_config(name)) is not None:
        return ModelInfo(
            name, config, note=f"{name}: the architecture is known, its tokenizer is out of reach"
        )
    raise UserError(
        "neither a model nor its config.json is here, and the hub does not give it",
        where=name,
        fix="name a folder with a config.json, `embedded`, or a model that can be reached",
    )


def _read_config(name: str, folder: Path) -> ModelInfo:
    checksums.verify_folder(folder, weights=False)
    with load_errors(
        "its config.json cannot be read",
        str(folder),
        "only architectures that transformers knows are planned",
    ):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return ModelInfo(name, config, folder, ModelSource("full", name, folder))


def preset_of_path(path: str) -> str | None:
    """The preset whose default folder this path is in; None when it is in none."""
    runs = {preset.name for preset in config_files.list_presets() if preset.kind == "run"}
    return next((part for part in Path(path).parts if part in runs), None)


def _from_hub(name: str) -> Path | None:
    try:
        folder = Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception:  # noqa: BLE001  whatever keeps the hub from giving it: `find` says so
        return None
    return folder if (folder / "config.json").exists() else None
