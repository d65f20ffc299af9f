"""TRL 1.11.0's PPO, for timing beside Harken's: one JSON line per update.

Runs in its own environment (torch==2.13.0 trl==1.11.0), on a local model folder and on token ids that the
caller rendered, in the caller's order, so that both sides respond to the same prompts in the same update:

    python benchmarks/peers/trl_ppo.py --model DIR --prompts ids.jsonl --batch 32 --micro 8 --response 64 --updates 3
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
import torch
from datasets import Dataset
from peft import LoraConfig
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl.experimental.ppo import PPOConfig, PPOTrainer
from trl.experimental.ppo import ppo_trainer as module

asked = argparse.ArgumentParser()
asked.add_argument("--model", required=True)
asked.add_argument("--prompts", required=True, help='JSONL of {"input_ids": [...]}')
for name, default in {"batch": 32, "micro": 8, "response": 64, "epochs": 1, "updates": 3, "seed": 0}.items():
    asked.add_argument(f"--{name}", type=int, default=default)
asked.add_argument("--dtype", choices=["bfloat16", "float32"], default="bfloat16")
given = asked.parse_args()
dtype = getattr(torch, given.dtype)

tokenizer = AutoTokenizer.from_pretrained(given.model, padding_side="left")
if tokenizer.pad_token_id in (None, tokenizer.eos_token_id):
    tokenizer.pad_token = "<|endoftext|>"
with open(given.prompts) as file:
    rows = [{"input_ids": json.loads(line)["input_ids"]} for line in file]
data = Dataset.from_list(rows)

policy = AutoModelForCausalLM.from_pretrained(given.model, dtype=dtype)
value, reward = (
    AutoModelForSequenceClassification.from_pretrained(given.model, num_labels=1, dtype=dtype)
    for _ in range(2)
)
value.config.pad_token_id = reward.config.pad_token_id = tokenizer.pad_token_id
config = PPOConfig(
    output_dir=tempfile.mkdtemp(),
    per_device_train_batch_size=given.micro,
    gradient_accumulation_steps=given.batch // given.micro,
    local_rollout_forward_batch_size=given.micro,
    num_mini_batches=1,
    num_ppo_epochs=given.epochs,
    total_episodes=given.batch * given.updates,
    response_length=given.response,
    temperature=1.0,
    learning_rate=1e-5,
    kl_coef=0.05,
    missing_eos_penalty=1.0,
    stop_token="eos",
    bf16=given.dtype == "bfloat16",
    use_cpu=not torch.cuda.is_available(),
    gradient_checkpointing=False,
    num_sample_generations=0,
    save_strategy="no",
    report_to="none",
    logging_steps=1,
    seed=given.seed,
)
trainer = PPOTrainer(
    config, tokenizer, policy, None, reward, data, value, eval_dataset=data.select(range(min(8, len(data)))),
    peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
)  # fmt: skip
in_order = DataLoader(data, batch_size=given.batch, collate_fn=trainer.data_collator, drop_last=True)
trainer.dataloader = trainer.accelerator.prepare(in_order)

last, now, generate = [0.0], {"generation": 0.0, "response_tokens": 0.0}, module.batch_generation


def timed(model, queries, *args):
    began = time.perf_counter()
    outputs = generate(model, queries, *args)
    now["generation"] += time.perf_counter() - began
    ends = outputs[0][:, queries.shape[1] :] == tokenizer.eos_token_id
    before_end = ends.cumsum(1) == 0
    now["response_tokens"] += int(before_end.sum() + ends.any(1).sum())
    return outputs


def log(metrics, *args, **kwargs):
    ended = time.perf_counter()
    gpu = {"memory/gpu_reserved": torch.cuda.max_memory_reserved()} if torch.cuda.is_available() else {}
    print(json.dumps({"seconds": ended - last[0], **now, **gpu}), flush=True)
    last[0] = ended
    now.update(generation=0.0, response_tokens=0.0)


module.batch_generation, trainer.log = timed, log
last[0] = time.perf_counter()
trainer.train()
