"""KL control that acts: the coefficient, taking back an update that went too far, and the run's budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.config.ppo import PPOSettings
from harken.maths.kl import adaptive_coefficient, k3, scheduled_coefficient
from harken.train.ppo.learner import Learner

ROLLBACKS_IN_A_ROW = 3
"""So many updates taken back one after the other end the run: the next would be no better."""
_BUDGET = "inside_budget/"


class KLControl:
    """`begin` an update, let it learn, `end` it. Every KL here is in nats per sequence."""

    def __init__(self, settings: PPOSettings, learner: Learner) -> None:
        self.settings, self.learner = settings, learner
        self.coefficient = settings.kl_coef
        self.stop_reason: str | None = None
        self._rollbacks = 0
        self._before: dict[str, Tensor] = {}
        """What trains, with its moments, as it was before the update: in the computer's memory, during the update."""
        self._coefficient_before = settings.kl_coef
        self._inside: dict[str, Tensor] = {}

    def begin(self, number: int) -> float:
        """The coefficient of update `number` (from 0). Keeps what the update may have to go back to."""
        s = self.settings
        self._coefficient_before = self.coefficient
        if s.kl_control in ("linear", "cosine"):
            assert s.kl_coef_final is not None
            self.coefficient = scheduled_coefficient(
                s.kl_control, s.kl_coef, s.kl_coef_final, number, s.updates
            )
        # A single optimiser step sees a number that is not finite before it moves: nothing to go back to.
        if s.epochs * s.minibatches > 1 or s.update_kl_limit is not None or s.kl_budget is not None:
            self._before = {n: t.detach().to("cpu", copy=True) for n, t in self.learner.tensors().items()}
        return self.coefficient

    def take_back(self) -> None:
        """The update that was begun, if any, never was: weights, moments and coefficient are those of before."""
        if self._before:
            self.learner.load(self._before)
        self._before = {}
        self.coefficient = self._coefficient_before

    def end(
        self,
        kl_to_reference: float,
        sequences: int,
        old_logprobs: Float[Tensor, "batch time"],
        new_logprobs: Float[Tensor, "batch time"] | None,
        response_mask: Bool[Tensor, "batch time"],
    ) -> dict[str, float]:
        """Judge the update by the KL of its rollouts to the reference, and by how far it moved.

        `new_logprobs` are those of the same tokens after the update (needed for `update_kl_limit`).
        """
        metrics = {"kl/coef": self.coefficient}
        if new_logprobs is not None:
            moved = float(torch.where(response_mask, k3(old_logprobs, new_logprobs), 0.0).sum()) / sequences
            metrics |= {"kl/update": moved, "update/rolled_back": 0.0}
            if self.settings.update_kl_limit is not None and not moved <= self.settings.update_kl_limit:
                self.learner.load(self._before)
                metrics["update/rolled_back"] = 1.0
                self._rollbacks += 1
                if self._rollbacks == ROLLBACKS_IN_A_ROW:
                    self.stop_reason = (
                        f"{ROLLBACKS_IN_A_ROW} updates in a row moved more than update_kl_limit "
                        f"{self.settings.update_kl_limit:g} nats per sequence: lower training.lr or training.ppo.epochs"
                    )
            else:
                self._rollbacks = 0
        self._watch_budget(kl_to_reference)
        if self.settings.kl_control == "adaptive":
            self._adapt(kl_to_reference, sequences)
        self._before = {}
        self._coefficient_before = self.coefficient
        return metrics

    def _watch_budget(self, kl: float) -> None:
        """Rollouts show the policy that made them: over budget, the one before it was the last inside."""
        budget = self.settings.kl_budget
        if budget is None:
            return
        if kl <= budget:
            self._inside = {name: t for name, t in self._before.items() if name.startswith("parameter/")}
            return
        kept = "the policy was outside from the start"
        if self._inside:
            self.learner.load(self._inside)
            kept = "the weights of the last policy inside are kept"
        self.stop_reason = (
            f"kl_budget: {kl:.1f} nats per sequence from the reference exceed {budget:g}; {kept}"
        )

    def _adapt(self, kl: float, sequences: int) -> None:
        s = self.settings
        proposed = adaptive_coefficient(self.coefficient, kl, s.kl_target, s.kl_horizon, sequences)
        self.coefficient = min(max(proposed, s.kl_coef_min), s.kl_coef_max)

    def tensors(self) -> dict[str, Tensor]:
        """The weights of the last policy known to be inside the budget."""
        return {_BUDGET + name: t for name, t in self._inside.items()}

    def state(self) -> dict[str, Any]:
        """Coefficient, count of rollbacks, and whether the run was told to stop."""
        return {"coefficient": self.coefficient, "rollbacks": self._rollbacks, "stop": self.stop_reason}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put both back."""
        self.coefficient, self._rollbacks = float(state["coefficient"]), int(state["rollbacks"])
        self._coefficient_before = self.coefficient
        self.stop_reason = None if state["stop"] is None else str(state["stop"])
        self._inside = {n.removeprefix(_BUDGET): t for n, t in tensors.items() if n.startswith(_BUDGET)}
