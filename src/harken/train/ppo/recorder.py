"""Write each update's rollouts and per-token columns, for `harken trace` and `harken replay`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from harken.batches import PolicyOutputs, TokenBatch
from harken.records import ScoredRollout
from harken.run.credit_table import write_credit
from harken.run.folder import RunFolder
from harken.run.tables import write_scored_rollouts
from harken.train.ppo.targets import PPOTargets, token_columns


class Recorder:
    """Write one parquet file per update to `rollouts/` and one to `credit/`."""

    def __init__(self, run: RunFolder, *, has_critic: bool) -> None:
        self.run, self.has_critic = run, has_critic

    def write(
        self, step: int, scored: Sequence[ScoredRollout], batch: TokenBatch, old: PolicyOutputs,
        ref_logprobs: Tensor, new_logprobs: Tensor | None, targets: PPOTargets, kl_coef: float,
    ) -> None:  # fmt: skip
        """Write update `step` (from 1). `new_logprobs`: after the update, before a rollback; None if not computed."""
        name = f"update-{step:06d}.parquet"
        write_scored_rollouts(self.run.rollouts / name, scored, step=step)
        assert old.final_values is not None
        write_credit(
            self.run.credit / name,
            scored,
            batch.response_mask,
            token_columns(targets, ref_logprobs, new_logprobs, old.entropy, critic=self.has_critic),
            kl_coef=kl_coef,
            final_values=old.final_values.tolist() if self.has_critic else None,
            step=step,
        )
