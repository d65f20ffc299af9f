"""Load the reference policy, against which the KL is measured, and update it at intervals."""

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
    """The frozen reference; the policy is copied into it every `update_every` updates (None: never).

    A reference that shares the policy's base starts without an adapter and gets a frozen copy of the policy's. The
    weights of a separate model are overwritten.
    """

    def __init__(self, model: Policy, policy: Policy, update_every: int | None) -> None:
        self.model, self._policy, self._every = model, policy, update_every
        self.times_updated = 0

    def update_if_due(self, updates_done: int) -> None:
        """Copy the policy into the reference if `updates_done` is a multiple of the interval."""
        if self._every is not None and updates_done % self._every == 0:
            self._copy_from(self._policy)
            self.times_updated += 1

    def _copy_from(self, policy: Policy) -> None:
        if policy.adapter is not None:
            self.model.backbone.copy_adapter(policy.adapter, ADAPTER, trainable=False)
            self.model.adapter = ADAPTER
            return
        with torch.no_grad():
            source = policy.parameters()
            for name, parameter in self.model.backbone.model.named_parameters():
                parameter.copy_(source[name])

    def _weights(self) -> dict[str, Tensor]:
        if self.model.adapter is not None:
            return dict(self.model.backbone.adapter_parameters(self.model.adapter))
        return dict(self.model.backbone.model.named_parameters())

    def tensors(self) -> dict[str, Tensor]:
        """Return its weights if it was ever updated; until then the loaded weights are unchanged."""
        return (
            {_SAVED + name: t.detach() for name, t in self._weights().items()} if self.times_updated else {}
        )

    def state(self) -> dict[str, Any]:
        """Return how often it was updated, as JSON."""
        return {"times_updated": self.times_updated}

    def load(self, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Restore `tensors` and `state`."""
        self.times_updated = int(state["times_updated"])
        if not self.times_updated:
            return
        if self._policy.adapter is not None:
            self._copy_from(self._policy)
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
    """Load the reference that the configuration names: `sft`, `base`, or any model.

    `sft` on a frozen base (`shared`) costs no memory: it is the base without adapters. Any other reference is a
    separate model. Raises UserError if the base is not known or the tokenizers differ.
    """
    if name == "sft":
        return Policy(shared or Backbone.load(source, weight_dtype, device), None)
    other = _base_of(source) if name == "base" else require_use(resolve(name), "policy")
    backbone = Backbone.load(other, weight_dtype, device)
    if not same_tokenizer(backbone.tokenizer, policy.tokenizer):
        raise UserError(
            f"the tokenizers of the reference {other.name} and the policy differ: their tokens cannot be compared",
            where="training.ppo.reference",
            fix="name a model with the policy's tokenizer, or sft",
        )
    return Policy(backbone, None)


def _base_of(source: ModelSource) -> ModelSource:
    """Return the model that the training which produced `source` started from."""
    if source.base is not None:
        return source.base
    record = RunFolder(source.folder.parent).manifest
    made_from = manifest.read_lineage(record).get("folder") if record.exists() else None
    if not isinstance(made_from, str):
        raise UserError(
            f"nothing records what {source.name} was trained from",
            where="training.ppo.reference",
            fix="name the base model instead of `base`",
        )
    return require_use(resolve(made_from), "policy")
