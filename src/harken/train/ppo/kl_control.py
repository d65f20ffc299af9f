"""The four limits on KL, from the gentlest to the last (docs/kl_control.md).

KLCoefficient    how much a nat costs                          kl_coef, kl_control
KLEarlyStop      ends the epochs of an update                  target_kl_per_token
UpdateRollback   undoes an update that moved too far           update_kl_limit
KLBudget         ends the run that is too far from the start   kl_budget
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harken.config.ppo import PPOSettings
from harken.maths.kl import adaptive_coefficient, k3, scheduled_coefficient

MAX_ROLLBACKS_IN_A_ROW = 3
"""After this many updates were rolled back in a row the run ends: the next would be no better."""
_BUDGET = "inside_budget/"


class KLCoefficient:
    """Constant, scheduled, or adapted to a target KL in nats per sequence."""

    def __init__(self, settings: PPOSettings) -> None:
        self.settings, self.value = settings, settings.kl_coef

    def for_update(self, number: int) -> float:
        """The coefficient of update `number` (from 0)."""
        s = self.settings
        if s.kl_control in ("linear", "cosine"):
            assert s.kl_coef_final is not None
            self.value = scheduled_coefficient(s.kl_control, s.kl_coef, s.kl_coef_final, number, s.updates)
        return self.value

    def adapt(self, kl: float, sequences: int) -> None:
        """Move an adaptive coefficient by the KL of `sequences` responses to the reference."""
        s = self.settings
        if s.kl_control == "adaptive":
            proposed = adaptive_coefficient(self.value, kl, s.kl_target, s.kl_horizon, sequences)
            self.value = min(max(proposed, s.kl_coef_min), s.kl_coef_max)


class KLEarlyStop:
    """Ends an update whose policy is `limit` nats per token from the one that sampled. None: never."""

    def __init__(self, limit: float | None) -> None:
        self.limit = limit

    def reached(self, approxkl: float) -> bool:
        """Whether no further optimiser step should follow one that measured `approxkl`, nats per token."""
        return self.limit is not None and approxkl > self.limit


class UpdateRollback:
    """Undoes an update that moved the policy more than `limit` nats per sequence. None: never."""

    def __init__(self, limit: float | None) -> None:
        self.limit, self.in_a_row = limit, 0
        self.stop_reason: str | None = None

    def judge(
        self,
        old_logprobs: Float[Tensor, "batch time"],
        new_logprobs: Float[Tensor, "batch time"],
        response_mask: Bool[Tensor, "batch time"],
        restore: Callable[[], None],
    ) -> dict[str, float]:
        """Measure an update by its own rollouts and `restore` what was before it, if it went too far."""
        k3_sum = torch.where(response_mask, k3(old_logprobs, new_logprobs), 0.0).sum()
        moved = float(k3_sum) / len(old_logprobs)
        too_far = self.limit is not None and not moved <= self.limit  # NaN is too far as well
        self.in_a_row = self.in_a_row + 1 if too_far else 0
        if too_far:
            restore()
        if self.in_a_row == MAX_ROLLBACKS_IN_A_ROW:
            self.stop_reason = (
                f"{MAX_ROLLBACKS_IN_A_ROW} updates in a row moved more than update_kl_limit "
                f"{self.limit:g} nats per sequence: lower training.lr or training.ppo.epochs"
            )
        return {"kl/update": moved, "update/rolled_back": float(too_far)}


class KLBudget:
    """Ends a run whose policy is more than `budget` nats per sequence from the reference. None: never."""

    def __init__(self, budget: float | None) -> None:
        self.budget = budget
        self.stop_reason: str | None = None
        self._inside: dict[str, Tensor] = {}
        """The weights of the last policy known to be inside the budget."""

    def judge(
        self, kl: float, weights: Mapping[str, Tensor], restore: Callable[[Mapping[str, Tensor]], None]
    ) -> None:
        """Judge the policy that sampled, whose `weights` these were, by its KL to the reference.

        Rollouts show the policy before the update: over budget, the one before that was the last inside.
        """
        if self.budget is None:
            return
        if kl <= self.budget:
            self._inside = {name: t for name, t in weights.items() if name.startswith("parameter/")}
            return
        outcome = "the policy was outside from the start"
        if self._inside:
            restore(self._inside)
            outcome = "the weights of the last policy inside are kept"
        self.stop_reason = (
            f"kl_budget: {kl:.1f} nats per sequence from the reference exceed {self.budget:g}; {outcome}"
        )

    def tensors(self) -> dict[str, Tensor]:
        """The weights of the last policy known to be inside the budget."""
        return {_BUDGET + name: t for name, t in self._inside.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore `tensors`."""
        self._inside = {n.removeprefix(_BUDGET): t for n, t in tensors.items() if n.startswith(_BUDGET)}


class KLControl:
    """What of the four outlives an update, and its saved state."""

    def __init__(self, settings: PPOSettings) -> None:
        self.coefficient = KLCoefficient(settings)
        self.rollback = UpdateRollback(settings.update_kl_limit)
        self.budget = KLBudget(settings.kl_budget)
        self._stop: str | None = None

    @property
    def stop_reason(self) -> str | None:
        """Why the run should end; None to go on."""
        return self.budget.stop_reason or self.rollback.stop_reason or self._stop

    def state(self) -> dict[str, Any]:
        """The coefficient, the count of rollbacks, and why the run was told to stop."""
        return {
            "coefficient": self.coefficient.value,
            "rollbacks": self.rollback.in_a_row,
            "stop": self.stop_reason,
        }

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore what `state` and the budget's `tensors` gave."""
        self.coefficient.value, self.rollback.in_a_row = float(state["coefficient"]), int(state["rollbacks"])
        self._stop = None if state["stop"] is None else str(state["stop"])
        self.budget.load(tensors)
