"""Find a model's config.json in a folder, on the hub, or by the stage that will train it. Reads no weights."""

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
"""Files to download from the hub: settings and tokenizer."""


@dataclass(frozen=True)
class ModelInfo:
    """A model's settings."""

    name: str
    config: PretrainedConfig
    folder: Path | None = None
    """None if only the architecture is known."""
    source: ModelSource | None = None
    """Source of the tokenizer (an adapter's own, else its base's); None if only the architecture is known."""
    merges_adapters: bool = False
    """Whether loading merges adapters in float32."""
    note: str = ""
    """Note on the model that replaces one that does not exist yet; "" if none does."""


def find_model(name: str) -> ModelInfo:
    """Find the settings of anything that `model_name` accepts, or of the model that an earlier stage will train.

    Raises UserError if the architecture cannot be determined.
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
        note = f"{name} does not exist yet: planned as {start.name}, the base of preset {preset}"
        return replace(start, name=name, note=f"{note}; {start.note}" if start.note else note)
    if "/" in name and not path.is_absolute() and (folder := _from_hub(name)):
        return _read_config(name, folder)
    if (config := known_config(name)) is not None:
        return ModelInfo(
            name, config, note=f"{name}: the architecture is known, but its tokenizer cannot be downloaded"
        )
    raise UserError(
        "no model or config.json in this place, and the hub does not have it or cannot be reached",
        where=name,
        fix="name a folder with a config.json, `embedded`, or a model on the hub",
    )


def _read_config(name: str, folder: Path) -> ModelInfo:
    checksums.verify_folder(folder, weights=False)
    with load_errors(
        "its config.json cannot be read",
        str(folder),
        "use an architecture that transformers supports",
    ):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    return ModelInfo(name, config, folder, ModelSource("full", name, folder))


def preset_of_path(path: str) -> str | None:
    """Return the preset whose default output folder contains this path; None if there is none."""
    runs = {preset.name for preset in config_files.list_presets() if preset.kind == "run"}
    return next((part for part in Path(path).parts if part in runs), None)


def _from_hub(name: str) -> Path | None:
    try:
        folder = Path(snapshot_download(name, allow_patterns=HUB_FILES))
    except Exception:  # noqa: BLE001  any download error: `find_model` reports it
        return None
    return folder if (folder / "config.json").exists() else None
