"""Stages that meet NaN where a test wants it, and all that a step could change of a stage."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_backbone
from torch import Tensor

from harken.batches import PolicyOutputs, TokenBatch
from harken.config import RunConfig
from harken.models.backbone import Backbone
from harken.models.roles import Policy
from harken.records import TokenDemonstration, TokenPair
from harken.train.optim.optimiser import Optimiser
from harken.train.ppo.stage import PPOStage
from harken.train.reward_model import RewardStage
from harken.train.sampler import batch_indices
from harken.train.sft import SupervisedStage

MakeStage = Callable[..., PPOStage]
Trained = SupervisedStage | RewardStage | PPOStage
BAD = 251
"""A token at which a poisoned trunk gives NaN."""
DEMONSTRATIONS = [
    TokenDemonstration(f"r{i}", (*range(9, 12 + i), 40 + i, 2), (*[False] * (3 + i), True, True))
    for i in range(12)
]
PAIRS = [TokenPair(f"p{i}", (*range(9, 10 + i), 40, 2), (*range(9, 10 + i), 90, 2)) for i in range(12)]


def poisoned(made: Backbone, value: float = math.nan) -> Backbone:
    """Its trunk gives `value` wherever it reads the token BAD, and nowhere else."""
    forward = made.forward

    def ill(*kernel: Any, **inputs: Any) -> Tensor:
        hidden = forward(*kernel, **inputs)
        bad = (inputs["input_ids"] == BAD).view(*hidden.shape[:-1], 1)
        return torch.where(bad, torch.full_like(hidden, value), hidden)

    made.forward = ill  # type: ignore[method-assign]
    return made


def config(kind: str, **keys: Any) -> RunConfig:
    training = {"type": kind, "lr": 1e-2, "lr_schedule": "constant", "batch_size": 4, "epochs": 2, **keys}
    return RunConfig.model_validate(
        {"dtype": "float32", "data": {"path": "rows"}, "lora": {"rank": 4}, "training": training}
    )


def supervised(rows: list[TokenDemonstration] = DEMONSTRATIONS, **keys: Any) -> SupervisedStage:
    return SupervisedStage(config("sft", **keys), poisoned(tiny_backbone()), rows, rows[:2])


def rewarding(pairs: list[TokenPair] = PAIRS, value: float = math.nan, **keys: Any) -> RewardStage:
    made = poisoned(tiny_backbone(), value)
    return RewardStage(config("reward", **keys), made, Path("base"), pairs, pairs[:2])


def with_bad_rows(of: dict[int, int]) -> list[TokenDemonstration]:
    """The demonstrations, with BAD at a place in some of them."""
    rows = list(DEMONSTRATIONS)
    for row, place in of.items():
        tokens = list(rows[row].tokens)
        tokens[place] = BAD
        rows[row] = TokenDemonstration(rows[row].id, tuple(tokens), rows[row].response_mask)
    return rows


def everything(stage: Trained) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """All that a step may change: state, every weight (frozen ones too), gradients, modes."""
    policy = stage.policy if isinstance(stage, PPOStage) else None
    backbone = policy.backbone if policy else stage.backbone  # type: ignore[union-attr]
    tensors = {name: t.detach().clone() for name, t in stage.tensors().items()}
    tensors |= {f"model/{name}": p.detach().clone() for name, p in backbone.model.named_parameters()}
    state = json.loads(json.dumps(stage.state())) | {
        "grads": [name for name, p in backbone.model.named_parameters() if p.grad is not None],
        "trains": [name for name, p in backbone.model.named_parameters() if p.requires_grad],
        "modes": [module.training for module in backbone.model.modules()],
        "role": backbone._role,
        "ready": isinstance(stage, PPOStage) and stage.learner.evaluator.cached is not None,
    }
    return tensors, state


def same(one: tuple[dict[str, Tensor], Any], other: tuple[dict[str, Tensor], Any]) -> bool:
    """To the last bit."""
    assert one[0].keys() == other[0].keys()
    return one[1] == other[1] and all(torch.equal(t, other[0][name]) for name, t in one[0].items())


def clip_nan(patch: pytest.MonkeyPatch, call: int, of: str = "lora_A") -> None:
    """NaN in one parameter's gradient at the call-th clip (from 0) of an optimiser that has such a parameter."""
    clip, calls = Optimiser.clip, [0]

    def ill(self: Optimiser) -> float:
        names = [name for name, p in self.parameters.items() if of in name and p.grad is not None]
        if names:
            if calls[0] == call:
                gradient = self.parameters[names[-1]].grad
                assert gradient is not None
                gradient.view(-1)[0] = math.nan
            calls[0] += 1
        return clip(self)

    patch.setattr(Optimiser, "clip", ill)


def first_batch(stage: SupervisedStage | RewardStage, number: int) -> list[int]:
    """The rows of a step, in the stage's order."""
    rows = stage.rows
    return list(batch_indices(number, len(rows), stage.settings.batch_size, stage.seed, stage.label))


def evaluate_nan(patch: pytest.MonkeyPatch, call: int, what: str = "logprobs", bad: float = math.nan) -> None:
    """A policy whose call-th forward with gradients (from 0) gives NaN at row 0's last action token."""
    evaluate, calls = Policy.evaluate, [0]

    def ill(self: Policy, batch: TokenBatch, *args: Any, **keys: Any) -> PolicyOutputs:
        now = evaluate(self, batch, *args, **keys)
        if self.value_head is None or not torch.is_grad_enabled():
            return now
        calls[0] += 1
        if calls[0] - 1 != call:
            return now
        parts = dict(vars(now))
        place = int(batch.response_mask[0].nonzero()[-1])
        corrupted = parts[what].clone()
        corrupted[0, place] = bad
        return PolicyOutputs(**parts | {what: corrupted})

    patch.setattr(Policy, "evaluate", ill)


WHOLE = {"micro_batch_tokens": 100_000}
"""An optimiser step is one micro-batch: forwards with gradients are the optimiser steps."""
