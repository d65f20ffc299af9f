"""The roles of a backbone: policy (with a value head), critic, reference, reward model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from harken.batches import PolicyOutputs, TokenBatch, collate, last_states, shift_right
from harken.data.chat import Renderer
from harken.errors import UserError
from harken.maths.logprobs import linear_logprobs
from harken.models.adapted_model import AdaptedModel
from harken.models.backbone import Backbone
from harken.models.find_tokenizer import tokenizer_of
from harken.models.quantised import WeightDtype, stored_tensors, weight_count
from harken.models.resolve import ModelSource
from harken.models.reward_base import load_reward_base
from harken.models.weights import read_tensors
from harken.run import json_io
from harken.seeds import derive_seed as derive_seed


class ScalarHead(nn.Module):
    """A linear map from a hidden state to one number, in float32 for any trunk dtype."""

    def __init__(self, features: int, std: float, seed: int = 0) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(derive_seed(seed, "head"))
        self.weight = nn.Parameter(torch.randn(features, generator=draw) * std)
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, hidden: Float[Tensor, "*any features"]) -> Float[Tensor, "*any"]:
        """Return one number per hidden state."""
        return hidden.float() @ self.weight + self.bias


class Policy:
    """Log-probabilities, entropy and, with a value head, values of the response tokens, from one forward.

    `adapter` None is the bare backbone: the reference, or a policy with full fine-tuning.
    """

    def __init__(self, backbone: Backbone, adapter: str | None, value_head: ScalarHead | None = None) -> None:
        self.backbone, self.adapter, self.value_head = backbone, adapter, value_head

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the trainable parameters by name: the adapter, or all weights. Without the value head."""
        if self.adapter is not None:
            return self.backbone.adapter_parameters(self.adapter)
        return self.backbone.trainable_parameters()

    def response_states(self, batch: TokenBatch) -> Float[Tensor, "tokens width"]:
        """Return the hidden state that predicts each response token, in the order of `batch.response_mask`."""
        with self.backbone.role(self.adapter):
            states: Tensor = shift_right(self.backbone.hidden(batch))[batch.response_mask]
        return states

    def evaluate(
        self, batch: TokenBatch, temperature: float = 1.0, *, detach_states: bool = False
    ) -> PolicyOutputs:
        """Evaluate the response tokens (`response_mask`); elsewhere the result is 0.

        For a backward pass, call it and `backward()` inside `backbone.role(adapter)`. With `detach_states`
        the gradient of values stops at the head.
        """
        with self.backbone.role(self.adapter):
            hidden = self.backbone.hidden(batch)
            states = shift_right(hidden)[batch.response_mask]
            logprobs, entropy = linear_logprobs(
                states, self.backbone.head, batch.tokens[batch.response_mask], temperature
            )
            values, final_values = torch.zeros_like(logprobs), logprobs.new_zeros(len(batch.tokens))
            if self.value_head is not None:
                last = last_states(hidden, batch)
                if detach_states:
                    states, last = states.detach(), last.detach()
                values, final_values = self.value_head(states), self.value_head(last)
        return PolicyOutputs(
            scatter_to_mask(logprobs, batch.response_mask),
            scatter_to_mask(entropy, batch.response_mask),
            scatter_to_mask(values, batch.response_mask),
            final_values,
        )


def base_parameters(backbone: Backbone) -> list[nn.Parameter]:
    """Return the weights below the adapters."""
    return [p for name, p in backbone.model.named_parameters() if "lora_" not in name]


class Critic:
    """Values from an adapter or a model of their own, separate from the policy's hidden states."""

    def __init__(self, backbone: Backbone, adapter: str, head: ScalarHead) -> None:
        self.backbone, self.adapter, self.head = backbone, adapter, head

    def parameters(self) -> dict[str, nn.Parameter]:
        """Return the adapter's parameters by name. Without the head."""
        return {f"critic/{n}": p for n, p in self.backbone.adapter_parameters(self.adapter).items()}

    def values(self, batch: TokenBatch) -> tuple[Float[Tensor, "batch time"], Float[Tensor, " batch"]]:
        """Return V before each response token (0 elsewhere), and V of each whole row."""
        with self.backbone.role(self.adapter):
            hidden = self.backbone.hidden(batch)
            values = self.head(shift_right(hidden)[batch.response_mask])
            return scatter_to_mask(values, batch.response_mask), self.head(last_states(hidden, batch))


