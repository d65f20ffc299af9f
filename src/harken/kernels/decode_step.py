"""One token a row through the layers of a model of Llama's kind, as answers are generated.

A step of generation is many small operations, 91 a layer through the library's layers, views among them. Here they are
64: two norms, four products, a rotation and attention over a cache. A step of 32 rows (135M parameters, two cores) took
32.3 ms instead of 36.7. On a GPU a step can be recorded and replayed (`kernels.cuda_graphs`). A model is read this way
only where that gives what its own forward gives (`is_equivalent`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedConfig

from harken.kernels.attention import INCOMPATIBLE_ERRORS, is_full_attention, outputs_match, probe_tokens
from harken.kernels.packed_linear import fuse_projections
from harken.maths.matmul_dtype import matmul_dtype, to_matmul_dtype
from harken.run import signals

LAYER_MODULES = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION_MODULES = {"q_proj", "k_proj", "v_proj", "o_proj"}
QK_NORMS = {"q_norm", "k_norm"}
DENSE_MLP = ("gate_proj", "up_proj", "down_proj")
"""Of a block that takes every token the same way: experts look at which tokens are theirs."""
PROBE_PATTERN = [5, 3, 7, 3, 2]
"""Which of some ordinary tokens a model is asked about, one after the other."""
LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}
"""Rotations whose frequencies depend on how far a sequence has come."""


@runtime_checkable
class DecodeCache(Protocol):
    """Keys and values of what rows said before."""

    def append(
        self,
        layer: int,
        keys: Float[Tensor, "rows groups features"],
        values: Float[Tensor, "rows groups features"],
    ) -> tuple[
        Float[Tensor, "rows groups features places"],
        Float[Tensor, "rows groups places features"],
    ]:
        """Keep those of one more token a row; returns all there are, the new ones included, for a product."""
        ...


class LlamaDecodeStep:
    """The trunk of a model of Llama's kind. Use it without gradients; the adapter in force when it is made counts."""

    def __init__(self, trunk: Any) -> None:
        self.embed, self.rotary, self.norm = trunk.embed_tokens, trunk.rotary_emb, trunk.norm
        self.layers = [
            _DecoderLayer(layer, number, trunk.config) for number, layer in enumerate(trunk.layers)
        ]
        self.groups = int(trunk.config.num_key_value_heads)
        dense = all(hasattr(layer.mlp, name) for layer in trunk.layers for name in DENSE_MLP)
        self.capturable = (
            dense and getattr(trunk.rotary_emb, "rope_type", "default") not in LENGTH_DEPENDENT_ROPE
        )
        """Whether a step does the same operations whatever the tokens and places are."""

    def __call__(
        self, tokens: Int[Tensor, " rows"], at: Int[Tensor, " rows"], hidden: Tensor, past: DecodeCache
    ) -> Float[Tensor, "rows width"]:
        """The trunk's state at `tokens`, which stand at positions `at`.

        `hidden` [rows, places] is 0 where a row sees a place of the past, its own new one included, and −inf
        elsewhere. A place where a run may stop.
        """
        signals.raise_if_stopped()
        x = self.embed(tokens)
        cosines, sines = (table[0, :, None] for table in self.rotary(x, at[None]))
        # What the second half of the features gives the first is subtracted.
        left, right = sines.chunk(2, -1)
        rotation = cosines, torch.cat([-left, right], -1)
        kept_as = matmul_dtype(x.dtype, x.device)
        mask = hidden.to(kept_as).repeat_interleave(self.groups, 0)[:, None]
        for layer in self.layers:
            x = layer(x, rotation, mask, past)
        return self.norm(x)  # type: ignore[no-any-return]


