"""Run one decode step through the layers of a Llama-like model, with fewer operations than the model's own layers.

A decode step is many small operations: 91 per layer through transformers, views among them, and 64 here (two norms,
four matmuls, a rotation, and attention over a KV cache). A step of 32 rows (135M parameters, two cores) took 32.3 ms
instead of 36.7. On a GPU a step can be captured and replayed (`kernels.cuda_graphs`). A model uses this step only where
it gives the same hidden states as the model's own forward (`is_equivalent`).
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
"""Modules of a dense MLP; a mixture of experts routes tokens, so its operations depend on them."""
PROBE_PATTERN = [5, 3, 7, 3, 2]
"""Indices of the probe tokens that a model is tested on, in order."""
LENGTH_DEPENDENT_ROPE = {"dynamic", "longrope"}
"""RoPE types whose frequencies depend on the length of the sequence."""


@runtime_checkable
class DecodeCache(Protocol):
    """The KV cache that a decode step reads and extends."""

    def append(
        self,
        layer: int,
        keys: Float[Tensor, "rows groups features"],
        values: Float[Tensor, "rows groups features"],
    ) -> tuple[
        Float[Tensor, "rows groups features length"],
        Float[Tensor, "rows groups length features"],
    ]:
        """Store one token per row; return all keys (transposed) and values, the new ones included."""
        ...


class LlamaDecodeStep:
    """The trunk of a Llama-like model for one token per row, without gradients.

    It uses the adapter that is active when it is created.
    """

    def __init__(self, trunk: Any) -> None:
        self.embed, self.rotary, self.norm = trunk.embed_tokens, trunk.rotary_emb, trunk.norm
        self.layers = [_DecoderLayer(layer, index, trunk.config) for index, layer in enumerate(trunk.layers)]
        self.groups = int(trunk.config.num_key_value_heads)
        dense = all(hasattr(layer.mlp, name) for layer in trunk.layers for name in DENSE_MLP)
        self.capturable = (
            dense and getattr(trunk.rotary_emb, "rope_type", "default") not in LENGTH_DEPENDENT_ROPE
        )
        """Whether the operations of a step do not depend on tokens or positions, so that it can be captured."""

    def __call__(
        self, tokens: Int[Tensor, " rows"], positions: Int[Tensor, " rows"], mask: Tensor, cache: DecodeCache
    ) -> Float[Tensor, "rows width"]:
        """Return the trunk's hidden states at `tokens`, one per row, at `positions`.

        `mask` [rows, length] is added to the scores: 0 where a row attends to a cached position, its own included, and
        −inf elsewhere. This is a safe point for signals.
        """
        signals.raise_if_stopped()
        x = self.embed(tokens)
        cosines, sines = (table[0, :, None] for table in self.rotary(x, positions[None]))
        # Rotating the halves subtracts the second from the first.
        left, right = sines.chunk(2, -1)
        rotation = cosines, torch.cat([-left, right], -1)
        cache_dtype = matmul_dtype(x.dtype, x.device)
        mask = mask.to(cache_dtype).repeat_interleave(self.groups, 0)[:, None]
        for layer in self.layers:
            x = layer(x, rotation, mask, cache)
        return self.norm(x)  # type: ignore[no-any-return]


class _DecoderLayer:
    def __init__(self, layer: Any, index: int, config: PreTrainedConfig) -> None:
        attention = layer.self_attn
        self.number, self.features, self.scale = index, attention.head_dim, attention.scaling
        self.heads, self.groups = config.num_attention_heads, config.num_key_value_heads
        self.input_norm, self.post_attention_norm = layer.input_layernorm, layer.post_attention_layernorm
        self.mlp = layer.mlp
        self.qkv_proj = fuse_projections([attention.q_proj, attention.k_proj, attention.v_proj])
        self.o_proj = attention.o_proj
        self.qk_norms = [
            getattr(attention, name) for name in sorted(QK_NORMS, reverse=True) if hasattr(attention, name)
        ]

    def __call__(
        self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor, cache: DecodeCache
    ) -> Tensor:
        rows, heads, groups = len(x), self.heads, self.groups
        qkv = self.qkv_proj(self.input_norm(x)).view(rows, heads + 2 * groups, self.features)
        qk, values = qkv[:, : heads + groups], qkv[:, heads + groups :]
        if self.qk_norms:
            q_norm, k_norm = self.qk_norms
            qk = torch.cat([q_norm(qk[:, :heads]), k_norm(qk[:, heads:])], 1)
        qk = _apply_rotary(qk, *rotation)
        keys, values = cache.append(self.number, qk[:, heads:], values)
        # Heads of a key-value group share keys: one matmul per row and group.
        queries = qk[:, :heads].reshape(rows * groups, heads // groups, self.features).to(keys.dtype)
        scores = torch.baddbmm(mask, queries, keys.flatten(0, 1), alpha=self.scale)
        output = torch.bmm(scores.softmax(-1), values.flatten(0, 1)).to(x.dtype)
        x = x + self.o_proj(output.view(rows, heads * self.features))
        # Mixtures of experts require [batch, time, features].
        return x + self.mlp(self.post_attention_norm(x)[:, None])[:, 0]  # type: ignore[no-any-return]


def _apply_rotary(
    x: Float[Tensor, "rows heads features"], cosines: Tensor, sines: Tensor
) -> Float[Tensor, "rows heads features"]:
    """Return x cos + (x with its halves swapped) sin, where the first half's sines are negated."""
    first, second = x.chunk(2, -1)
    return (x * cosines).add_(torch.cat([second, first], -1).mul_(sines))


