"""Train a reward model: score the chosen response above the rejected one (Bradley–Terry).

The head reads a causal language model or an encoder, which is trained with it, as an adapter or as all weights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harken.batches import TokenBatch, collate
from harken.card.calibrated import training_calibration
from harken.config import RunConfig
from harken.config.training import RewardTraining
from harken.data.selection import selection_prompts
from harken.errors import NonFinite, UserError
from harken.maths.preference_loss import soft_bradley_terry
from harken.maths.statistics.intervals import wilson_interval
from harken.models.adapted_model import AdaptedModel
from harken.models.resolve import resolve
from harken.models.roles import RewardModel, ScalarHead, lineage_fingerprint
from harken.records import TokenPair
from harken.run.tracking import progress
from harken.train.groups import mean_by_group
from harken.train.nonfinite import attach_tensors, check_finite, check_finite_loss
from harken.train.oom_retry import MicroBatcher
from harken.train.optim.optimiser import Optimiser, lr_multiplier
from harken.train.sampler import batch_indices, num_steps

ADAPTER = "reward"
CALIBRATION_PAIRS = 256


class RewardStage:
    """Train on `batch_size` pairs per optimiser step. The label of a tie or soft preference is its probability."""

    label = "RM"

    def __init__(
        self,
        config: RunConfig,
        backbone: AdaptedModel,
        base: Path,
        pairs: Sequence[TokenPair],
        held_out: Sequence[TokenPair],
    ) -> None:
        assert isinstance(config.training, RewardTraining)
        self.settings, self.seed, self.base = config.training, config.seed, base
        self.max_length = config.data.max_length
        if self.settings.ties == "drop":
            pairs = [pair for pair in pairs if pair.label != 0.5]
        if not pairs:
            raise UserError("no preference is left once ties are dropped", where=config.data.path)
        self.backbone, self.pairs = backbone, pairs
        chosen = selection_prompts([p.id for p in held_out], self.settings.selection_fraction, config.seed)
        self.selection = [pair for pair in held_out if pair.id in chosen]
        self.held_out = [pair for pair in held_out if pair.id not in chosen]
        self.on_saved: Callable[[Path], None] | None = None
        """Called with the folder of the saved model, before it becomes `final/`."""
        self.total = num_steps(
            len(pairs), self.settings.batch_size, self.settings.epochs, self.settings.max_steps
        )
        self.adapter = ADAPTER if config.lora is not None else None
        if config.lora is not None:
            backbone.add_adapter(ADAPTER, config.lora, config.seed)
        else:
            backbone.train_all_weights()
        # N(0, 1/sqrt(d+1)): initial scores of order one (arXiv:2009.01325).
        head = ScalarHead(backbone.hidden_size, (backbone.hidden_size + 1) ** -0.5, config.seed)
        self.model = RewardModel(backbone, self.adapter, head.to(backbone.device))
        trained = backbone.adapter_parameters(ADAPTER) if config.lora else backbone.trainable_parameters()
        parameters = {
            **trained,
            "head.weight": head.weight,
            "head.bias": head.bias,
        }
        backbone.gradient_checkpointing = self.settings.gradient_checkpointing
        self.optimiser = Optimiser(parameters, self.settings)
        self.micro_batcher = MicroBatcher(self.settings.micro_batch_tokens, self.label, backbone)

    def step(self, step: int) -> dict[str, float]:
        """Minimise the mean loss over the pairs of one batch.

        Raises NonFinite, with everything as before the step, if a reward, the loss or the gradient is not finite.
        """
        try:
            return self._step(step)
        except NonFinite:
            self.optimiser.zero_grad()
            raise
        finally:
            self.backbone.set_adapter_dropout(False)

    def _step(self, step: int) -> dict[str, float]:
        index = batch_indices(step, len(self.pairs), self.settings.batch_size, self.seed, self.label)
        pairs = [self.pairs[i] for i in index]
        self.backbone.set_adapter_dropout(True)
        with self.backbone.role(self.adapter):
            loss, rewards = self.micro_batcher.retry_on_oom(
                lambda: self._backward(pairs), self.optimiser.zero_grad
            )
        lr_scale = lr_multiplier(step, self.total, self.settings)
        with attach_tensors(partial(self._dump_tensors, pairs)):
            norm = self.optimiser.clip_and_step(lr_scale)
        metrics = {"loss": loss, "lr": self.settings.lr * lr_scale, "grad_norm": norm}
        metrics |= {"reward/mean": float(rewards.mean()), "reward/std": float(rewards.std())}
        metrics["memory/micro_batch_tokens"] = float(self.micro_batcher.tokens)
        return metrics | _accuracy(rewards, pairs)

    def _backward(self, pairs: Sequence[TokenPair]) -> tuple[float, np.ndarray]:
        """Accumulate the gradients of the mean pair loss. Returns it and the rewards of both sides, [pairs, 2]."""
        total, rewards = 0.0, np.zeros((len(pairs), 2))
        for group in self._micro_batches(pairs):
            rows = [pairs[i] for i in group]
            chosen, rejected = self._rewards(rows)
            loss = self.loss(chosen, rejected, rows).sum() / len(pairs)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            sides = torch.cat([chosen, rejected]).detach().cpu()
            rewards[group] = sides.view(2, -1).T.numpy()
            names = [f"{row.id}, {side}" for side in ("chosen", "rejected") for row in rows]
            tensors = partial(self._dump_tensors, rows)
            # Bradley–Terry maps an infinite reward to a finite loss, so check the rewards too.
            check_finite([("reward", sides, None)], "training", tensors, names)
            check_finite_loss(total, [], "training", tensors)
        return total, rewards

    def loss(
        self, chosen: Float[Tensor, " pairs"], rejected: Float[Tensor, " pairs"], pairs: Sequence[TokenPair]
    ) -> Float[Tensor, " pairs"]:
        """Compute the Bradley–Terry loss of each pair, with soft labels, strength and the centring penalty."""
        strength = chosen.new_tensor([pair.strength for pair in pairs])
        label = chosen.new_tensor([pair.label for pair in pairs])
        label = label * (1 - 2 * self.settings.label_smoothing) + self.settings.label_smoothing
        margin = torch.zeros_like(chosen)
        if self.settings.strength == "margin":
            # A tie or a flipped label has no margin.
            margin = torch.where(label > 0.5, self.settings.margin_scale * strength, 0.0)
        loss = soft_bradley_terry(chosen - margin, rejected, label)
        if self.settings.strength == "weight":
            loss = loss * strength.clamp(min=1.0)
        return loss + self.settings.centre_coef * (chosen + rejected) ** 2

    @torch.no_grad()
    def evaluate(self, done: int) -> dict[str, float]:
        """Measure held-out loss, margin, calibration and strict accuracy with its 95 % interval, also by group.

        `select/loss` is the loss of the pairs that choose the best checkpoint; no other metric includes them.
        """
        metrics = {}
        if self.selection:
            rewards = torch.as_tensor(self._score(self.selection, "RM: selection pairs"), dtype=torch.float32)
            metrics["select/loss"] = float(self.loss(rewards[:, 0], rewards[:, 1], self.selection).mean())
        return metrics | self._evaluate_held_out()

    def _evaluate_held_out(self) -> dict[str, float]:
        if not self.held_out:
            return {}
        rewards = self._score(self.held_out, "RM: held-out pairs")
        tensors = torch.as_tensor(rewards, dtype=torch.float32)
        loss = self.loss(tensors[:, 0], tensors[:, 1], self.held_out).mean()
        metrics = {"eval/loss": float(loss)}
        metrics |= {f"eval/{key}": value for key, value in _accuracy(rewards, self.held_out).items()}
        preferred = [i for i, pair in enumerate(self.held_out) if pair.label != 0.5]
        low, high = (
            wilson_interval(_num_correct(rewards, self.held_out), len(preferred)) if preferred else (0.0, 1.0)
        )
        metrics |= {"eval/reward/mean": float(rewards.mean()), "eval/reward/std": float(rewards.std())}
        labels = np.array([pair.label for pair in self.held_out])
        calibration = training_calibration(rewards[:, 0] - rewards[:, 1], labels)
        metrics |= {f"eval/{name}": value for name, value in calibration.items()}
        metrics |= {"eval/accuracy_low": low, "eval/accuracy_high": high, "eval/pairs": float(len(preferred))}
        domains: dict[str, list[int]] = defaultdict(list)
        for i in preferred:
            domains[self.held_out[i].domain].append(i)
        if len(domains) > 1:
            for name, index in sorted(domains.items()):
                correct = _num_correct(rewards[index], [self.held_out[i] for i in index])
                metrics[f"eval/accuracy_{name or 'none'}"] = correct / len(index)
        rows = [self.held_out[i] for i in preferred]
        right = [float(_num_correct(rewards[[i]], [self.held_out[i]])) for i in preferred]
        languages = [row.language for row in rows]
        return metrics | mean_by_group("eval/accuracy_language_", languages, right)

    def on_train_begin(self) -> None:
        """Do nothing: the loss of the first step is that of the initial weights."""

    def selection_metric(self, metrics: Mapping[str, float]) -> float | None:
        """Return the negative loss of the selection pairs; None without them, so the last weights are kept.

        The held-out pairs that are reported are not used for selection, which would bias their figures.
        """
        return -metrics["select/loss"] if "select/loss" in metrics else None

    def stop_reason(self) -> str | None:
        """Return None: training never ends early."""
        return None

    def summary(self, metrics: Mapping[str, float]) -> str:
        """Summarise loss and accuracy, and held-out accuracy with its interval if there is one."""
        text = f"loss {metrics['loss']:.3f}  accuracy {metrics['accuracy']:.2f}"
        if "eval/accuracy" in metrics:
            low, high = metrics["eval/accuracy_low"], metrics["eval/accuracy_high"]
            text += f"  held-out {metrics['eval/accuracy']:.3f} [{low:.3f}, {high:.3f}]"
        return text

    def tensors(self) -> dict[str, Tensor]:
        """Return adapter, head and optimiser state."""
        return self.optimiser.tensors()

    def state(self) -> dict[str, Any]:
        """Return the token budget; the order of pairs is a function of the step."""
        return {"micro_batch_tokens": self.micro_batcher.tokens}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore adapter, head, optimiser state and token budget."""
        self.optimiser.load(tensors)
        self.micro_batcher.tokens = int(state["micro_batch_tokens"])

    def save(self, folder: Path) -> None:
        """Calibrate on training pairs, then write the adapter or all weights, the head and metadata.

        Weights that trained in float32 are rounded first, so that the calibration is that of the saved model.
        """
        self.backbone.round_trained_weights()
        if self.settings.normalise != "none":
            sample = batch_indices(0, len(self.pairs), CALIBRATION_PAIRS, self.seed, "RM calibration")
            rewards = self._score([self.pairs[i] for i in sample], "RM: calibrating")
            self.model.offset = float(rewards.mean())
            if self.settings.normalise == "standardise":
                self.model.scale = 1.0 / max(float(rewards.std()), 1e-6)
        metadata: dict[str, object] = {"max_length": self.max_length, "calibration": self.settings.normalise}
        fingerprint = lineage_fingerprint(resolve(str(self.base)))
        self.model.save(folder, self.base, fingerprint, metadata)
        if self.on_saved is not None:
            self.on_saved(folder)

    def _rewards(self, pairs: Sequence[TokenPair]) -> tuple[Tensor, Tensor]:
        """Score both sides in one forward: chosen, rejected."""
        chosen, rejected = self.model.rewards(self._collate(pairs)).chunk(2)
        return chosen, rejected

    def _dump_tensors(self, pairs: Sequence[TokenPair]) -> dict[str, Tensor]:
        """Return what a NaN dump holds: the rows of `_collate`, and each pair's label and strength."""
        label = torch.tensor([pair.label for pair in pairs])
        strength = torch.tensor([pair.strength for pair in pairs])
        return {**vars(self._collate(pairs)), "label": label, "strength": strength}

    def _collate(self, pairs: Sequence[TokenPair]) -> TokenBatch:
        """Collate the chosen sides, then the rejected ones."""
        rows = [pair.chosen_tokens for pair in pairs] + [pair.rejected_tokens for pair in pairs]
        batch = collate(rows, [[False] * len(r) for r in rows], self.model.pad_token)
        return batch.to(self.backbone.device)

    def _micro_batches(self, pairs: Sequence[TokenPair]) -> list[list[int]]:
        return self.micro_batcher.split([(pair.chosen_tokens, pair.rejected_tokens) for pair in pairs])

    @torch.no_grad()
    def _score(self, pairs: Sequence[TokenPair], label: str) -> np.ndarray:
        """Score both sides, [pairs, 2], with OOM retry."""
        return self.micro_batcher.retry_on_oom(lambda: self._score_once(pairs, label))

    def _score_once(self, pairs: Sequence[TokenPair], label: str) -> np.ndarray:
        rewards = np.zeros((len(pairs), 2))
        for group in progress(self._micro_batches(pairs), label):
            chosen, rejected = self._rewards([pairs[i] for i in group])
            rewards[group] = torch.stack([chosen, rejected], 1).cpu().numpy()
        return rewards


def _num_correct(rewards: np.ndarray, pairs: Sequence[TokenPair]) -> int:
    """Count the pairs whose preferred side scores strictly higher; labels that are ties do not count."""
    gap = rewards[:, 0] - rewards[:, 1]
    preferred = np.sign(np.array([pair.label for pair in pairs]) - 0.5)
    return int(((gap * preferred) > 0).sum())


def _accuracy(rewards: np.ndarray, pairs: Sequence[TokenPair]) -> dict[str, float]:
    preferred = np.sign(np.array([pair.label for pair in pairs]) - 0.5)
    pairs_with_preference = int((preferred != 0).sum())
    margin = ((rewards[:, 0] - rewards[:, 1]) * preferred)[preferred != 0]
    return {
        "accuracy": _num_correct(rewards, pairs) / pairs_with_preference if pairs_with_preference else 0.0,
        "margin": float(margin.mean()) if pairs_with_preference else 0.0,
    }