class RewardModel:
    """A reward model: a scalar per sequence, from the hidden state at which its backbone pools a row.

    That is the last non-padding token of a causal language model, and the first token of an encoder. `adapter` is None
    where all weights were trained.
    """

    def __init__(
        self,
        backbone: AdaptedModel,
        adapter: str | None,
        head: ScalarHead,
        offset: float = 0.0,
        scale: float = 1.0,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        self.backbone, self.adapter, self.head = backbone, adapter, head
        self.tokenizer = tokenizer or backbone.tokenizer
        self.offset, self.scale = offset, scale

    def rewards(self, batch: TokenBatch) -> Float[Tensor, " batch"]:
        """Return raw rewards, without offset and scale. Differentiable inside `backbone.role(adapter)`."""
        with self.backbone.role(self.adapter):
            hidden = self.backbone.hidden(batch)
            rewards: Tensor = self.head(self.backbone.pooled(hidden, batch))
        return rewards

    @torch.no_grad()
    def raw_scores(self, sequences: Sequence[Sequence[int]], micro_batch_tokens: int) -> list[float]:
        """Return raw rewards of token sequences, in order.

        Equal sequences are scored once: rounding depends on a row's batch mates, and two policies that give
        the same response must tie.
        """
        distinct = list(dict.fromkeys(tuple(s) for s in sequences))
        scores: dict[tuple[int, ...], float] = {}
        for group in self.backbone.micro_batches([[s] for s in distinct], micro_batch_tokens):
            rows = [distinct[i] for i in group]
            batch = collate(rows, [[False] * len(r) for r in rows], pad_token=self.pad_token)
            scores |= zip(rows, self.rewards(batch.to(self.backbone.device)).tolist(), strict=True)
        return [scores[tuple(s)] for s in sequences]

    def standardize(self, raw: float) -> float:
        """Apply the saved offset and scale to a raw reward: mean 0 on the data it was calibrated on."""
        return (raw - self.offset) * self.scale

    def renderer(self, keep_special_tokens: bool | Sequence[str] | None = None) -> Renderer:
        """Return the renderer of this model's own tokenizer, which may differ from its backbone's."""
        return self.backbone.renderer(keep_special_tokens, self.tokenizer)

    @property
    def pad_token(self) -> int:
        """Return the padding token id."""
        return self.backbone.pad_token

    def save(self, folder: Path, base: Path, base_fingerprint: str, facts: dict[str, object]) -> None:
        """Save what scoring needs besides the base: head, calibration, tokenizer, and the adapter or all weights."""
        if self.adapter is None:
            self.backbone.save_model(folder)
        else:
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
        weight_dtype: WeightDtype,
        device: torch.device | str,
        share: AdaptedModel | None = None,
        adapter: str = "reward",
    ) -> RewardModel:
        """Load a trained reward model, frozen, as `adapter`. It shares `share` if that is the base it was trained on.

        Raises UserError when the head does not fit the base, and when a file does not match its checksum.
        """
        source.check()
        card = read_card(source.folder)
        base = source.base or replace(source, kind="full")
        same_base = share is not None and share.source is not None
        same_base = same_base and lineage_fingerprint(share.source) == card.base_fingerprint  # type: ignore[union-attr, arg-type]
        if source.base is not None and lineage_fingerprint(source.base) != card.base_fingerprint:
            raise UserError(
                "the base model has changed since this reward model was trained on it",
                where=str(source.base.folder),
                fix="train the reward model again, or restore the base",
            )
        shared = share if source.base is not None and same_base else None
        backbone: AdaptedModel = shared or load_reward_base(base, weight_dtype, device)
        weights = read_tensors(source.folder / "reward_head.safetensors", ["bias", "weight"])
        inputs, features = weights["weight"].numel(), backbone.hidden_size
        if (weights["weight"].dim(), weights["bias"].dim()) != (1, 0):
            raise UserError(
                "the reward head is not a vector and a number",
                where=str(source.folder),
                fix="train the reward model again",
            )
        if inputs != features:
            raise UserError(
                f"the reward head has {inputs} inputs, its base has hidden size {features}",
                where=str(source.folder),
                fix="point checkpoint_path at a reward model trained on this base",
            )
        if source.base is not None:
            backbone.load_adapter(adapter, source.folder)
        head = ScalarHead(backbone.hidden_size, 0.0).to(device)
        head.load_state_dict(weights)
        head.requires_grad_(False)
        # Use its own tokenizer even on a shared base, since the policy may use another chat template.
        name = None if source.base is None else adapter
        return cls(backbone, name, head, card.offset, card.scale, tokenizer_of(source))


class RewardModelCard(json_io.Schema):
    """The contents of a reward model's reward.json."""

    offset: float
    scale: float
    base_fingerprint: str
    base: str = ""
    """Folder of the model it was trained on."""
    max_length: int | None = None
    """Longest sequence it was trained on, in tokens."""


def read_card(folder: Path) -> RewardModelCard:
    """Read the reward.json in `folder`. Raises UserError when it cannot be read or lacks a key."""
    path, fix = folder / "reward.json", "restore the file, or train the reward model again"
    card = json_io.read_object(path, fix)
    json_io.validate(card, RewardModelCard, str(path), fix)
    return RewardModelCard.model_validate(card)


@dataclass(frozen=True)
class RoleRow:
    """One row of the role table."""

    component: str
    trainable: bool
    parameters: int
    source: str
    fingerprint: str


def role_row(component: str, tensors: Iterable[nn.Parameter], source: str) -> RoleRow:
    """Describe a component: number of weights, whether they train, and a hash of their present values."""
    parameters = list(tensors)
    return RoleRow(
        component,
        any(p.requires_grad for p in parameters),
        sum(map(weight_count, parameters)),
        source,
        fingerprint_tensors(parameters)[:12],
    )


def fingerprint_tensors(tensors: Iterable[Tensor]) -> str:
    """Return the sha256 of the tensors' bytes, in order, including the scales of quantised ones."""
    digest = hashlib.sha256()
    for part in (part for tensor in tensors for part in stored_tensors(tensor)):
        digest.update(part.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def lineage_fingerprint(source: ModelSource) -> str:
    """Return one hash for a model and its chain of bases."""
    return source.lineage_fingerprint


def scatter_to_mask(
    values: Float[Tensor, " tokens"], response_mask: Bool[Tensor, "batch time"]
) -> Float[Tensor, "batch time"]:
    """Scatter one value per response token to its position; 0 elsewhere."""
    return torch.zeros(response_mask.shape, dtype=values.dtype, device=values.device).masked_scatter(
        response_mask, values
    )
