"""A healthy tiny pipeline on disk, trained by the real stages: base → SFT → reward model, ready for PPO."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny import tiny_model, tiny_tokenizer

from harken.config import RunConfig
from harken.doctor.check import Check
from harken.doctor.finding import LEVELS, CheckLevel
from harken.doctor.registry import CHECKS
from harken.doctor.runner import diagnose
from harken.train.launch import train

GOOD, BAD = ("sun", "sea", "sky", "sand"), ("mud", "fog", "rot", "rust")
THINGS = tuple("".join(letters) for letters in itertools.product("bdglp", "aeiou", "kmnt"))


def write(path: Path, rows: Iterable[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def words(kind: tuple[str, ...], number: int) -> str:
    """One to three words, another choice for every number."""
    count = 2 + number % 3
    return " ".join(kind[(number * 7 + 3 * i) % len(kind)] for i in range(count)) + "."


def demonstration(number: int) -> dict[str, Any]:
    return {"prompt": f"say {THINGS[number]}", "response": words(GOOD, number)}


def pair(number: int) -> dict[str, Any]:
    """Good words against bad ones, of lengths that say nothing; now and then against a response that says nothing."""
    rejected = words(BAD, number * 5 + 2) if number % 6 else ("I don't know." if number % 12 else "Hm.")
    return {"prompt": f"say {THINGS[number]}", "chosen": words(GOOD, number), "rejected": rejected}


PAPER = tuple(itertools.takewhile(lambda check: check.name != "models_load", CHECKS))
"""The checks that need no model: settings, tokenizer, rows, lineage."""


@dataclass(frozen=True)
class HealthyPipeline:
    """The folders of the healthy pipeline, and the configurations of its stages."""

    root: Path

    def config(self, kind: str, **training: Any) -> dict[str, Any]:
        """A stage's configuration as a dictionary to spoil; `training` changes its training keys."""
        stage: dict[str, dict[str, Any]] = {
            "sft": {
                "model_name": str(self.root / "base"),
                "lora": {"rank": 8},
                "data": {"path": str(self.root / "sft.jsonl"), "max_length": 96, "eval_fraction": 0.1},
                "training": {"lr": 5e-4, "batch_size": 8},
            },
            "reward": {
                "model_name": str(self.root / "sft" / "final"),
                "lora": {"rank": 8},
                "data": {"path": str(self.root / "pairs.jsonl"), "max_length": 96, "eval_fraction": 0.2},
                "training": {"lr": 1e-4, "batch_size": 8, "normalise": "standardise"},
            },
            "ppo": {
                "model_name": str(self.root / "sft" / "final"),
                "lora": {"rank": 8},
                "data": {
                    "path": str(self.root / "prompts.jsonl"),
                    "eval_path": str(self.root / "heldout.jsonl"),
                    "max_length": 64,
                },
                "training": {
                    "lr": 1e-5,
                    "reward_model": {"checkpoint_path": str(self.root / "reward")},
                    "ppo": {"updates": 10, "prompts_per_update": 16, "max_gen_len": 24},
                },
            },
        }
        config = stage[kind] | {
            "dtype": "float32",
            "tensorboard": False,
            "output_dir": str(self.root / "new"),
        }
        config["training"] = {"type": kind} | config["training"] | training
        return config


def train_healthy_pipeline(root: Path) -> HealthyPipeline:
    """Train the pipeline into `root`: about five seconds."""
    healthy = HealthyPipeline(root)
    tiny_model(seed=3).save_pretrained(root / "base")
    tiny_tokenizer().save_pretrained(root / "base")
    write(root / "sft.jsonl", map(demonstration, range(80)))
    write(root / "pairs.jsonl", map(pair, range(80)))
    write(root / "prompts.jsonl", ({"prompt": f"say {thing}"} for thing in THINGS[:80]))
    write(root / "heldout.jsonl", ({"prompt": f"say {thing}"} for thing in THINGS[80:]))
    # High rates and many passes: the tiny model starts from noise. Its weights train whole, and are merged by nobody.
    sft = healthy.config("sft", lr=3e-3, epochs=12, lr_schedule="constant", eval_every=1000) | {"lora": None}
    train(RunConfig.model_validate(sft), root / "sft")
    reward = healthy.config("reward", lr=1e-2, epochs=4, normalise="standardise", eval_every=1000)
    train(RunConfig.model_validate(reward), root / "reward")
    return healthy


def first_cause(
    config: dict[str, Any], at_least: CheckLevel, checks: Sequence[Check] = CHECKS
) -> tuple[str, CheckLevel]:
    """Name and level of the first finding that is as bad as this, or worse; ("", "ok") when there is none."""
    diagnosis = diagnose(RunConfig.model_validate(config), "spoilt", checks)
    print("\n".join(diagnosis.lines(colour=False)))  # pytest shows it where a test fails
    bad = (f for f in diagnosis.findings if LEVELS.index(f.level) >= LEVELS.index(at_least))
    return next(((f.name, f.level) for f in bad), ("", "ok"))