def is_equivalent(trunk: Any, forward: Callable[..., Tensor], dtype: torch.dtype) -> bool:
    """Return whether `trunk` has Llama's modules, and its own forward gives the same hidden states up to rounding.

    `forward(kernel, **inputs)` runs the trunk with the attention of that name: [1, tokens, features].
    """
    if not _has_llama_layout(trunk):
        return False
    (probe,) = probe_tokens(trunk.config.vocab_size, max(PROBE_PATTERN) + 1)
    tokens = torch.tensor([probe[i] for i in PROBE_PATTERN], device=trunk.embed_tokens.weight.device)
    with torch.no_grad():
        expected = forward("eager", input_ids=tokens[None], use_cache=False)[0]
        try:
            actual = _decode_all(LlamaDecodeStep(trunk), tokens)
        except INCOMPATIBLE_ERRORS:
            return False
    return outputs_match(actual, expected, dtype)


def _decode_all(step: LlamaDecodeStep, tokens: Int[Tensor, " time"]) -> Float[Tensor, "time width"]:
    cache, positions = _ConcatenatingCache(), torch.arange(len(tokens), device=tokens.device)
    states = (
        step(tokens[i : i + 1], positions[i : i + 1], torch.zeros(1, i + 1, device=tokens.device), cache)
        for i in range(len(tokens))
    )
    return torch.cat(list(states))


def _has_llama_layout(trunk: Any) -> bool:
    """Return whether the trunk has exactly the modules that the decode step uses."""
    parts = {name for name, _ in trunk.named_children()}
    if parts != {"embed_tokens", "layers", "norm", "rotary_emb"} or not is_full_attention(trunk.config):
        return False
    for layer in trunk.layers:
        if {name for name, _ in layer.named_children()} != LAYER_MODULES:
            return False
        modules = {name for name, _ in layer.self_attn.named_children()}
        if modules not in (ATTENTION_MODULES, ATTENTION_MODULES | QK_NORMS):
            return False
        if not all(hasattr(layer.self_attn, name) for name in ("head_dim", "scaling")):
            return False
    return True


class _ConcatenatingCache:
    """A KV cache that grows by concatenation, for the equivalence test."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def append(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = to_matmul_dtype(keys)[..., None], to_matmul_dtype(values)[:, :, None]
        if layer in self.layers:
            previous = self.layers[layer]
            keys, values = torch.cat([previous[0], keys], -1), torch.cat([previous[1], values], 2)
        self.layers[layer] = keys, values
        return keys, values
