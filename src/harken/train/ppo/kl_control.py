"""Limit the KL in four ways: a coefficient and three hard limits (docs/kl_control.md).

KLCoefficient    weights the KL penalty                                   kl_coef, kl_control
KLEarlyStop      ends the epochs of an update                             target_kl_per_token
UpdateRollback   rolls back an update that changed the policy too much    update_kl_limit
KLBudget         ends a run that is too far from the reference            kl_budget
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
"""End the run after this many consecutive rollbacks; the next update would probably be rolled back too."""
_WITHIN_BUDGET = "inside_budget/"
"""Prefix of the budget's tensors in a checkpoint."""


class KLCoefficient:
    """The KL coefficient β: constant, scheduled, or adapted to a target KL in nats per sequence."""

    def __init__(self, settings: PPOSettings) -> None:
        self.settings, self.value = settings, settings.kl_coef

    def for_update(self, update: int) -> float:
        """Return the coefficient of update number `update` (from 0)."""
        s = self.settings
        if s.kl_control in ("linear", "cosine"):
            assert s.kl_coef_final is not None
            self.value = scheduled_coefficient(s.kl_control, s.kl_coef, s.kl_coef_final, update, s.updates)
        return self.value

    def adapt(self, kl: float, sequences: int) -> None:
        """Adapt the coefficient to `kl`, the mean KL from the reference over `sequences` responses."""
        s = self.settings
        if s.kl_control == "adaptive":
            proposed = adaptive_coefficient(self.value, kl, s.kl_target, s.kl_horizon, sequences)
            self.value = min(max(proposed, s.kl_coef_min), s.kl_coef_max)


class KLEarlyStop:
    """End an update once KL(old‖new) exceeds `limit` nats per token. None: never."""

    def __init__(self, limit: float | None) -> None:
        self.limit = limit

    def reached(self, approxkl: float) -> bool:
        """Return whether `approxkl`, measured by the latest optimiser step, exceeds the limit."""
        return self.limit is not None and approxkl > self.limit


class UpdateRollback:
    """Roll back an update whose KL(old‖new) exceeds `limit` nats per sequence. None: never."""

    def __init__(self, limit: float | None) -> None:
        self.limit, self.in_a_row = limit, 0
        self.stop_reason: str | None = None

    def check(
        self,
        old_logprobs: Float[Tensor, "batch time"],
        new_logprobs: Float[Tensor, "batch time"],
        response_mask: Bool[Tensor, "batch time"],
        restore: Callable[[], None],
    ) -> dict[str, float]:
        """Measure KL(old‖new) on the update's own rollouts, and call `restore` if it exceeds the limit."""
        k3_sum = torch.where(response_mask, k3(old_logprobs, new_logprobs), 0.0).sum()
        update_kl = float(k3_sum) / len(old_logprobs)
        exceeded = self.limit is not None and not update_kl <= self.limit  # also for NaN
        self.in_a_row = self.in_a_row + 1 if exceeded else 0
        if exceeded:
            restore()
        if self.in_a_row == MAX_ROLLBACKS_IN_A_ROW:
            self.stop_reason = (
                f"{MAX_ROLLBACKS_IN_A_ROW} updates in a row exceeded update_kl_limit, "
                f"{self.limit:g} nats per sequence: lower training.lr or training.ppo.epochs"
            )
        return {"kl/update": update_kl, "update/rolled_back": float(exceeded)}


class KLBudget:
    """End a run whose policy is more than `budget` nats per sequence from the reference. None: never."""

    def __init__(self, budget: float | None) -> None:
        self.budget = budget
        self.stop_reason: str | None = None
        self._within: dict[str, Tensor] = {}
        """The weights of the last policy known to be within the budget."""

    def check(
        self, kl: float, weights: Mapping[str, Tensor], restore: Callable[[Mapping[str, Tensor]], None]
    ) -> None:
        """Compare `kl`, that of the sampling policy (with these `weights`) from the reference, with the budget.

        `kl` was measured on rollouts, before this update. If it exceeds the budget, the previous update's weights are
        the last within it; `restore` loads them.
        """
        if self.budget is None:
            return
        if kl <= self.budget:
            self._within = {name: t for name, t in weights.items() if name.startswith("parameter/")}
            return
        outcome = "the policy exceeded it from the start"
        if self._within:
            restore(self._within)
            outcome = "the weights of the last policy within it are kept"
        self.stop_reason = (
            f"kl_budget: {kl:.1f} nats per sequence from the reference exceed {self.budget:g}; {outcome}"
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return the weights of the last policy known to be within the budget."""
        return {_WITHIN_BUDGET + name: t for name, t in self._within.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore `tensors`."""
        self._within = {
            n.removeprefix(_WITHIN_BUDGET): t for n, t in tensors.items() if n.startswith(_WITHIN_BUDGET)
        }


class KLControl:
    """The parts of KL control that last longer than one update, with their saved state."""

    def __init__(self, settings: PPOSettings) -> None:
        self.coefficient = KLCoefficient(settings)
        self.rollback = UpdateRollback(settings.update_kl_limit)
        self.budget = KLBudget(settings.kl_budget)
        self._loaded_stop_reason: str | None = None

    @property
    def stop_reason(self) -> str | None:
        """Why the run should end; None to continue."""
        return self.budget.stop_reason or self.rollback.stop_reason or self._loaded_stop_reason

    def state(self) -> dict[str, Any]:
        """Return the coefficient, the rollbacks in a row and the stop reason, as JSON."""
        return {
            "coefficient": self.coefficient.value,
            "rollbacks": self.rollback.in_a_row,
            "stop": self.stop_reason,
        }

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore `state` and the budget's `tensors`."""
        self.coefficient.value, self.rollback.in_a_row = float(state["coefficient"]), int(state["rollbacks"])
        self._loaded_stop_reason = None if state["stop"] is None else str(state["stop"])
        self.budget.load(tensors)
