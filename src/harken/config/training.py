"""Define the settings that all training types share, and the configurations of SFT and reward-model training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harken.config.base import Count, NonNegative, Positive, PositiveInt, Rate, Size, Strict
from harken.config.card import CardSettings


class Optimisation(Strict):
    """The optimisation settings that all training types share."""

    lr: Rate
    lr_schedule: Literal["constant", "linear", "cosine"] = "linear"
    """From `lr` to 0 over the run, after the warm-up."""
    warmup_steps: Count = 0
    weight_decay: NonNegative = 0.0
    adam_eps: Positive = 1e-8
    max_grad_norm: Positive = 1.0
    optimizer: Literal["adamw", "adamw_cpu_offload", "adamw_8bit"] = "adamw"
    """AdamW; AdamW with its moments in host memory, with identical results; or 8-bit AdamW (docs/memory.md)."""
    micro_batch_tokens: PositiveInt = 4096
    """Tokens, padding included, in one forward and backward. Changes memory and speed, not the result.

    Halved for the rest of the run on out-of-memory.
    """
    gradient_checkpointing: bool = False
    """Store only each layer's input and recompute the layer in the backward pass: less memory, slower, same result."""
    max_skipped_steps: Count = 3
    """Maximum steps in a row that are skipped because of a NaN or infinity; one more ends the run.

    0: the first ends it. A skipped step changes no weights, and leaves a dump in nan_dumps/ (docs/health.md).
    """
    eval_every: PositiveInt = 50
    """Steps between evaluations on the held-out rows; the last step always has one."""
    patience: PositiveInt | None = None
    """End the run after this many held-out evaluations without an improvement. Default: never."""


class SupervisedTraining(Optimisation):
    """Supervised fine-tuning on demonstrations, or on the chosen side of preferences."""

    type: Literal["sft"]
    lr: Rate = 2e-4
    batch_size: Size = 16
    epochs: Size = 1
    max_steps: PositiveInt | None = None


class HeadTraining(Optimisation):
    """What training of a scalar head shares: reward models and classifiers."""

    lr: Rate = 1e-4
    batch_size: Size = 16
    epochs: Size = 1
    max_steps: PositiveInt | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    selection_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the held-out prompts that select the best checkpoint, by their loss; they are left out of all other
    held-out metrics. 0: the last weights are kept."""

    @model_validator(mode="after")
    def _no_patience(self) -> HeadTraining:
        if self.patience is not None and not self.selection_fraction:
            raise ValueError(
                "a model with a scalar head keeps its last weights and has no best checkpoint for patience. "
                "Fix: set epochs or max_steps, or selection_fraction"
            )
        return self


class RewardTraining(HeadTraining):
    """A scalar reward head and adapter, trained on preferences by the Bradley–Terry loss."""

    type: Literal["reward"]
    batch_size: Size = 16
    """Pairs per optimiser step."""
    strength: Literal["ignore", "weight", "margin"] = "ignore"
    """Use of the preference strength: none, as the pair's weight max(1, strength), or as a margin."""
    margin_scale: NonNegative = 1.0
    """With `strength: margin`: margin = scale × strength, in units of reward."""
    centre_coef: NonNegative = 0.01
    """Weight of (r_chosen + r_rejected)², which keeps rewards near zero."""
    ties: Literal["soft", "drop"] = "soft"
    """soft: the label of a tie is 0.5. drop: ties are removed."""
    normalise: Literal["none", "centre", "standardise"] = "centre"
    """Normalisation of the saved model's scores on training responses: none, mean 0, or mean 0 and deviation 1."""
    card: CardSettings = CardSettings()


class ClassifierTraining(HeadTraining):
    """A scalar head and adapter, trained on labelled responses by binary cross-entropy: its score is a log-odds."""

    type: Literal["classifier"]
    batch_size: Size = 16
    """Responses per optimiser step."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: rows of the rarer label weigh more, so that both labels weigh the same in sum."""
    desirable_weight: Positive = 1.0
    """Weight of the responses with the positive label, times that of `class_weights`."""
    undesirable_weight: Positive = 1.0
    """Weight of the others, times that of `class_weights`. Weights shift the probabilities on purpose."""
