"""Copy the trainable state before an update, so that the update can be rolled back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from harken.config.ppo import PPOSettings
from harken.train.ppo.learner import Learner


class Snapshot:
    """Weights and optimiser state before an update, held in host memory during it."""

    def __init__(self, learner: Learner, settings: PPOSettings) -> None:
        self.learner = learner
        # A single optimiser step is checked for non-finite values before it changes a weight, so there is nothing to
        # roll back.
        self.needed = (
            settings.epochs * settings.minibatches > 1
            or settings.update_kl_limit is not None
            or settings.kl_budget is not None
        )
        self.tensors: Mapping[str, Tensor] = {}

    def take(self) -> None:
        """Copy weights and optimiser state, if a rollback can be needed."""
        if self.needed:
            self.tensors = {n: t.detach().to("cpu", copy=True) for n, t in self.learner.tensors().items()}

    def restore(self) -> None:
        """Roll the learner back to the copy, if one was taken."""
        if self.tensors:
            self.learner.load(self.tensors)

    def drop(self) -> None:
        """Free the copy."""
        self.tensors = {}
