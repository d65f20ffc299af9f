"""Create a randomly initialised model of a published architecture, for timing without its weights.

Arithmetic and memory are those of the real model; responses are noise that hardly ever ends, so they reach the token
limit. Its tokenizer is the embedded model's; the cost of a token does not depend on it.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from harken.models.embedded import embedded_folder
from harken.plan.builtin_configs import known_config

PREFIX = "random:"
KEPT = Path("outputs/bench/models")


def folder_of(name: str) -> Path:
    """Return the folder of `random:org/name` in bfloat16, creating it once. Exits for an unknown architecture."""
    architecture = name.removeprefix(PREFIX)
    config = known_config(architecture)
    if config is None:
        raise SystemExit(f"{name}: unknown architecture (src/harken/plan/builtin_configs.py lists them)")
    folder = KEPT / architecture.replace("/", "--")
    if not (folder / "config.json").exists():
        torch.manual_seed(0)
        made = folder.with_name(f".{folder.name}-unfinished")
        shutil.rmtree(made, ignore_errors=True)
        AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(made)
        for file in embedded_folder().glob("*"):
            if "token" in file.name or file.name in ("vocab.json", "merges.txt", "chat_template.jinja"):
                shutil.copy(file, made)
        made.rename(folder)
    return folder
