"""A whole pipeline on the tiny model, as the command line runs it: from raw rows to the report, in seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiny import save_tiny

from harken.cli.main import main
from harken.config import PipelineConfig, RunConfig
from harken.config.stages import find_stage, resolve_stages
from harken.run.folder import EvaluationFolder, PipelineFolder, RunFolder

PIPELINE = """
name: tiny
title: Tiny
notice: Synthetic rows.
model_name: {root}/model
dtype: float32
tensorboard: false
stages:
  sft:
    type: sft
    data: {{path: {root}/pairs.jsonl, max_length: 160, eval_fraction: 0.2}}
    lora: {{rank: 4}}
    training: {{max_steps: 4, batch_size: 4, lr: 1e-3}}
  rm:
    type: reward
    model_name: "@sft"
    data: {{path: {root}/pairs.jsonl, max_length: 160, eval_fraction: 0.2}}
    lora: {{rank: 4}}
    training: {{max_steps: 4, batch_size: 4, lr: 1e-3, normalise: standardise}}
  ppo:
    type: ppo
    model_name: "@sft"
    data: {{path: {root}/prompts.jsonl, max_length: 96}}
    lora: {{rank: 4}}
    training:
      reward_model: {{checkpoint_path: "@rm"}}
      lr: 1e-3
      ppo: {{updates: 4, prompts_per_update: 4, epochs: 2, minibatches: 2, max_gen_len: 8, kl_control: adaptive}}
    checkpoints: {{every: 1}}
  eval:
    type: evaluation
    policies: {{Base: "@model", SFT: "@sft", PPO: "@ppo"}}
    reward_model: "@rm"
    data: {{path: {root}/prompts.jsonl, max_length: 96}}
    judges: [demo_gold]
    max_gen_len: 8
  report: {{type: report}}
"""


@dataclass(frozen=True)
class TinyFolder(PipelineFolder):
    """The folders of that pipeline's stages."""

    @property
    def sft(self) -> RunFolder:
        return RunFolder(self.root / "01_sft")

    @property
    def reward(self) -> RunFolder:
        return RunFolder(self.root / "02_rm")

    @property
    def ppo(self) -> RunFolder:
        return RunFolder(self.root / "03_ppo")

    @property
    def evaluation(self) -> EvaluationFolder:
        return EvaluationFolder(self.root / "04_eval")

    @property
    def report(self) -> Path:
        return self.root / "05_report" / "report.html"


def run_config(config: PipelineConfig, root: Path, name: str) -> RunConfig:
    """The configuration of a training stage of a pipeline in `root`."""
    found = find_stage(resolve_stages(config, root), name).config
    assert isinstance(found, RunConfig)
    return found


def write_rows(root: Path) -> None:
    """Preference pairs in pairs.jsonl, prompts in prompts.jsonl."""
    pairs = [
        {
            "prompt": f"Number {i}?",
            "chosen": f"It is {i}.",
            "rejected": f"no idea {i}{i}",
            "domain": "ab"[i % 2],
            "keywords": [str(i)],
        }
        for i in range(30)
    ]
    (root / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in pairs))
    prompts = [{"id": f"q{i}", "prompt": f"Count to {i}", "keywords": [str(i)]} for i in range(6)]
    (root / "prompts.jsonl").write_text("".join(json.dumps(p) + "\n" for p in prompts))


def run_pipeline(root: Path, dtype: str = "float32", settings: Sequence[str] = ()) -> Path:
    """Model, rows and pipeline.yml in `root`, the finished pipeline in root/out. Returns `root`.

    `settings` are further `--set` values.
    """
    save_tiny(root / "model", hidden=32 if dtype == "float32" else 64)
    write_rows(root)
    text = PIPELINE.format(root=root).replace("dtype: float32", f"dtype: {dtype}")
    (root / "pipeline.yml").write_text(text)
    chosen = [word for setting in settings for word in ("--set", setting)]
    assert main(["pipeline", str(root / "pipeline.yml"), *chosen, "--output-dir", str(root / "out")]) == 0
    return root
