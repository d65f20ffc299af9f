"""The policy that the KL is measured to, and when it moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.quantised import WeightDtype
from harken.models.resolve import ModelSource, require_use, resolve
from harken.models.roles import Policy
from harken.models.tokenizer import same_tokenizer
from harken.run import manifest
from harken.run.folder import RunFolder

ADAPTER = "reference"
_SAVED = "reference/"


class Reference:
    """Frozen between its moves: every `update_every` updates it becomes the present policy (None: never).

    On the policy's own base it starts as "no adapter" and becomes a frozen copy of the policy's adapter; as a
    model of its own, its weights are overwritten.
    """

    def __init__(self, policy: Policy, learner: Policy, update_every: int | None) -> None:
        self.policy, self._learner, self._every = policy, learner, update_every
        self.moved = 0

    def after(self, updates_done: int) -> None:
        """Move, if this many finished updates are a multiple of the interval."""
        if self._every is not None and updates_done % self._every == 0:
            self._become(self._learner)
            self.moved += 1

    def _become(self, learner: Policy) -> None:
        if learner.adapter is not None:
            self.policy.backbone.copy_adapter(learner.adapter, ADAPTER, trainable=False)
            self.policy.adapter = ADAPTER
            return
        with torch.no_grad():
            there = learner.parameters()
            for name, parameter in self.policy.backbone.model.named_parameters():
                parameter.copy_(there[name])

    def _weights(self) -> dict[str, Tensor]:
        if self.policy.adapter is not None:
            return dict(self.policy.backbone.adapter_parameters(self.policy.adapter))
        return dict(self.policy.backbone.model.named_parameters())

    def tensors(self) -> dict[str, Tensor]:
        """Its weights once it has moved; before that it is what it was loaded as."""
        return {_SAVED + name: t.detach() for name, t in self._weights().items()} if self.moved else {}

    def state(self) -> dict[str, Any]:
        """How often it moved."""
        return {"moved": self.moved}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Put both back."""
        self.moved = int(state["moved"])
        if not self.moved:
            return
        if self._learner.adapter is not None:
            self._become(self._learner)
        with torch.no_grad():
            for name, weight in self._weights().items():
                weight.copy_(tensors[_SAVED + name])


def load_reference(
    name: str,
    source: ModelSource,
    shared: Backbone | None,
    policy: Backbone,
    weight_dtype: WeightDtype,
    device: torch.device,
) -> Policy:
    """The reference a configuration names: `sft`, `base`, or any model.

    `sft` on a base that stays frozen (`shared`) costs no memory: it is the base without adapters. Everything
    else is a model of its own. Raises UserError when there is no base to be found or the tokenizers differ.
    """
    if name == "sft":
        return Policy(shared or Backbone.load(source, weight_dtype, device), None)
    other = _under(source) if name == "base" else require_use(resolve(name), "policy")
    backbone = Backbone.load(other, weight_dtype, device)
    if not same_tokenizer(backbone.tokenizer, policy.tokenizer):
        raise UserError(
            f"the reference {other.name} has another tokenizer than the policy: their tokens cannot be compared",
            where="training.ppo.reference",
            fix="name a model of the policy's own family, or sft",
        )
    return Policy(backbone, None)


def _under(source: ModelSource) -> ModelSource:
    """The model that supervised fine-tuning, or whatever made `source`, started from."""
    if source.base is not None:
        return source.base
    record = RunFolder(source.folder.parent).manifest
    made_from = manifest.read_lineage(record).get("folder") if record.exists() else None
    if not isinstance(made_from, str):
        raise UserError(
            f"nothing says what {source.name} was trained from",
            where="training.ppo.reference",
            fix="name the base model itself instead of `base`",
        )
    return require_use(resolve(made_from), "policy")
