"""Convert a GGUF file to a plain transformers folder (bfloat16 safetensors and tokenizer), once per file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.quantization_config import GgufConfig

from harken.models.load_errors import load_errors, save_errors
from harken.models.model_cache import build_once, cache_root
from harken.models.tokenizer import choose_pad
from harken.run import atomic
from harken.run.checksums import file_sha256

MAGIC = b"GGUF"
REVISION = 1
"""Version of the conversion; raise it to convert files again."""


def is_gguf(path: Path) -> bool:
    """Return whether the file begins with GGUF's magic bytes."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def gguf_folder(path: Path, cache: Path | None = None) -> Path:
    """Return the converted folder of a GGUF file, cached under its sha256. Raises UserError as `convert` does."""
    sha256 = file_sha256(path)
    folder = (cache or cache_root()) / f"{path.stem}-{sha256[:16]}-{REVISION}"
    provenance = {"source": path.name, "sha256": sha256}
    notice = f"converting {path.name} to {folder}, once"
    return build_once(folder, notice, lambda place: convert(path, place, provenance))


def convert(path: Path, folder: Path, provenance: Mapping[str, str]) -> None:
    """Write the model of a GGUF file into `folder`: dequantised in float32, rounded once to bfloat16.

    The same file and package versions give the same bytes. PROVENANCE.json records their origin:
    `provenance`, and the versions that converted it.
    Raises UserError when the file is damaged or its architecture or quantisation is not supported.
    """
    where: dict[str, Any] = {"gguf_file": path.name, "local_files_only": True}
    dequantise = GgufConfig(dequantize=True)
    fix = "download it again if it is truncated, or use the safetensors folder of the model"
    with load_errors("this GGUF file cannot be converted", str(path), fix):
        tokenizer = AutoTokenizer.from_pretrained(str(path.parent), **where)
        model = AutoModelForCausalLM.from_pretrained(
            str(path.parent), **where, dtype=torch.float32, quantization_config=dequantise
        )
    choose_pad(tokenizer, where=str(path))
    # Some versions keep these settings, which would mark the saved folder as quantised.
    vars(model.config).pop("quantization_config", None)
    model.hf_quantizer = None
    model.config.pad_token_id = model.generation_config.pad_token_id = tokenizer.pad_token_id
    with save_errors(folder):
        model.to(torch.bfloat16).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    packages = {name: version(name) for name in ("torch", "transformers", "gguf")}
    card = {**provenance, "converted_by": packages, "revision": REVISION}
    atomic.write_json(folder / "PROVENANCE.json", card)
