"""Train a scalar head with its model, as an adapter or as all weights: what reward models and classifiers share.

The head reads a causal language model or an encoder. A row has one or two token sequences, its sides, and each
gets a score.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harken.batches import TokenBatch, collate
from harken.config import RunConfig
from harken.config.training import HeadTraining
from harken.data.selection import selection_prompts
from harken.errors import NonFinite
from harken.models.adapted_model import AdaptedModel
from harken.models.resolve import resolve
from harken.models.roles import RewardModel, ScalarHead, lineage_fingerprint
from harken.records import TokenDemonstration, TokenPair
from harken.run.tracking import progress
from harken.train.nonfinite import attach_tensors, check_finite, check_finite_loss
from harken.train.oom_retry import MicroBatcher
from harken.train.optim.optimiser import Optimiser, lr_multiplier
from harken.train.sampler import batch_indices, num_steps

ADAPTER = "reward"
HeadRow = TypeVar("HeadRow", TokenPair, TokenDemonstration)


class HeadStage(ABC, Generic[HeadRow]):
    """Train on `batch_size` rows per optimiser step. Subclasses define the sides of a row, the loss and the metrics."""

    label: str
    row_noun: str
    """What rows are called in a progress bar."""
    side_names: tuple[str, ...]

    def __init__(
        self,
        config: RunConfig,
        backbone: AdaptedModel,
        base: Path,
        rows: Sequence[HeadRow],
        held_out: Sequence[HeadRow],
    ) -> None:
        assert isinstance(config.training, HeadTraining)
        self.optimisation, self.seed, self.base = config.training, config.seed, base
        self.max_length = config.data.max_length
        self.backbone = backbone
        self.rows: Sequence[HeadRow] = rows
        chosen = selection_prompts(
            [row.id for row in held_out], config.training.selection_fraction, config.seed
        )
        self.selection: list[HeadRow] = [row for row in held_out if row.id in chosen]
        self.held_out: list[HeadRow] = [row for row in held_out if row.id not in chosen]
        self.on_saved: Callable[[Path], None] | None = None
        """Called with the folder of the saved model, before it becomes `final/`."""
        self.total = num_steps(
            len(rows), config.training.batch_size, config.training.epochs, config.training.max_steps
        )
        self.adapter = ADAPTER if config.lora is not None else None
        if config.lora is not None:
            backbone.add_adapter(ADAPTER, config.lora, config.seed)
        else:
            backbone.train_all_weights()
        head = ScalarHead(backbone.hidden_size, self.initial_deviation(backbone.hidden_size), config.seed)
        self.model = RewardModel(backbone, self.adapter, head.to(backbone.device))
        trained = backbone.adapter_parameters(ADAPTER) if config.lora else backbone.trainable_parameters()
        parameters = {
            **trained,
            "head.weight": head.weight,
            "head.bias": head.bias,
        }
        backbone.gradient_checkpointing = config.training.gradient_checkpointing
        self.optimiser = Optimiser(parameters, config.training)
        self.micro_batcher = MicroBatcher(config.training.micro_batch_tokens, self.label, backbone)

    # -- what subclasses define ---------------------------------------------------------------------

    def initial_deviation(self, width: int) -> float:
        """Return the standard deviation of the head's first weights: scores of order one (arXiv:2009.01325)."""
        return float((width + 1) ** -0.5)

    @abstractmethod
    def sides(self, row: HeadRow) -> tuple[tuple[int, ...], ...]:
        """Return the token sequences of a row that are scored, one for each of `side_names`."""

    @abstractmethod
    def losses(self, scores: Float[Tensor, "sides rows"], rows: Sequence[HeadRow]) -> Float[Tensor, " rows"]:
        """Compute the loss of each row."""

    @abstractmethod
    def step_metrics(self, scores: np.ndarray, rows: Sequence[HeadRow]) -> dict[str, float]:
        """Measure a training batch by its scores, [rows, sides], from before the step."""

    @abstractmethod
    def row_tensors(self, rows: Sequence[HeadRow]) -> dict[str, Tensor]:
        """Return what a NaN dump holds of rows besides their tokens."""

    @abstractmethod
    def _evaluate_held_out(self) -> dict[str, float]:
        """Measure the held-out rows; {} without them."""

    @abstractmethod
    def _calibrate(self) -> str:
        """Set offset and scale of the finished model; return the name of the calibration for its metadata."""

    # -- training -----------------------------------------------------------------------------------

    def step(self, step: int) -> dict[str, float]:
        """Minimise the mean loss over the rows of one batch.

        Raises NonFinite, with everything as before the step, if a score, the loss or the gradient is not finite.
        """
        try:
            return self._step(step)
        except NonFinite:
            self.optimiser.zero_grad()
            raise
        finally:
            self.backbone.set_adapter_dropout(False)

    def _step(self, step: int) -> dict[str, float]:
        index = batch_indices(step, len(self.rows), self.optimisation.batch_size, self.seed, self.label)
        rows = [self.rows[i] for i in index]
        self.backbone.set_adapter_dropout(True)
        with self.backbone.role(self.adapter):
            loss, scores = self.micro_batcher.retry_on_oom(
                lambda: self._backward(rows), self.optimiser.zero_grad
            )
        lr_scale = lr_multiplier(step, self.total, self.optimisation)
        with attach_tensors(partial(self._dump_tensors, rows)):
            norm = self.optimiser.clip_and_step(lr_scale)
        metrics = {"loss": loss, "lr": self.optimisation.lr * lr_scale, "grad_norm": norm}
        metrics["memory/micro_batch_tokens"] = float(self.micro_batcher.tokens)
        return metrics | self.step_metrics(scores, rows)

    def _backward(self, rows: Sequence[HeadRow]) -> tuple[float, np.ndarray]:
        """Accumulate the gradients of the mean loss. Returns it and the scores, [rows, sides]."""
        total, scores = 0.0, np.zeros((len(rows), len(self.side_names)))
        for group in self._micro_batches(rows):
            part = [rows[i] for i in group]
            by_side = self._scores(part)
            loss = self.losses(by_side, part).sum() / len(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            detached = by_side.detach().cpu()
            scores[group] = detached.T.numpy()
            names = [f"{row.id}, {side}" for side in self.side_names for row in part]
            tensors = partial(self._dump_tensors, part)
            # The loss of an infinite score may be finite, so check the scores too.
            check_finite([("reward", detached.reshape(-1), None)], "training", tensors, names)
            check_finite_loss(total, [], "training", tensors)
        return total, scores

    @torch.no_grad()
    def evaluate(self, done: int) -> dict[str, float]:
        """Measure the held-out rows.

        `select/loss` is the loss of the rows that choose the best checkpoint; no other metric includes them.
        """
        metrics = {}
        if self.selection:
            scores = torch.as_tensor(self._score(self.selection, f"{self.label}: selection {self.row_noun}"))
            metrics["select/loss"] = float(self.losses(scores.float().T, self.selection).mean())
        return metrics | self._evaluate_held_out()

    def on_train_begin(self) -> None:
        """Do nothing: the loss of the first step is that of the initial weights."""

    def selection_metric(self, metrics: Mapping[str, float]) -> float | None:
        """Return the negative loss of the selection rows; None without them, so the last weights are kept.

        The held-out rows that are reported are not used for selection, which would bias their figures.
        """
        return -metrics["select/loss"] if "select/loss" in metrics else None

    def stop_reason(self) -> str | None:
        """Return None: training never ends early."""
        return None

    def summary(self, metrics: Mapping[str, float]) -> str:
        """Summarise loss and accuracy, and held-out accuracy with its interval and baseline, where there are any."""
        text = f"loss {metrics['loss']:.3f}"
        if "accuracy" in metrics:
            text += f"  accuracy {metrics['accuracy']:.2f}"
        if "eval/accuracy" in metrics:
            low, high = metrics["eval/accuracy_low"], metrics["eval/accuracy_high"]
            text += f"  held-out {metrics['eval/accuracy']:.3f} [{low:.3f}, {high:.3f}]"
        if "eval/majority_accuracy" in metrics:
            text += f" (majority baseline {metrics['eval/majority_accuracy']:.3f})"
        return text

    # -- state --------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """Return adapter, head and optimiser state."""
        return self.optimiser.tensors()

    def state(self) -> dict[str, Any]:
        """Return the token budget; the order of rows is a function of the step."""
        return {"micro_batch_tokens": self.micro_batcher.tokens}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore adapter, head, optimiser state and token budget."""
        self.optimiser.load(tensors)
        self.micro_batcher.tokens = int(state["micro_batch_tokens"])

    def save(self, folder: Path) -> None:
        """Calibrate, then write the adapter or all weights, the head and metadata.

        Weights that trained in float32 are rounded first, so that the calibration is that of the saved model.
        """
        self.backbone.round_trained_weights()
        metadata: dict[str, object] = {"max_length": self.max_length, "calibration": self._calibrate()}
        fingerprint = lineage_fingerprint(resolve(str(self.base)))
        self.model.save(folder, self.base, fingerprint, metadata)
        if self.on_saved is not None:
            self.on_saved(folder)

    # -- scores -------------------------------------------------------------------------------------

    def _scores(self, rows: Sequence[HeadRow]) -> Float[Tensor, "sides rows"]:
        """Score all sides of the rows in one forward."""
        return self.model.rewards(self._collate(rows)).view(len(self.side_names), len(rows))

    def _dump_tensors(self, rows: Sequence[HeadRow]) -> dict[str, Tensor]:
        """Return what a NaN dump holds: the sequences of `_collate`, and what the loss takes of each row."""
        return {**vars(self._collate(rows)), **self.row_tensors(rows)}

    def _collate(self, rows: Sequence[HeadRow]) -> TokenBatch:
        """Collate the first sides of all rows, then the second ones."""
        sides = [self.sides(row) for row in rows]
        sequences = [row_sides[side] for side in range(len(self.side_names)) for row_sides in sides]
        batch = collate(sequences, [[False] * len(tokens) for tokens in sequences], self.model.pad_token)
        return batch.to(self.backbone.device)

    def _micro_batches(self, rows: Sequence[HeadRow]) -> list[list[int]]:
        return self.micro_batcher.split([self.sides(row) for row in rows])

    @torch.no_grad()
    def _score(self, rows: Sequence[HeadRow], progress_label: str) -> np.ndarray:
        """Score all sides, [rows, sides], with OOM retry."""
        return self.micro_batcher.retry_on_oom(lambda: self._score_once(rows, progress_label))

    def _score_once(self, rows: Sequence[HeadRow], progress_label: str) -> np.ndarray:
        scores = np.zeros((len(rows), len(self.side_names)))
        for group in progress(self._micro_batches(rows), progress_label):
            scores[group] = self._scores([rows[i] for i in group]).T.cpu().numpy()
        return scores
