"""What the property tests compare with: transformers' own forward, one unpadded row at a time, and what a step saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tiny import END
from torch import Tensor, nn

from harken.batches import PolicyOutputs, TokenBatch
from harken.config import RunConfig
from harken.models.backbone import Backbone
from harken.models.roles import ScalarHead
from harken.records import Rollout
from harken.train import launch
from harken.train.ppo import stage as ppo_stage
from harken.train.ppo.stage import PPOStage
from harken.train.ppo.targets import PPOTargets


@dataclass(frozen=True)
class Row:
    """One response by the definition: of every response token its log-probability, entropy (nats) and value.

    `final` is the value of the whole row.
    """

    logprobs: Tensor
    entropy: Tensor
    values: Tensor
    final: float


def alone(
    backbone: Backbone,
    rollout: Rollout,
    temperature: float = 1.0,
    role: str | None = None,
    head: ScalarHead | None = None,
) -> Row:
    """One sequence, no padding, no cache, transformers' whole model; softmax in float64."""
    tokens = torch.tensor([[*rollout.prompt_tokens, *rollout.response_tokens]])
    with torch.no_grad(), backbone.role(role):
        output = backbone.model(input_ids=tokens, output_hidden_states=True, use_cache=False)
    first = len(rollout.prompt_tokens)
    log_p = torch.log_softmax(output.logits[0, first - 1 : -1].double() / temperature, -1)
    chosen = log_p.gather(-1, tokens[0, first:, None])[:, 0]
    values = torch.zeros(len(chosen) + 1, dtype=torch.float64)
    if head is not None:
        states = output.hidden_states[-1][0, first - 1 :].double()
        values = states @ head.weight.detach().double() + head.bias.detach().double()
    return Row(chosen, -(log_p.exp() * log_p).sum(-1), values[:-1], float(values[-1]))


def stage_of_a_run(config: RunConfig, output: Path) -> PPOStage:
    """The stage that `harken train` would run, built the whole way from the configuration and not started."""
    stages: list[PPOStage] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "run_stage", lambda stage, *rest, **keys: stages.append(stage))
        launch.train(config, output)
    return stages[0]


@dataclass
class Seen:
    """What `compute_targets` was given and gave back in one update."""

    rollouts: list[Rollout]
    batch: TokenBatch
    old: PolicyOutputs
    reference: Tensor
    reward: Tensor
    coefficient: float
    targets: PPOTargets
    metrics: dict[str, float]

    def of_row(self, of_tokens: Tensor, row: int) -> Tensor:
        """The entries of one response's sampled tokens, in float64."""
        return of_tokens[row][self.batch.response_mask[row]].detach().double()


def watched_step(stage: PPOStage, number: int = 0) -> Seen:
    """One whole update; what went in and out of its credit is written down on the way."""
    calls: list[tuple[tuple[object, ...], PPOTargets]] = []
    rollouts: list[Rollout] = []
    batches: list[TokenBatch] = []

    def credit(*arguments: object) -> PPOTargets:
        calls.append((arguments, assign(*arguments)))  # type: ignore[arg-type]
        return calls[-1][1]

    def collate(responses: Sequence[Rollout]) -> TokenBatch:
        rollouts.extend(responses)
        batches.append(real_collate(responses))
        return batches[-1]

    assign, real_collate = ppo_stage.compute_targets, stage._collate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ppo_stage, "compute_targets", credit)
        patch.setattr(stage, "_collate", collate)
        metrics = stage.step(number)
    (arguments, targets), *more = calls
    assert not more
    old, reference, _, _, reward, coefficient, *_ = arguments
    return Seen(rollouts, batches[0], old, reference, reward, coefficient, targets, metrics)  # type: ignore[arg-type]


def move_policy(stage: PPOStage, scale: float = 0.2, seed: int = 5) -> None:
    """Carry the policy away from its reference, and its value head away from zero, as training would."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in stage.policy.parameters().items():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=draw) * scale)
        if stage.policy.value_head is not None:
            weight = stage.policy.value_head.weight
            weight.copy_(torch.randn(weight.shape, generator=draw) * scale)


def likely_to_end(backbone: Backbone, step: float = 3.0, role: str | None = None) -> None:
    """Pull the end token's row towards the mean hidden state of `role`: most responses end after a few tokens."""
    tokens = torch.arange(3, 259)[None]
    with torch.no_grad(), backbone.role(role):
        hidden = backbone.trunk(input_ids=tokens).last_hidden_state[0].mean(0)
        untied = nn.Parameter(backbone.model.get_output_embeddings().weight.clone(), requires_grad=False)
        untied[END] += step * hidden / hidden.norm() ** 2
        backbone.model.get_output_embeddings().weight = untied


def restore(stage: PPOStage, before: dict[str, Tensor]) -> None:
    """The weights that `parameters` gave."""
    stage.learner.load(stage.learner.tensors() | before)


def parameters(stage: PPOStage) -> dict[str, Tensor]:
    """Everything that trains, as it is now."""
    return {name: t.clone() for name, t in stage.learner.tensors().items() if name.startswith("parameter/")}


class Gradients:
    """The gradient of every optimiser step, by parameter, and no step taken."""

    def __init__(self, stage: PPOStage) -> None:
        self.steps: list[dict[str, Tensor]] = []
        self._trained = stage.learner.optimisers["policy"].parameters
        for optimiser in stage.learner.optimisers.values():
            optimiser.clip = self._keep  # type: ignore[method-assign]
            optimiser.step = lambda lr_scale: None  # type: ignore[method-assign]

    def _keep(self) -> float:
        found = {name: p.grad.clone() for name, p in self._trained.items() if p.grad is not None}
        self.steps.append(found)
        for parameter in self._trained.values():
            parameter.grad = None
        return 1.0
