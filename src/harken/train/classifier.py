"""Train a classifier of responses: the score of the head is the log-odds of the positive label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy import special
from torch import Tensor

from harken.config import RunConfig
from harken.config.training import ClassifierTraining
from harken.errors import UserError
from harken.maths.classifier_loss import class_weights, weighted_cross_entropy
from harken.maths.statistics.auc import auc_interval
from harken.maths.statistics.intervals import Interval, clustered_mean_interval
from harken.models.adapted_model import AdaptedModel
from harken.records import TokenDemonstration
from harken.run.tracking import say
from harken.sycophancy.detection import detector_figures
from harken.train.groups import by_domain_and_language
from harken.train.head_stage import HeadStage


class ClassifierStage(HeadStage[TokenDemonstration]):
    """Train on labelled responses by binary cross-entropy; `desirable` is the positive label."""

    label = "classifier"
    row_noun = "responses"
    side_names = ("response",)

    def __init__(
        self,
        config: RunConfig,
        backbone: AdaptedModel,
        base: Path,
        rows: Sequence[TokenDemonstration],
        held_out: Sequence[TokenDemonstration],
    ) -> None:
        assert isinstance(config.training, ClassifierTraining)
        self.settings = config.training
        positive = sum(_labels(rows))
        if not 0 < positive < len(rows):
            raise UserError(
                f"all {len(rows):,} training responses have the same label",
                where=config.data.path,
                fix="name a file with responses of both labels, or lower data.eval_fraction",
            )
        self.weights = class_weights(
            positive,
            len(rows) - positive,
            balanced=self.settings.class_weights == "balanced",
            positive_weight=self.settings.desirable_weight,
            negative_weight=self.settings.undesirable_weight,
        )
        say(
            f"classifier: {positive:,} positive responses of weight {self.weights[0]:.3g}, "
            f"{len(rows) - positive:,} negative of weight {self.weights[1]:.3g}"
        )
        super().__init__(config, backbone, base, rows, held_out)

    def initial_deviation(self, width: int) -> float:
        """Return a tenth of a reward model's initial deviation.

        In a pair, what both sides have in common cancels; in a single response it does not. A small deviation makes
        training start near log-odds of 0. At exactly 0 the adapter would get no gradient.
        """
        return 0.1 * super().initial_deviation(width)

    def sides(self, row: TokenDemonstration) -> tuple[tuple[int, ...], ...]:
        """Return the one sequence of a row: prompt and response."""
        return (row.tokens,)

    def losses(
        self, scores: Float[Tensor, "sides rows"], rows: Sequence[TokenDemonstration]
    ) -> Float[Tensor, " rows"]:
        """Compute the weighted cross-entropy of each response."""
        labels = scores.new_tensor(_labels(rows), dtype=scores.dtype)
        positive, negative = self.weights
        weights = torch.where(labels > 0, positive, negative)
        return weighted_cross_entropy(scores[0], labels, weights, self.settings.label_smoothing)

    def step_metrics(self, scores: np.ndarray, rows: Sequence[TokenDemonstration]) -> dict[str, float]:
        """Measure accuracy at probability one half."""
        return {"accuracy": float(np.mean(_correct(scores[:, 0], rows)))}

    def row_tensors(self, rows: Sequence[TokenDemonstration]) -> dict[str, Tensor]:
        """Return the labels."""
        return {"label": torch.tensor(_labels(rows))}

    def _evaluate_held_out(self) -> dict[str, float]:
        """Measure loss, accuracy and calibration; and AUC, precision and recall where both labels are held out.

        `eval/majority_accuracy` is that of always predicting the label that is more frequent among the held-out rows.
        """
        rows = self.held_out
        if not rows:
            return {}
        log_odds = self._score(rows, "classifier: held-out responses")[:, 0]
        scores = torch.as_tensor(log_odds, dtype=torch.float32)[None]
        metrics = {"eval/loss": float(self.losses(scores, rows).mean()), "eval/rows": float(len(rows))}
        correct = [float(hit) for hit in _correct(log_odds, rows)]
        prompts = [str(row.tokens[: row.response_mask.index(True)]) for row in rows]
        metrics |= _with_bounds(
            "eval/accuracy", clustered_mean_interval(correct, prompts, limits=(0.0, 1.0)), (0.0, 1.0)
        )
        metrics |= by_domain_and_language("eval/accuracy", rows, correct, [1.0] * len(rows))
        labels = np.array(_labels(rows), dtype=bool)
        metrics["eval/majority_accuracy"] = float(max(labels.mean(), 1 - labels.mean()))
        if labels.all() or not labels.any():
            return metrics
        # A detector looks for undesirable responses, so precision and recall are those of the undesirable label.
        figures = detector_figures(special.expit(-log_odds).tolist(), (~labels).tolist(), prompts)
        metrics |= _with_bounds("eval/auc", auc_interval(log_odds, labels, prompts))
        metrics |= {"eval/brier": figures.brier.mean, "eval/ece": figures.calibration_error}
        for name, interval in (("precision", figures.precision), ("recall", figures.recall)):
            if interval is not None:
                metrics |= _with_bounds(f"eval/{name}", interval, (0.0, 1.0))
        return metrics

    def _calibrate(self) -> str:
        """Keep the scores as they are: they are log-odds already."""
        return "log_odds"


def _labels(rows: Sequence[TokenDemonstration]) -> list[int]:
    return [int(bool(row.desirable)) for row in rows]


def _correct(log_odds: np.ndarray, rows: Sequence[TokenDemonstration]) -> np.ndarray:
    """Return whether each row is on the side of its label; log-odds of 0 are wrong for both."""
    signs = 2 * np.array(_labels(rows)) - 1
    return np.asarray(log_odds * signs > 0)


def _with_bounds(name: str, interval: Interval, limits: tuple[float, float] = (0.0, 1.0)) -> dict[str, float]:
    low, high = np.clip([interval.low, interval.high], *limits)
    return {name: interval.mean, f"{name}_low": float(low), f"{name}_high": float(high)}
