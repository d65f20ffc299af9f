"""TRL's DPOTrainer on token ids the caller rendered: one JSON line an optimiser step, {"seconds", "tokens"}.

Runs in its own environment (torch==2.13.0 trl==1.16.0). --checkpointing 1 and --precompute 0 are TRL's defaults. With
--precompute 1 the reference scores all rows first: its seconds are the line {"reference_seconds"}.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from datasets import Dataset
from peft import LoraConfig
from step_clock import StepClock
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer


class TokenisedDPOTrainer(DPOTrainer):
    """Take rows of "prompt_ids", "chosen_ids" and "rejected_ids" as they are."""

    def _prepare_dataset(self, dataset, *_, **__):
        return dataset

    def _precompute_ref_logps(self, *args, **kwargs):
        began = time.perf_counter()
        dataset = super()._precompute_ref_logps(*args, **kwargs)
        print(json.dumps({"reference_seconds": time.perf_counter() - began}), flush=True)
        return dataset


asked = argparse.ArgumentParser()
asked.add_argument("--model", required=True)
asked.add_argument(
    "--rows", required=True, help='JSONL of {"prompt_ids": [], "chosen_ids": [], "rejected_ids": []}'
)
numbers = {"batch": 16, "micro": 8, "length": 320, "checkpointing": 1, "precompute": 0}
for name, default in numbers.items():
    asked.add_argument(f"--{name}", type=int, default=default)
asked.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
given = asked.parse_args()
dtype = getattr(torch, given.dtype)

tokenizer = AutoTokenizer.from_pretrained(given.model)
if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
    tokenizer.pad_token = "<|endoftext|>"
trainer = TokenisedDPOTrainer(
    model=AutoModelForCausalLM.from_pretrained(given.model, dtype=dtype),
    args=DPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=given.micro,
        gradient_accumulation_steps=given.batch // given.micro,
        num_train_epochs=1,
        learning_rate=5e-5,
        max_length=given.length,
        gradient_checkpointing=bool(given.checkpointing),
        precompute_ref_log_probs=bool(given.precompute),
        bf16=given.dtype == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    ),
    train_dataset=Dataset.from_json(given.rows),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
)
StepClock(trainer)
trainer.train()
