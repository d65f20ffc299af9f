"""Export a policy for other tools: merged safetensors, a peft adapter, or a GGUF file, with a model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Literal

import torch

from harken.errors import UserError
from harken.export.gguf_file import require_llama, write_gguf
from harken.export.model_card import model_card
from harken.models.backbone import Backbone
from harken.models.find_tokenizer import tokenizer_of
from harken.models.resolve import ModelSource, require_use, resolve
from harken.run import atomic, checksums
from harken.run.json_io import read_object
from harken.run.tracking import say

Format = Literal["safetensors", "adapter", "gguf"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
    "generation_config.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json",
)  # fmt: skip
"""Files beside an adapter that `AutoTokenizer` and `generate` read."""


def export(name: str, out: Path, form: Format, dtype: str = "bfloat16") -> Path:
    """Write the policy `name` into the new folder `out`, with README.md and checksums, and return the folder.

    `dtype` is that of merged weights: adapters are added in float32 and rounded once. The folder appears when it is
    complete. Raises UserError when the model cannot generate or cannot be written in this form, and when `out` has
    files already.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("exists already", where=str(out), fix="choose another --out, or delete it")
    source = require_use(resolve(name), "policy")
    source.check()
    say(source.describe())
    unfinished = out.with_name(f".{out.name}-unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    if form == "adapter":
        dtype = _write_adapter(source, unfinished)
    else:
        _write_merged(source, unfinished, form, DTYPES[dtype])
    atomic.write_text(unfinished / "README.md", model_card(source, form, dtype))
    checksums.write_checksums(unfinished)
    atomic.publish_folder(unfinished, out)
    size = sum(path.stat().st_size for path in out.iterdir())
    say(f"{out}: {form}, {size / 1e6:.1f} MB; README.md says what is known of it, and what is not")
    return out


def _write_merged(source: ModelSource, folder: Path, form: Format, dtype: torch.dtype) -> None:
    """Merge the chain of adapters into the base and write it."""
    backbone = Backbone.load(source, dtype, "cpu")
    if form == "gguf":
        require_llama(backbone.model.config, source.name)
        write_gguf(backbone.model, backbone.tokenizer, folder / "model.gguf", Path(source.name).name)
    else:
        backbone.save_model(folder)


def _write_adapter(source: ModelSource, folder: Path) -> str:
    """Copy an adapter with its tokenizer, so that peft finds its base; return the dtype of its weights."""
    if source.kind != "adapter" or source.base is None:
        raise UserError(
            f"has no adapter to export: it is {source.description}",
            where=source.name,
            fix="export it with --format safetensors",
        )
    for file in (*ADAPTER_FILES, *TOKENIZER_FILES):
        if (source.folder / file).is_file():
            shutil.copyfile(source.folder / file, folder / file)
    tokenizer_of(source).save_pretrained(folder)
    card: dict[str, Any] = read_object(folder / ADAPTER_FILES[0])
    base = source.base
    if base.kind != "full":
        raise UserError(
            f"its base is {base.description}, which peft does not open",
            where=source.name,
            fix="export it with --format safetensors",
        )
    # A hub name works anywhere; a folder is named by its absolute path.
    on_hub = "/" in base.name and not Path(base.name).expanduser().exists()
    card["base_model_name_or_path"] = base.name if on_hub else str(base.folder.resolve())
    atomic.write_text(folder / ADAPTER_FILES[0], json.dumps(card, indent=2, sort_keys=True) + "\n")
    return "float32"
