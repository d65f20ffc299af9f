"""A tiny model, its rows on disk, and configurations of every stage over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiny import save_tiny

from harken.config import RunConfig
from harken.plan.architecture import find_model
from harken.plan.calibrate import Timings
from harken.plan.job import Job, job

NOTHING = Timings(forward=0, training=0, head_forward=0, head_training=0, decode=0, sample=0, measuring=0)
"""Timings in which nothing takes time: a test sets the one that it counts with."""


def write_rows(folder: Path, count: int = 40) -> None:
    """`model/`, `pairs.jsonl` and `prompts.jsonl` in `folder`; rows of many lengths."""
    save_tiny(folder / "model")
    pairs = [
        {"prompt": "ask " * (i % 7 + 1), "chosen": "yes " * (i % 11 + 1), "rejected": "no"}
        for i in range(count)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs))
    prompts = [{"id": f"p{i}", "prompt": "say " * (i % 9 + 1) + str(i)} for i in range(count)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))


def settings(folder: Path, kind: str, **keys: Any) -> dict[str, Any]:
    """A stage's configuration; `keys` go to training, `run` in them to the run itself."""
    run = keys.pop("run", {})
    rows = "prompts" if kind == "ppo" else "pairs"
    training: dict[str, Any] = {"type": kind, "micro_batch_tokens": 512}
    if kind == "ppo":
        training["reward_model"] = {"random_for_debugging": True}
        training["ppo"] = {"updates": 3, "prompts_per_update": 8, "max_gen_len": 16} | keys.pop("ppo", {})
    return {
        "model_name": str(folder / "model"),
        "dtype": "float32",
        "device": "cpu",
        "lora": {"rank": 4},
        "data": {"path": str(folder / f"{rows}.jsonl"), "max_length": 256},
        "training": training | keys,
    } | run


def stage(folder: Path, kind: str, *, on_cpu: bool = True, **keys: Any) -> Job:
    """That stage as a job."""
    config = RunConfig.model_validate(settings(folder, kind, **keys))
    return job(kind, config, find_model(config.model_name), on_cpu=on_cpu)
