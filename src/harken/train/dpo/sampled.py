"""Sample responses to held-out prompts and measure their KL from the reference, length and diversity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from harken.batches import TokenBatch, collate
from harken.models.roles import Policy
from harken.records import Prompt, Rollout
from harken.rollout.engine import Engine, Sampling
from harken.train.oom_retry import MicroBatcher
from harken.train.ppo.metrics import response_metrics


class SampledResponses:
    """Sample one response to each prompt, with the same random draws each time, and compare with the reference.

    DPO trains on responses that others wrote, so its KL and lengths can only be measured on responses that it samples.
    """

    def __init__(
        self,
        engine: Engine,
        prompts: Sequence[Prompt],
        sampling: Sampling,
        policy: Policy,
        reference: Policy,
        micro_batcher: MicroBatcher,
        purpose: str,
    ) -> None:
        self.engine, self.prompts, self.sampling = engine, list(prompts), sampling
        self.policy, self.reference, self.micro_batcher, self.purpose = (
            policy,
            reference,
            micro_batcher,
            purpose,
        )
        self.tokens_at_start: float | None = None
        """Mean tokens of a response before training; None until it is measured."""

    def measure(self, done: int) -> dict[str, float]:
        """Measure KL (nats per sequence), length and rates after `done` steps; {} without prompts.

        `eval/tokens_change` is the mean length divided by the mean length before training (`done` 0).
        """
        if not self.prompts:
            return {}
        rollouts = self.engine.generate(self.prompts, self.sampling, f"step-{done}", self.purpose)
        metrics = response_metrics(rollouts, "eval")
        if done == 0:
            self.tokens_at_start = metrics["eval/tokens_mean"]
        if self.tokens_at_start:
            metrics["eval/tokens_change"] = metrics["eval/tokens_mean"] / self.tokens_at_start
        kl = self._kl(rollouts)
        metrics["eval/kl/mean"] = float(kl.mean())
        if len(kl) > 1:
            metrics["eval/kl/std_error"] = float(kl.std()) / len(kl) ** 0.5
        return metrics

    def state(self) -> dict[str, Any]:
        """Return the length before training, as JSON."""
        return {"tokens_at_start": self.tokens_at_start}

    def load(self, state: dict[str, Any]) -> None:
        """Restore `state`."""
        start = state["tokens_at_start"]
        self.tokens_at_start = None if start is None else float(start)

    def _kl(self, rollouts: Sequence[Rollout]) -> Tensor:
        """Compute log π − log π_ref of each response, [responses], nats."""
        return self._logprobs(self.policy, rollouts) - self._logprobs(self.reference, rollouts)

    def _logprobs(self, model: Policy, rollouts: Sequence[Rollout]) -> Tensor:
        return self.micro_batcher.retry_on_oom(
            lambda: response_logprobs(model, rollouts, self.sampling.temperature, self.micro_batcher)
        )


@torch.no_grad()
def response_logprobs(
    model: Policy, rollouts: Sequence[Rollout], temperature: float, micro_batcher: MicroBatcher
) -> Tensor:
    """Compute the summed log-probability of each response under `model`, [rollouts], nats."""
    totals = torch.zeros(len(rollouts))
    rows = [(*r.prompt_tokens, *r.response_tokens) for r in rollouts]
    for group in micro_batcher.split([[row] for row in rows]):
        batch = collate_rollouts(model, [rollouts[i] for i in group])
        totals[group] = model.evaluate(batch, temperature).logprobs.sum(-1).cpu()
    return totals


def collate_rollouts(model: Policy, rollouts: Sequence[Rollout]) -> TokenBatch:
    """Collate rollouts; the response mask covers the sampled tokens."""
    rows = [(*r.prompt_tokens, *r.response_tokens) for r in rollouts]
    masks = [[False] * len(r.prompt_tokens) + [True] * len(r.response_tokens) for r in rollouts]
    return collate(rows, masks, model.backbone.pad_token).to(model.backbone.device)
