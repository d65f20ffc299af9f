"""Good inputs of every kind, to be damaged one at a time: a tiny model, rows, and a finished pipeline over them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

from tiny import save_tiny

from harken.cli.main import main

UNSEALED = ignore_patterns("SHA256SUMS")
"""For `copytree`: checksums would find every damaged file before the file's own reader sees it."""

PIPELINE = """
name: tiny
model_name: {root}/model
dtype: float32
tensorboard: false
stages:
  sft:
    type: sft
    data: {{path: {root}/pairs.jsonl, max_length: 160, eval_fraction: 0.2}}
    lora: {{rank: 2}}
    training: {{max_steps: 2, batch_size: 4, eval_every: 1}}
    checkpoints: {{every: 1}}
  rm:
    type: reward
    model_name: "@sft"
    data: {{path: {root}/pairs.jsonl, max_length: 160}}
    lora: {{rank: 2}}
    training: {{max_steps: 1, batch_size: 4}}
  ppo:
    type: ppo
    model_name: "@sft"
    data: {{path: {root}/prompts.jsonl, max_length: 96}}
    lora: {{rank: 2}}
    training:
      reward_model: {{checkpoint_path: "@rm"}}
      ppo: {{updates: 1, prompts_per_update: 4, epochs: 1, max_gen_len: 4, trace_every: 1}}
  eval:
    type: evaluation
    policies: {{Base: "@model", SFT: "@sft", PPO: "@ppo"}}
    reward_model: "@rm"
    data: {{path: {root}/prompts.jsonl, max_length: 96}}
    judges: [demo_gold]
    max_gen_len: 4
  report: {{type: report}}
"""
PAIRS = [
    {"prompt": f"Number {i}?", "chosen": f"It is {i}.", "rejected": f"no idea {i}{i}"} for i in range(12)
]
PROMPTS = [{"id": f"q{i}", "prompt": f"Count to {i}", "keywords": [str(i)]} for i in range(6)]


@dataclass(frozen=True)
class World:
    """Nothing in `root` may be changed: spoil copies."""

    root: Path

    @property
    def model(self) -> Path:
        return self.root / "model"

    @property
    def pipeline(self) -> Path:
        return self.root / "out"

    def copied(self, what: str, target: Path) -> Path:
        """A copy of a folder of the finished pipeline, to be damaged."""
        copytree(self.root / what, target, ignore=UNSEALED)
        return target


def make_world(root: Path) -> World:
    save_tiny(root / "model")
    jsonl(root / "pairs.jsonl", PAIRS)
    jsonl(root / "prompts.jsonl", PROMPTS)
    (root / "pipeline.yml").write_text(PIPELINE.format(root=root))
    assert main(["pipeline", str(root / "pipeline.yml"), "--output-dir", str(root / "out")]) == 0
    return World(root)


def jsonl(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
