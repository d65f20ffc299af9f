"""TRL's RewardTrainer on token ids the caller rendered: one JSON line an optimiser step, {"seconds", "tokens"}.

Runs in its own environment (torch==2.13.0 trl==1.11.0). --checkpointing 1 is TRL's default.
"""

from __future__ import annotations

import argparse
import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import torch
from datasets import Dataset
from peft import LoraConfig
from step_clock import StepClock
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer

asked = argparse.ArgumentParser()
asked.add_argument("--model", required=True)
asked.add_argument("--rows", required=True, help='JSONL of {"chosen_ids": [...], "rejected_ids": [...]}')
for name, default in {"batch": 16, "micro": 8, "length": 320, "checkpointing": 1}.items():
    asked.add_argument(f"--{name}", type=int, default=default)
asked.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
given = asked.parse_args()
dtype = getattr(torch, given.dtype)

tokenizer = AutoTokenizer.from_pretrained(given.model)
if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
    tokenizer.pad_token = "<|endoftext|>"
lora = LoraConfig(
    r=16, lora_alpha=32, target_modules="all-linear", modules_to_save=["score"], task_type="SEQ_CLS"
)
trainer = RewardTrainer(
    model=AutoModelForSequenceClassification.from_pretrained(given.model, num_labels=1, dtype=dtype),
    args=RewardConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=given.micro,
        gradient_accumulation_steps=given.batch // given.micro,
        num_train_epochs=1,
        learning_rate=1e-4,
        max_length=given.length,
        center_rewards_coefficient=0.01,
        gradient_checkpointing=bool(given.checkpointing),
        bf16=given.dtype == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    ),
    train_dataset=Dataset.from_json(given.rows),
    processing_class=tokenizer,
    peft_config=lora,
)
StepClock(trainer)
trainer.train()