class _DecoderLayer:
    def __init__(self, layer: Any, number: int, config: PreTrainedConfig) -> None:
        attention = layer.self_attn
        self.number, self.features, self.scale = number, attention.head_dim, attention.scaling
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.before, self.after, self.mlp = layer.input_layernorm, layer.post_attention_layernorm, layer.mlp
        self.read = fuse_projections([attention.q_proj, attention.k_proj, attention.v_proj])
        self.give = attention.o_proj
        self.norms = [
            getattr(attention, name) for name in sorted(QK_NORMS, reverse=True) if hasattr(attention, name)
        ]

    def __call__(self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor, past: DecodeCache) -> Tensor:
        rows, heads, groups = len(x), self.heads, self.groups
        read = self.read(self.before(x)).view(rows, heads + 2 * groups, self.features)
        turned, values = read[:, : heads + groups], read[:, heads + groups :]
        if self.norms:
            of_queries, of_keys = self.norms
            turned = torch.cat([of_queries(turned[:, :heads]), of_keys(turned[:, heads:])], 1)
        turned = _apply_rotary(turned, *rotation)
        keys, values = past.append(self.number, turned[:, heads:], values)
        # Heads of a group read the same keys: one product for each row and group.
        queries = turned[:, :heads].reshape(rows * groups, heads // groups, self.features).to(keys.dtype)
        scores = torch.baddbmm(mask, queries, keys.flatten(0, 1), alpha=self.scale)
        seen = torch.bmm(scores.softmax(-1), values.flatten(0, 1)).to(x.dtype)
        x = x + self.give(seen.view(rows, heads * self.features))
        # Experts ask for a batch of sequences.
        return x + self.mlp(self.after(x)[:, None])[:, 0]  # type: ignore[no-any-return]


def _apply_rotary(
    x: Float[Tensor, "rows heads features"], cosines: Tensor, sines: Tensor
) -> Float[Tensor, "rows heads features"]:
    """x cos + (halves of x, exchanged) sin, the first half's sines negative."""
    first, second = x.chunk(2, -1)
    return (x * cosines).add_(torch.cat([second, first], -1).mul_(sines))


def is_equivalent(trunk: Any, forward: Callable[..., Tensor], dtype: torch.dtype) -> bool:
    """Whether `trunk` is built this way, and its own forward gives the same numbers up to rounding.

    `forward(kernel, **inputs)` is the trunk, [1, places, features], with an attention by its name.
    """
    if not _has_llama_layout(trunk):
        return False
    (some,) = probe_tokens(trunk.config.vocab_size, max(PROBE_PATTERN) + 1)
    tokens = torch.tensor([some[i] for i in PROBE_PATTERN], device=trunk.embed_tokens.weight.device)
    with torch.no_grad():
        expected = forward("eager", input_ids=tokens[None], use_cache=False)[0]
        try:
            found = _decode_all(LlamaDecodeStep(trunk), tokens)
        except INCOMPATIBLE_ERRORS:
            return False
    return outputs_match(found, expected, dtype)


def _decode_all(ours: LlamaDecodeStep, tokens: Int[Tensor, " time"]) -> Float[Tensor, "time width"]:
    past, places = _ConcatenatingCache(), torch.arange(len(tokens), device=tokens.device)
    steps = (
        ours(tokens[i : i + 1], places[i : i + 1], torch.zeros(1, i + 1, device=tokens.device), past)
        for i in range(len(tokens))
    )
    return torch.cat(list(steps))


def _has_llama_layout(trunk: Any) -> bool:
    """Whether its modules have the names that are read here, and no others."""
    parts = {name for name, _ in trunk.named_children()}
    if parts != {"embed_tokens", "layers", "norm", "rotary_emb"} or not is_full_attention(trunk.config):
        return False
    for layer in trunk.layers:
        if {name for name, _ in layer.named_children()} != LAYER_MODULES:
            return False
        inside = {name for name, _ in layer.self_attn.named_children()}
        if inside not in (ATTENTION_MODULES, ATTENTION_MODULES | QK_NORMS):
            return False
        if not all(hasattr(layer.self_attn, name) for name in ("head_dim", "scaling")):
            return False
    return True


class _ConcatenatingCache:
    """The plainest past there is."""

    def __init__(self) -> None:
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = to_matmul_dtype(keys)[..., None], to_matmul_dtype(values)[:, :, None]
        if layer in self.kept:
            before = self.kept[layer]
            keys, values = torch.cat([before[0], keys], -1), torch.cat([before[1], values], 2)
        self.kept[layer] = keys, values
        return keys, values
