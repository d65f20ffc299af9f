"""Supervised fine-tuning: maximise the log-probability of the response tokens of demonstrations."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harken.batches import TokenBatch, collate
from harken.config import RunConfig
from harken.config.training import SupervisedTraining
from harken.errors import NonFinite
from harken.models.backbone import Backbone
from harken.models.roles import Policy
from harken.records import TokenDemonstration
from harken.run.tracking import say
from harken.train.groups import by_domain_and_language
from harken.train.nonfinite import attach_tensors, check_finite_loss
from harken.train.oom_retry import MicroBatcher
from harken.train.optim.optimiser import Optimiser, lr_multiplier
from harken.train.sampler import batch_indices, num_steps

ADAPTER = "policy"


class SupervisedStage:
    """Train on `batch_size` demonstrations per optimiser step, in as many micro-batches as they need."""

    label = "SFT"

    def __init__(
        self,
        config: RunConfig,
        backbone: Backbone,
        rows: Sequence[TokenDemonstration],
        held_out: Sequence[TokenDemonstration],
    ) -> None:
        assert isinstance(config.training, SupervisedTraining)
        self.settings, self.seed = config.training, config.seed
        self.backbone, self.rows, self.held_out = backbone, rows, held_out
        self.adapter = ADAPTER if config.lora else None
        self.policy = Policy(backbone, self.adapter)
        self.total = num_steps(
            len(rows), self.settings.batch_size, self.settings.epochs, self.settings.max_steps
        )
        if config.lora:
            backbone.add_adapter(ADAPTER, config.lora, config.seed)
        else:
            backbone.train_all_weights()
        backbone.gradient_checkpointing = self.settings.gradient_checkpointing
        self.optimiser = Optimiser(self.policy.parameters(), self.settings)
        self.micro_batcher = MicroBatcher(self.settings.micro_batch_tokens, self.label, backbone)

    def step(self, step: int) -> dict[str, float]:
        """Minimise the mean loss over the response tokens of one batch.

        Raises NonFinite, with everything as before the step, if a log-probability, the loss or the gradient is not
        finite.
        """
        try:
            return self._step(step)
        except NonFinite:
            self.optimiser.zero_grad()
            raise
        finally:
            self.backbone.set_adapter_dropout(False)

    def _step(self, step: int) -> dict[str, float]:
        start = time.perf_counter()
        index = batch_indices(step, len(self.rows), self.settings.batch_size, self.seed, self.label)
        rows = [self.rows[i] for i in index]
        self.backbone.set_adapter_dropout(True)
        with self.backbone.role(self.adapter):
            loss = self.micro_batcher.retry_on_oom(lambda: self._backward(rows), self.optimiser.zero_grad)
        lr_scale = lr_multiplier(step, self.total, self.settings)
        with attach_tensors(lambda: vars(self._collate(rows))):
            norm = self.optimiser.clip_and_step(lr_scale)
        return {
            "loss": loss,
            "lr": self.settings.lr * lr_scale,
            "grad_norm": norm,
            "tokens_per_second": sum(len(row.tokens) for row in rows) / (time.perf_counter() - start),
            "memory/micro_batch_tokens": float(self.micro_batcher.tokens),
        }

    def _backward(self, rows: Sequence[TokenDemonstration]) -> float:
        """Accumulate the gradients of the mean loss over the rows' response tokens. Returns that mean."""
        count = sum(sum(row.response_mask) for row in rows)
        total = 0.0
        for group, batch in self._batches(rows):
            logprobs = self.policy.evaluate(batch).logprobs
            loss = -logprobs[batch.response_mask].sum() / count
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            checked = [("logprob", logprobs.detach(), batch.response_mask)]
            names = [rows[i].id for i in group]
            check_finite_loss(total, checked, "training", partial(vars, batch), names)
        return total

    @torch.no_grad()
    def evaluate(self, done: int) -> dict[str, float]:
        """Measure the mean loss in nats per response token on the held-out rows, also by domain and language."""
        if not self.held_out:
            return {}
        loss, sums = self.micro_batcher.retry_on_oom(self._held_out_losses)
        counts = [float(sum(row.response_mask)) for row in self.held_out]
        means = [own / count for own, count in zip(sums, counts, strict=True)]
        return {"eval/loss": loss / sum(counts)} | by_domain_and_language(
            "eval/loss", self.held_out, means, counts
        )

    def _held_out_losses(self) -> tuple[float, list[float]]:
        """Sum the loss over the response tokens of all held-out rows, and of each."""
        total, sums = 0.0, [0.0] * len(self.held_out)
        for group, batch in self._batches(self.held_out):
            logprobs = self.policy.evaluate(batch).logprobs
            total -= float(logprobs[batch.response_mask].sum())
            for row, own in zip(group, torch.where(batch.response_mask, logprobs, 0.0).sum(-1), strict=True):
                sums[row] = -float(own)
        return total, sums

    def on_train_begin(self) -> None:
        """Do nothing: the loss of the first step is that of the initial weights."""

    def selection_metric(self, metrics: Mapping[str, float]) -> float | None:
        """Return minus the held-out loss."""
        return -metrics["eval/loss"] if "eval/loss" in metrics else None

    def stop_reason(self) -> str | None:
        """Return None: training never ends early."""
        return None

    def summary(self, metrics: Mapping[str, float]) -> str:
        """Summarise loss, speed, and held-out loss if there is one."""
        held_out = f"  held-out {metrics['eval/loss']:.3f}" if "eval/loss" in metrics else ""
        return f"loss {metrics['loss']:.3f}{held_out}  {metrics['tokens_per_second']:.0f} tokens/s"

    def tensors(self) -> dict[str, Tensor]:
        """Return the trained weights and optimiser state."""
        return self.optimiser.tensors()

    def state(self) -> dict[str, Any]:
        """Return the token budget; the order of rows is a function of the step."""
        return {"micro_batch_tokens": self.micro_batcher.tokens}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore weights, optimiser state and token budget."""
        self.optimiser.load(tensors)
        self.micro_batcher.tokens = int(state["micro_batch_tokens"])

    def save(self, folder: Path) -> None:
        """Write the whole merged model. Merging rounds to the base's dtype: print held-out loss before and after."""
        if self.adapter is None:
            self.backbone.save_model(folder)
            return
        metrics = self.evaluate(self.total)
        self.backbone.merge(self.adapter)
        self.policy = Policy(self.backbone, None)
        if metrics:
            after = self.evaluate(self.total)
            say(f"SFT: held-out loss {metrics['eval/loss']:.4f}, after merging {after['eval/loss']:.4f}")
        self.backbone.save_model(folder)

    def _batches(self, rows: Sequence[TokenDemonstration]) -> Iterator[tuple[list[int], TokenBatch]]:
        for group in self.micro_batcher.split([[row.tokens] for row in rows]):
            yield group, self._collate([rows[i] for i in group])

    def _collate(self, rows: Sequence[TokenDemonstration]) -> TokenBatch:
        pad = self.backbone.pad_token
        batch = collate([row.tokens for row in rows], [row.response_mask for row in rows], pad)
        return batch.to(self.backbone.device)
