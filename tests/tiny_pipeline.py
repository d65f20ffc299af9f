"""A whole pipeline on the tiny model, as the command line runs it: from raw rows to the report, in seconds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tiny import save_tiny

from harken.cli.main import main

PIPELINE = """
name: tiny
title: Tiny
notice: Synthetic rows.
model_name: {root}/model
dtype: float32
tensorboard: false
sft:
  data: {{path: {root}/pairs.jsonl, max_length: 160, eval_fraction: 0.2}}
  lora: {{rank: 4}}
  training: {{max_steps: 4, batch_size: 4, lr: 1e-3}}
reward:
  data: {{path: {root}/pairs.jsonl, max_length: 160, eval_fraction: 0.2}}
  lora: {{rank: 4}}
  training: {{max_steps: 4, batch_size: 4, lr: 1e-3, normalise: standardise}}
ppo:
  data: {{path: {root}/prompts.jsonl, max_length: 96}}
  lora: {{rank: 4}}
  training:
    lr: 1e-3
    ppo: {{updates: 4, prompts_per_update: 4, epochs: 2, minibatches: 2, max_gen_len: 8, kl_control: adaptive}}
  checkpoints: {{every: 1}}
evaluation:
  data: {{path: {root}/prompts.jsonl, max_length: 96}}
  judges: [demo_gold]
  max_gen_len: 8
"""


def run_pipeline(root: Path, dtype: str = "float32", settings: Sequence[str] = ()) -> Path:
    """Model, rows and pipeline.yml in `root`, the finished pipeline in root/out. Returns `root`.

    `settings` are further `--set` values.
    """
    save_tiny(root / "model", hidden=32 if dtype == "float32" else 64)
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
    text = PIPELINE.format(root=root).replace("dtype: float32", f"dtype: {dtype}")
    (root / "pipeline.yml").write_text(text)
    chosen = [word for setting in settings for word in ("--set", setting)]
    assert main(["pipeline", str(root / "pipeline.yml"), *chosen, "--output-dir", str(root / "out")]) == 0
    return root
