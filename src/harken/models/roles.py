"""What a backbone is used as: policy (with a value head), reference, reward model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from harken.batches import TokenBatch, TokenEvaluation, collate, describe_next, micro_batches
from harken.errors import UserError
from harken.maths.logprobs import projected
from harken.models.backbone import Backbone
from harken.models.resolve import ModelSource
from harken.seeds import seed as derive_seed


class ScalarHead(nn.Module):
    """A linear map from a hidden state to one number, in float32 whatever the trunk's type."""

    def __init__(self, features: int, std: float, seed: int = 0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(derive_seed(seed, "head"))
        self.weight = nn.Parameter(torch.randn(features, generator=draw) * std)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Float[Tensor, "*any features"]) -> Float[Tensor, "*any"]:
        """One number for each state."""
        return hidden.float() @ self.weight + self.bias


class Policy:
    """Log-probabilities, entropy and, with a value head, values of the action tokens: one forward for all.

    `adapter=None` without a value head is the reference.
    """

    def __init__(self, backbone: Backbone, adapter: str | None, value_head: ScalarHead | None = None) -> None:
        self.backbone, self.adapter, self.value_head = backbone, adapter, value_head

    def evaluate(self, batch: TokenBatch, temperature: float = 1.0) -> TokenEvaluation:
        """Evaluate the tokens where `action` is True; elsewhere the result is 0.

        For a backward pass, call it and `backward()` inside `backbone.role(adapter)`.
        """
        with self.backbone.role(self.adapter):
            states = describe_next(self.backbone.hidden(batch))[batch.action]
            logprobs, entropy = projected(
                states, self.backbone.output_weight, batch.tokens[batch.action], temperature
            )
            values = self.value_head(states) if self.value_head else torch.zeros_like(logprobs)
        return TokenEvaluation(*(_place(part, batch.action) for part in (logprobs, entropy, values)))


class RewardModel:
    """A scalar for a whole sequence, read at its last real token, in standard units (see `standard`)."""

    def __init__(
        self,
        backbone: Backbone,
        adapter: str | None,
        head: ScalarHead,
        offset: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        self.backbone, self.adapter, self.head = backbone, adapter, head
        self.offset, self.scale = offset, scale

    def rewards(self, batch: TokenBatch) -> Float[Tensor, " batch"]:
        """Raw rewards, as trained: no offset, no scale. Differentiable inside `backbone.role(adapter)`."""
        with self.backbone.role(self.adapter):
            hidden = self.backbone.hidden(batch)
            last = batch.real.sum(-1) - 1
            rewards: Tensor = self.head(hidden[torch.arange(len(last), device=last.device), last])
        return rewards

    @torch.no_grad()
    def raw_scores(self, sequences: Sequence[Sequence[int]], micro_batch_tokens: int) -> list[float]:
        """Raw rewards of token sequences, in the order given.

        Equal sequences are scored once: rounding depends on a row's batch mates, and two policies that give
        the same answer must tie.
        """
        distinct = list(dict.fromkeys(tuple(s) for s in sequences))
        scores: dict[tuple[int, ...], float] = {}
        for group in micro_batches([len(s) for s in distinct], micro_batch_tokens):
            rows = [distinct[i] for i in group]
            batch = collate(rows, [[False] * len(r) for r in rows], pad_token=self.pad_token)
            scores |= zip(rows, self.rewards(batch.to(self.backbone.device)).tolist(), strict=True)
        return [scores[tuple(s)] for s in sequences]

    def standard(self, raw: float) -> float:
        """A raw reward with the saved offset and scale applied: mean 0 on the data it was calibrated on."""
        return (raw - self.offset) * self.scale

    @property
    def pad_token(self) -> int:
        """The padding token of its own tokenizer."""
        pad = self.backbone.tokenizer.pad_token_id
        assert isinstance(pad, int)
        return pad

    def save(self, folder: Path, base: Path, base_fingerprint: str, facts: dict[str, object]) -> None:
        """Adapter, head, offset, scale and tokenizer: all that scoring needs besides the base."""
        assert self.adapter is not None
        self.backbone.save_adapter(self.adapter, folder, base)
        save_file(dict(self.head.state_dict()), folder / "reward_head.safetensors")
        card = {
            "offset": self.offset,
            "scale": self.scale,
            "hidden_size": self.backbone.hidden_size,
            "base": str(base),
            "base_fingerprint": base_fingerprint,
            **facts,
        }
        (folder / "reward.json").write_text(json.dumps(card, indent=2, sort_keys=True) + "\n")

    @classmethod
    def load(
        cls,
        source: ModelSource,
        dtype: torch.dtype,
        device: torch.device | str,
        share: Backbone | None = None,
    ) -> RewardModel:
        """A trained reward model, frozen. It moves in with `share` when that is the base it was trained on.

        Raises UserError when the head does not fit the base, naming both sizes.
        """
        assert source.base is not None
        card = json.loads((source.folder / "reward.json").read_text())
        same_base = share is not None and share.source is not None
        same_base = same_base and lineage_fingerprint(share.source) == card["base_fingerprint"]  # type: ignore[union-attr, arg-type]
        if lineage_fingerprint(source.base) != card["base_fingerprint"]:
            raise UserError(
                "the base model has changed since this reward model was trained on it",
                where=str(source.base.folder),
                mend="train the reward model again, or restore the base",
            )
        backbone = share if same_base and share else Backbone.load(source.base, dtype, device)
        weights = load_file(source.folder / "reward_head.safetensors")
        inputs, features = weights["weight"].numel(), backbone.hidden_size
        if inputs != features:
            raise UserError(
                f"the reward head has {inputs} inputs, its base has hidden size {features}",
                where=str(source.folder),
                mend="point checkpoint_path at a reward model trained on this base",
            )
        backbone.load_adapter("reward", source.folder)
        head = ScalarHead(backbone.hidden_size, 0.0).to(device)
        head.load_state_dict(weights)
        return cls(
            backbone, "reward", head.requires_grad_(False), float(card["offset"]), float(card["scale"])
        )


@dataclass(frozen=True)
class RoleRow:
    """One line of the role table."""

    component: str
    trainable: bool
    parameters: int
    source: str
    fingerprint: str


def role_row(component: str, tensors: Iterable[nn.Parameter], source: str) -> RoleRow:
    """Describe a component: how many numbers, whether they train, and a hash of their present values."""
    parameters = list(tensors)
    return RoleRow(
        component,
        any(p.requires_grad for p in parameters),
        sum(p.numel() for p in parameters),
        source,
        fingerprint(parameters)[:12],
    )


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """sha256 over the bytes of the tensors, in order: equal only if every bit is."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def lineage_fingerprint(source: ModelSource) -> str:
    """One hash for a model and everything it stands on."""
    return hashlib.sha256("\n".join(link.fingerprint for link in source.chain()).encode()).hexdigest()


def _place(values: Float[Tensor, " actions"], action: Tensor) -> Tensor:
    return torch.zeros(action.shape, dtype=values.dtype, device=values.device).masked_scatter(action, values)
