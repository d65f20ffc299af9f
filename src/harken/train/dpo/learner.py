"""Score preference examples under policy and reference, and accumulate the gradients of their loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from harken.batches import TokenBatch, collate
from harken.config.preference_training import PreferenceLossSettings
from harken.config.training import Optimisation
from harken.maths.preference_optimisation import kl_baseline, sequence_score
from harken.models.roles import Policy
from harken.run.tracking import progress
from harken.train.dpo.examples import PreferenceExample
from harken.train.dpo.loss import ExampleScores, example_losses, label_tensor
from harken.train.nonfinite import check_finite, check_finite_loss
from harken.train.oom_retry import MicroBatcher
from harken.train.optim.optimiser import Optimiser

BOTH, FIRST, SECOND = (0, 1), (0,), (1,)
"""Sides of an example that are scored."""


class PreferenceLearner:
    """Train a policy on preference examples, both sides of a pair in one forward.

    The loss of an optimiser step is a mean over its examples and does not depend on the split into micro-batches.
    Log-probabilities are taken at `temperature`.
    """

    def __init__(
        self,
        training: Optimisation,
        settings: PreferenceLossSettings,
        policy: Policy,
        reference: Policy,
        label: str,
        temperature: float = 1.0,
    ) -> None:
        self.training, self.settings, self.temperature = training, settings, temperature
        self.policy, self.reference, self.label = policy, reference, label
        policy.backbone.gradient_checkpointing = training.gradient_checkpointing
        self.optimiser = Optimiser(policy.parameters(), training)
        self.micro_batcher = MicroBatcher(training.micro_batch_tokens, label, policy.backbone)

    def accumulate_gradients(
        self, examples: Sequence[PreferenceExample], reference: Float[Tensor, "examples 2"]
    ) -> tuple[float, ExampleScores]:
        """Accumulate the gradients of the mean loss; return it and the scores. `reference` are its scores.

        Raises NonFinite for a score or loss that is not finite, with gradients that the caller has to zero.
        """
        kl = self._kl_baseline(examples, reference)
        attempt = partial(self._losses, examples, reference, kl, backward=True)
        backbone = self.policy.backbone
        backbone.set_adapter_dropout(True)
        try:
            with backbone.role(self.policy.adapter):
                losses, scores = self.micro_batcher.retry_on_oom(attempt, self.optimiser.zero_grad)
        finally:
            backbone.set_adapter_dropout(False)
        return float(losses.sum()) / len(examples), scores

    @torch.no_grad()
    def evaluate(
        self, examples: Sequence[PreferenceExample], reference: Float[Tensor, "examples 2"], label: str = ""
    ) -> tuple[Float[Tensor, " examples"], ExampleScores]:
        """Compute the loss and the scores of every example, without gradients. With `label`, show progress."""
        kl = self._kl_baseline(examples, reference)
        attempt = partial(self._losses, examples, reference, kl, backward=False, label=label)
        return self.micro_batcher.retry_on_oom(attempt)

    @torch.no_grad()
    def scores(
        self,
        model: Policy,
        examples: Sequence[PreferenceExample],
        label: str = "",
        sides: tuple[int, ...] = BOTH,
    ) -> Float[Tensor, "examples sides"]:
        """Score the sides of every example under `model`. With `label`, show progress."""

        def attempt() -> Tensor:
            scores = torch.zeros(len(examples), len(sides))
            for group in self._groups(examples, sides, label):
                rows = [examples[i] for i in group]
                scores[group] = self._forward(model, rows, sides)[0].cpu()
            return scores

        return self.micro_batcher.retry_on_oom(attempt)

    def collate(self, examples: Sequence[PreferenceExample], sides: tuple[int, ...] = BOTH) -> TokenBatch:
        """Collate the first sides, then the second ones. The loss is computed on the response tokens."""
        rows = [example.sides[side] for side in sides for example in examples]
        masks = [[t >= row.prompt_length for t in range(len(row.tokens))] for row in rows]
        backbone = self.policy.backbone
        return collate([row.tokens for row in rows], masks, backbone.pad_token).to(backbone.device)

    def dump_tensors(self, examples: Sequence[PreferenceExample]) -> dict[str, Tensor]:
        """Return what a NaN dump holds: the rows of `collate` and the labels."""
        return {**vars(self.collate(examples)), "label": torch.tensor([e.label for e in examples])}

    def _losses(
        self,
        examples: Sequence[PreferenceExample],
        reference: Tensor,
        kl: Tensor | None,
        *,
        backward: bool,
        label: str = "",
    ) -> tuple[Tensor, ExampleScores]:
        sides = FIRST if self.settings.loss == "kto" else BOTH
        losses, nll, policy = torch.zeros(len(examples)), torch.zeros(len(examples)), reference.clone()
        total = 0.0
        for group in self._groups(examples, sides, label):
            rows = [examples[i] for i in group]
            policy_scores, row_nll = self._forward(self.policy, rows, sides)
            reference_scores = reference[group].to(policy_scores)
            if len(sides) == 1:  # the baseline's side is scored for the whole batch at once
                policy_scores = torch.cat([policy_scores, reference_scores[:, 1:]], -1)
            scores = ExampleScores(policy_scores, reference_scores, row_nll)
            row_losses = example_losses(
                self.settings, scores, label_tensor([e.label for e in rows], policy_scores), kl
            )
            if backward:
                loss = row_losses.sum() / len(examples)
                loss.backward()  # type: ignore[no-untyped-call]
            losses[group], nll[group] = row_losses.detach().cpu().float(), row_nll.detach().cpu().float()
            policy[group] = policy_scores.detach().cpu().float()
            total += float(losses[group].sum())
            tensors = partial(self.dump_tensors, rows)
            # A bounded loss such as KTO's maps an infinite score to a finite number, so check the scores too.
            check_finite([("logprob", policy[group], None)], "training", tensors, [e.id for e in rows])
            check_finite_loss(total, [], "training", tensors)
        return losses, ExampleScores(policy, reference, nll)

    def _kl_baseline(self, examples: Sequence[PreferenceExample], reference: Tensor) -> Tensor | None:
        """Estimate KTO's KL over the whole batch."""
        if self.settings.loss != "kto":
            return None
        return kl_baseline(self.scores(self.policy, examples, sides=SECOND)[:, 0] - reference[:, 1])

    def _forward(
        self, model: Policy, examples: Sequence[PreferenceExample], sides: tuple[int, ...]
    ) -> tuple[Float[Tensor, "examples sides"], Float[Tensor, " examples"]]:
        """Return the scores of the sides, and the mean negative log-likelihood per token of the first of them."""
        batch = self.collate(examples, sides)
        logprobs = model.evaluate(batch, self.temperature).logprobs
        common = None
        if self.settings.ld_alpha < 1.0:
            common = logprobs.new_tensor(
                [min(e.first.length, e.second.length) for e in examples] * len(sides)
            )
        score = partial(sequence_score, logprobs, batch.response_mask)
        scores = score(average=self.settings.averages, full_weight=common, tail_weight=self.settings.ld_alpha)
        nll = -score(average=True)[: len(examples)]
        return scores.view(len(sides), -1).T, nll

    def _groups(
        self, examples: Sequence[PreferenceExample], sides: tuple[int, ...], label: str = ""
    ) -> Iterator[list[int]]:
        items = [[example.sides[side].tokens for side in sides] for example in examples]
        groups = self.micro_batcher.split(items)
        yield from progress(groups, label) if label else groups
