"""Train by direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290) and its relatives."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from harken.config import RunConfig
from harken.config.preference_training import DPOTraining
from harken.errors import NonFinite, UserError
from harken.records import Prompt
from harken.rollout.engine import Engine, Sampling
from harken.run.folder import RunFolder
from harken.run.tracking import say
from harken.train.dpo.examples import PreferenceExample
from harken.train.dpo.learner import PreferenceLearner
from harken.train.dpo.metrics import accuracies_by_group, accuracy_interval, preference_metrics
from harken.train.dpo.models import PolicyModels
from harken.train.dpo.reference_scores import kept_scores, scores_fingerprint
from harken.train.dpo.sampled import SampledResponses
from harken.train.nonfinite import attach_tensors
from harken.train.optim.optimiser import lr_multiplier
from harken.train.sampler import batch_indices, num_steps


class DPOStage:
    """Train on `batch_size` pairs (for KTO: responses) per optimiser step.

    The reference scores every row once, before the first step. Its scores are kept in the run folder.
    """

    label = "DPO"

    def __init__(
        self,
        config: RunConfig,
        models: PolicyModels,
        examples: Sequence[PreferenceExample],
        held_out: Sequence[PreferenceExample],
        engine: Engine,
        prompts: Sequence[Prompt],
        run: RunFolder,
    ) -> None:
        assert isinstance(config.training, DPOTraining)
        self.training, self.settings, self.seed = config.training, config.training.dpo, config.seed
        if not examples:
            raise UserError(
                "no preference is left once ties are dropped",
                where=config.data.path,
                fix="set training.dpo.ties: soft, or add rows with a preference",
            )
        self.models, self.run = models, run
        self.examples, self.held_out = list(examples), list(held_out)
        self.total = num_steps(
            len(examples), self.training.batch_size, self.training.epochs, self.training.max_steps
        )
        self.learner = PreferenceLearner(
            self.training, self.settings, models.policy, models.reference, self.label
        )
        sampling = Sampling(self.settings.max_gen_len, 1.0, config.seed)
        self.sampled = SampledResponses(
            engine,
            prompts[: self.settings.eval_prompts],
            sampling,
            models.policy,
            models.reference,
            self.learner.micro_batcher,
            "dpo/held-out",
        )
        self.facts = (
            *models.reference_facts(),
            self.settings.model_dump_json(include={"length_normalise", "ld_alpha"}),
        )
        """Inputs of the reference's scores besides the rows."""

    @cached_property
    def reference(self) -> Tensor:
        """The reference's scores of all training rows, then of all held-out rows, [rows, 2]."""
        rows = [*self.examples, *self.held_out]
        fingerprint = scores_fingerprint(rows, str(self.settings.averages), *self.facts)
        compute = partial(
            self.learner.scores, self.models.reference, rows, "DPO: scoring all rows with the reference"
        )
        return kept_scores(self.run.reference_scores, fingerprint, len(rows), compute)

    def step(self, step: int) -> dict[str, float]:
        """Minimise the mean loss over one batch.

        Raises NonFinite, with everything as before the step, if a score, the loss or the gradient is not finite.
        """
        try:
            return self._step(step)
        except NonFinite:
            self.learner.optimiser.zero_grad()
            raise

    def _step(self, step: int) -> dict[str, float]:
        index = batch_indices(step, len(self.examples), self.training.batch_size, self.seed, self.label)
        examples = [self.examples[i] for i in index]
        loss, scores = self.learner.accumulate_gradients(examples, self.reference[index])
        lr_scale = lr_multiplier(step, self.total, self.training)
        with attach_tensors(partial(self.learner.dump_tensors, examples)):
            norm = self.learner.optimiser.clip_and_step(lr_scale)
        return {
            "loss": loss,
            "lr": self.training.lr * lr_scale,
            "grad_norm": norm,
            "memory/micro_batch_tokens": float(self.learner.micro_batcher.tokens),
        } | preference_metrics(self.settings, scores, examples)

    def on_train_begin(self) -> None:
        """Score all rows with the reference, and sample from it: the policy starts as the reference."""
        start = time.perf_counter()
        rows, seconds = len(self.reference), time.perf_counter() - start
        say(
            f"DPO: the reference scored {rows:,} rows in {seconds:.1f} s; kept in {self.run.reference_scores.name}"
        )
        self.sampled.measure(0)

    def evaluate(self, done: int) -> dict[str, float]:
        """Measure loss, rewards and accuracy on the held-out rows, and KL and length on sampled responses."""
        return self._evaluate_rows() | self.sampled.measure(done)

    def _evaluate_rows(self) -> dict[str, float]:
        if not self.held_out:
            return {}
        reference = self.reference[len(self.examples) :]
        losses, scores = self.learner.evaluate(self.held_out, reference, "DPO: held-out rows")
        metrics = preference_metrics(self.settings, scores, self.held_out)
        metrics |= accuracy_interval(metrics, self.settings, self.held_out)
        metrics |= accuracies_by_group(self.settings, scores, self.held_out)
        return {"eval/loss": float(losses.mean())} | {
            f"eval/{name}": value for name, value in metrics.items()
        }

    def selection_metric(self, metrics: Mapping[str, float]) -> float | None:
        """Return minus the held-out loss, or the held-out accuracy; None without held-out rows or preferences."""
        if "eval/loss" not in metrics:
            return None
        return (
            metrics.get("eval/rewards/accuracies")
            if self.settings.selection == "accuracy"
            else -metrics["eval/loss"]
        )

    def stop_reason(self) -> str | None:
        """Return None: training never ends early."""
        return None

    def summary(self, metrics: Mapping[str, float]) -> str:
        """Summarise loss, accuracy and margin; of held-out rows too if they were evaluated."""
        text = f"loss {metrics['loss']:.3f}"
        if "rewards/accuracies" in metrics:
            text += f"  accuracy {metrics['rewards/accuracies']:.2f}"
        if "rewards/margins" in metrics:
            text += f"  margin {metrics['rewards/margins']:+.2f}"
        if "eval/loss" in metrics:
            text += f"  held-out {metrics['eval/loss']:.3f}"
        if "eval/rewards/accuracies" in metrics:
            text += f", accuracy {metrics['eval/rewards/accuracies']:.2f}"
        if "eval/kl/mean" in metrics:
            text += f"  KL {metrics['eval/kl/mean']:.2f} nats/seq"
        return text

    def tensors(self) -> dict[str, Tensor]:
        """Return the trained weights and optimiser state."""
        return self.learner.optimiser.tensors()

    def state(self) -> dict[str, Any]:
        """Return the token budget and the length before training; the order of rows is a function of the step."""
        return {"micro_batch_tokens": self.learner.micro_batcher.tokens, "sampled": self.sampled.state()}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore `tensors` and `state`."""
        self.learner.optimiser.load(tensors)
        self.learner.micro_batcher.tokens = int(state["micro_batch_tokens"])
        self.sampled.load(state["sampled"])

    def save(self, folder: Path) -> None:
        """Write the policy: an adapter on its base, unrounded, or the whole model.

        Raises FrozenWeightsChanged, after everything is written, if frozen weights changed.
        """
        self.models.save_policy(folder)
        self.models.check_frozen()
