"""Seconds and real tokens of every optimiser step of a transformers trainer, printed as JSON lines."""

from __future__ import annotations

import json
import time

import torch
from transformers import TrainerCallback


class StepClock(TrainerCallback):
    """Attach it with `StepClock(trainer)`. A step's seconds run from the end of the one before, data included."""

    def __init__(self, trainer):
        self.tokens, self.last, self.inner = 0, 0.0, trainer.training_step
        trainer.training_step = self.counted
        trainer.add_callback(self)

    def counted(self, model, inputs, *args, **kwargs):
        """Padding is where the attention mask is 0; a batch without a mask has none."""
        real = inputs.get("attention_mask")
        self.tokens += int(real.sum()) if real is not None else inputs["input_ids"].numel()
        return self.inner(model, inputs, *args, **kwargs)

    def on_train_begin(self, args, state, control, **kwargs):
        self.last = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        now = time.perf_counter()
        gpu = {"memory/gpu_reserved": torch.cuda.max_memory_reserved()} if torch.cuda.is_available() else {}
        print(json.dumps({"seconds": now - self.last, "tokens": self.tokens, **gpu}), flush=True)
        self.last, self.tokens = now, 0
