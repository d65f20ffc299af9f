"""What every training type shares, and the keys of the two supervised ones."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harken.config.base import Count, NonNegative, Positive, PositiveInt, Rate, Size, Strict


class Optimisation(Strict):
    """What every training type shares."""

    lr: Rate
    lr_schedule: Literal["constant", "linear", "cosine"] = "linear"
    """From `lr` to 0 over the run, after the warm-up."""
    warmup_steps: Count = 0
    weight_decay: NonNegative = 0.0
    adam_eps: Positive = 1e-8
    max_grad_norm: Positive = 1.0
    optimizer: Literal["adamw", "adamw_cpu_offload", "adamw_8bit"] = "adamw"
    """AdamW; the same numbers with its moments in the computer's memory; or moments of 8 bits (docs/memory.md)."""
    micro_batch_tokens: PositiveInt = 4096
    """Tokens, padding included, in one forward and backward. Changes memory and speed, never the result.

    Halved for the rest of the run when memory runs out.
    """
    gradient_checkpointing: bool = False
    """Keep only the input of each layer and run the layer again backward: less memory, more time, the same result."""
    max_skipped_steps: Count = 3
    """Steps in a row that are skipped because a number in them is NaN or infinite; one more ends the run.

    0: the first ends it. A skipped step changes nothing, and leaves a dump in nan_dumps/ (docs/health.md).
    """
    eval_every: PositiveInt = 50
    """Steps between evaluations on the held-out rows; there is always one at the end."""
    patience: PositiveInt | None = None
    """End the run after so many held-out evaluations without a better one. Left out: go to the end."""


class SupervisedTraining(Optimisation):
    """Supervised fine-tuning on demonstrations, or on the chosen side of preferences."""

    type: Literal["sft"]
    lr: Rate = 2e-4
    batch_size: Size = 16
    epochs: Size = 1
    max_steps: PositiveInt | None = None


class RewardTraining(Optimisation):
    """A scalar reward head and adapter, trained on preferences by the Bradley–Terry loss."""

    type: Literal["reward"]
    lr: Rate = 1e-4
    batch_size: Size = 16
    """Pairs in an optimiser step."""
    epochs: Size = 1
    max_steps: PositiveInt | None = None
    strength: Literal["ignore", "weight", "margin"] = "ignore"
    """How much better the chosen answer is: not used, the weight max(1, strength) of its pair, or a margin."""
    margin_scale: NonNegative = 1.0
    """With `strength: margin`: margin = scale × strength, in units of reward."""
    centre_coef: NonNegative = 0.01
    """Weight of (r_chosen + r_rejected)², which keeps rewards near zero."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    ties: Literal["soft", "drop"] = "soft"
    """Ties train towards a probability of one half, or are left out."""
    normalise: Literal["none", "centre", "standardise"] = "centre"
    """Saved with the model, applied when it scores: nothing, mean 0, or mean 0 and spread 1 on its training answers."""

    @model_validator(mode="after")
    def _no_patience(self) -> RewardTraining:
        if self.patience is not None:
            raise ValueError(
                "a reward model keeps its last weights, patience has nothing to go by: set epochs or max_steps"
            )
        return self
