"""Train a reward model: score the chosen response above the rejected one (Bradley–Terry)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from harken.card.calibrated import training_calibration
from harken.config import RunConfig
from harken.config.training import RewardTraining
from harken.errors import UserError
from harken.maths.preference_loss import soft_bradley_terry
from harken.maths.statistics.intervals import wilson_interval
from harken.models.adapted_model import AdaptedModel
from harken.records import TokenPair
from harken.train.groups import mean_by_group
from harken.train.head_stage import HeadStage
from harken.train.sampler import batch_indices

CALIBRATION_PAIRS = 256


class RewardStage(HeadStage[TokenPair]):
    """Train on pairs. The label of a tie or soft preference is its probability."""

    label = "RM"
    row_noun = "pairs"
    side_names = ("chosen", "rejected")

    def __init__(
        self,
        config: RunConfig,
        backbone: AdaptedModel,
        base: Path,
        pairs: Sequence[TokenPair],
        held_out: Sequence[TokenPair],
    ) -> None:
        assert isinstance(config.training, RewardTraining)
        self.settings = config.training
        if self.settings.ties == "drop":
            pairs = [pair for pair in pairs if pair.label != 0.5]
        if not pairs:
            raise UserError("no preference is left once ties are dropped", where=config.data.path)
        super().__init__(config, backbone, base, pairs, held_out)

    def sides(self, row: TokenPair) -> tuple[tuple[int, ...], ...]:
        """Return both sides of a pair."""
        return row.chosen_tokens, row.rejected_tokens

    def losses(
        self, scores: Float[Tensor, "sides rows"], rows: Sequence[TokenPair]
    ) -> Float[Tensor, " rows"]:
        """Compute the loss of each pair."""
        return self.loss(scores[0], scores[1], rows)

    def step_metrics(self, scores: np.ndarray, rows: Sequence[TokenPair]) -> dict[str, float]:
        """Measure mean and spread of the rewards, accuracy and margin."""
        spread = {"reward/mean": float(scores.mean()), "reward/std": float(scores.std())}
        return spread | _accuracy(scores, rows)

    def row_tensors(self, rows: Sequence[TokenPair]) -> dict[str, Tensor]:
        """Return each pair's label and strength."""
        label = torch.tensor([pair.label for pair in rows])
        strength = torch.tensor([pair.strength for pair in rows])
        return {"label": label, "strength": strength}

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

    def _evaluate_held_out(self) -> dict[str, float]:
        """Measure loss, margin, calibration and strict accuracy with its 95 % interval, also by group."""
        if not self.held_out:
            return {}
        rewards = self._score(self.held_out, "RM: held-out pairs")
        tensors = torch.as_tensor(rewards, dtype=torch.float32)
        loss = self.loss(tensors[:, 0], tensors[:, 1], self.held_out).mean()
        metrics = {"eval/loss": float(loss)}
        metrics |= {f"eval/{key}": value for key, value in _accuracy(rewards, self.held_out).items()}
        preferred = [i for i, pair in enumerate(self.held_out) if pair.label != 0.5]
        metrics |= {"eval/reward/mean": float(rewards.mean()), "eval/reward/std": float(rewards.std())}
        labels = np.array([pair.label for pair in self.held_out])
        calibration = training_calibration(rewards[:, 0] - rewards[:, 1], labels)
        metrics |= {f"eval/{name}": value for name, value in calibration.items()}
        metrics["eval/pairs"] = float(len(preferred))
        if preferred:
            low, high = wilson_interval(_num_correct(rewards, self.held_out), len(preferred))
            metrics |= {"eval/accuracy_low": low, "eval/accuracy_high": high}
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

    def _calibrate(self) -> str:
        """Normalise the scores of training responses."""
        if self.settings.normalise != "none":
            sample = batch_indices(0, len(self.rows), CALIBRATION_PAIRS, self.seed, "RM calibration")
            rewards = self._score([self.rows[i] for i in sample], "RM: calibrating")
            self.model.offset = float(rewards.mean())
            if self.settings.normalise == "standardise":
                self.model.scale = 1.0 / max(float(rewards.std()), 1e-6)
        return self.settings.normalise


def _num_correct(rewards: np.ndarray, pairs: Sequence[TokenPair]) -> int:
    """Count the pairs whose preferred side scores strictly higher; labels that are ties do not count."""
    gap = rewards[:, 0] - rewards[:, 1]
    preferred = np.sign(np.array([pair.label for pair in pairs]) - 0.5)
    return int(((gap * preferred) > 0).sum())


def _accuracy(rewards: np.ndarray, pairs: Sequence[TokenPair]) -> dict[str, float]:
    """Return accuracy and margin over the pairs with a preferred side; {} without any."""
    preferred = np.sign(np.array([pair.label for pair in pairs]) - 0.5)
    pairs_with_preference = int((preferred != 0).sum())
    if not pairs_with_preference:
        return {}
    margin = ((rewards[:, 0] - rewards[:, 1]) * preferred)[preferred != 0]
    return {
        "accuracy": _num_correct(rewards, pairs) / pairs_with_preference,
        "margin": float(margin.mean()),
    }
