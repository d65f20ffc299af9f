"""Predict the memory of a forward and backward pass: activations saved for the backward pass, and temporaries.

Counted from the operations of `kernels.fused`, `kernels.lora_linear` and `kernels.attention`, layer by layer. b is the
itemsize of an activation (2 or 4), h the hidden size, i the intermediate size, H heads and G key-value heads of size d.

    saved per token and layer                                        bytes
    inputs of the two norms, and their scales                        2 b h + 8
    normed inputs of (q, k, v) and of (gate, up)                     2 b h, under an adapter recomputed
    queries, keys, values                                            b (H + 2 G) d
    attention weights over up to `MAX_SAVED_KEYS` tokens on a CPU    b H T
    or the log-sum of a fused kernel                                 4 H
    output of attention, the input of o                              b H d
    gate, up, and their product, the input of down                   3 b i, under an adapter 2 b i
    x A' of each matrix of the adapter                           b rank
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harken.kernels.attention import MAX_SAVED_KEYS
from harken.kernels.packing import MAX_SEGMENT_LENGTH
from harken.kernels.segments import MAX_BATCH_WEIGHTS, SIZE_STEP
from harken.kernels.shape_buckets import round_up
from harken.maths.logprobs import TILE
from harken.maths.matmul_dtype import matmul_dtype
from harken.plan.shape import ModelShape

LOGIT_ROWS = 256
"""Rows of logits in memory at a time (`maths.logprobs.linear_logprobs`)."""


@dataclass(frozen=True)
class PassMemory:
    """Predict the memory of passes of one model for a dtype, an adapter and a kind of device."""

    shape: ModelShape
    itemsize: int
    """Bytes of an activation: 2 in bfloat16, 4 in float32."""
    rank: int | None
    """Rank of the trained adapter; None if every weight trains, 0 if none does."""
    dropout: bool = False
    on_cpu: bool = True
    checkpointing: bool = False

    @property
    def matmul_itemsize(self) -> int:
        """Bytes of a number in a matmul."""
        return matmul_itemsize(self.itemsize, on_cpu=self.on_cpu)

    @property
    def mixed_precision(self) -> bool:
        """Whether float32 weights are trained with 16-bit activations."""
        return self.rank is None and self.compute_itemsize < 4

    @property
    def compute_itemsize(self) -> int:
        """Bytes of an activation between two matmuls. If every weight trains, it has the matmul dtype."""
        return self.matmul_itemsize if self.rank is None else self.itemsize

    def saved(self, rows: float, longest: int) -> float:
        """Count the bytes that a forward over `rows` × `longest` tokens saves for the backward pass."""
        tokens, layer = rows * longest, self._saved_per_layer(longest)
        if self.checkpointing:
            # The input of every layer, and the activations of the one layer that is recomputed.
            stream = 4 if self.mixed_precision else self.compute_itemsize
            return (
                tokens * (self.shape.layers * stream * self.shape.hidden_size + layer)
                + self._adapted_experts()
            )
        return tokens * self.shape.layers * layer + self.shape.layers * self._adapted_experts()

    def _adapted_experts(self) -> float:
        """Bytes of a layer's experts with their adapter added, which peft computes in every forward."""
        total = sum(count * inputs * outputs for count, inputs, outputs in self.shape.experts)
        return float(self.compute_itemsize * total / self.shape.layers) if self.rank else 0.0

    def weight_casts(self) -> float:
        """Count the bytes of 16-bit copies of the trained weights, alive from forward to backward."""
        if self.compute_itemsize == 4:
            return 0.0
        trained = self.shape.parameters if self.rank is None else self.shape.lora_parameters(self.rank)
        return float(self.compute_itemsize * trained)

    def workspace(self, rows: float, longest: int, *, backward: bool = False) -> float:
        """Count the bytes of temporaries within one layer: the largest of feed-forward, attention and norm."""
        s, b, tokens = self.shape, self.compute_itemsize, rows * longest
        # On a CPU, attention runs on one batch of segments at a time: mask, scores, weights (backward: gradients).
        batch = min(max(MAX_BATCH_WEIGHTS, min(longest, MAX_SEGMENT_LENGTH) * longest), tokens * longest)
        weights = s.heads * batch if self.on_cpu else 0
        # If matmuls are computed in a wider dtype: copies of their inputs and outputs, and of all of attention.
        m = self.matmul_itemsize
        copies = m * (s.hidden_size + s.intermediate_size) if m > b else 0
        attention_copies = tokens * m * 2 * (s.heads + s.kv_heads) * s.head_dim if m > b else 0
        if backward:
            feed_forward = tokens * (4 * b * s.intermediate_size + copies)
            return float(max(feed_forward, attention_copies + 4 * m * weights, tokens * 16 * s.hidden_size))
        block = b * (2 * s.hidden_size + 3 * s.intermediate_size) + copies
        return float(
            max(tokens * block, attention_copies + 3 * m * weights, tokens * (12 + 2 * b) * s.hidden_size)
        )

    def unembedding(self, tokens: float, *, weight_trains: bool = False) -> float:
        """Count the bytes around the unembedding of `tokens` tokens.

        These are the hidden states and their gradient, and for one chunk of logits (on a CPU, one tile of the
        vocabulary) a copy in the matmul dtype and two in float32; three if logits are capped.
        """
        s, b = self.shape, self.compute_itemsize
        tile = min(TILE, s.vocab_size) if self.on_cpu else s.vocab_size
        chunk = min(LOGIT_ROWS, tokens) * tile * (b + (12 if s.softcapped else 8))
        of_tile = tile * s.hidden_size * self.matmul_itemsize if self.matmul_itemsize > b else 0
        of_weight = 2 * 4 * s.vocab_size * s.hidden_size if weight_trains else 0
        return float(chunk + of_tile + of_weight + tokens * s.hidden_size * (b + 4))

    def _attention_weights(self, longest: int) -> float:
        """Bytes of saved attention weights per token. Only segments of at most `MAX_SAVED_KEYS` keys save them."""
        if not self.on_cpu:
            return 4.0 * self.shape.heads
        keys = round_up(min(longest, MAX_SAVED_KEYS), SIZE_STEP)
        return self.compute_itemsize * self.shape.heads * keys * keys / longest

    def _saved_per_layer(self, longest: int) -> float:
        s, b = self.shape, self.compute_itemsize
        query_size, key_size = s.heads * s.head_dim, s.kv_heads * s.head_dim
        stream = 4 if self.mixed_precision else b
        # Under autocast each of q, k, v, gate and up creates its own 16-bit copy of a float32 input, and rotation
        # leaves queries and keys in float32.
        inputs = 5 * b * s.hidden_size if self.mixed_precision else 2 * b * s.hidden_size
        weights = self._attention_weights(longest)
        saved = float(2 * stream * s.hidden_size + 8 + inputs)
        saved += stream * (query_size + key_size) + b * key_size + weights + b * query_size
        saved += 3 * b * s.intermediate_size
        if self.rank is not None:
            saved += b * self.rank * len(s.projections) / s.layers
            saved -= b * (2 * s.hidden_size + s.intermediate_size)
            if self.dropout:
                # With dropout, peft saves a dropped copy and a mask of each matrix's input instead of the input.
                mask = b if self.on_cpu else 1
                saved += (b + mask) * sum(inputs for inputs, _ in s.projections) / s.layers
                # A fused kernel saves its output in any case.
                saved -= b * query_size if self.on_cpu else 0
        return saved


def matmul_itemsize(itemsize: int, *, on_cpu: bool) -> int:
    """Return the bytes of a number in a matmul, given its bytes as an activation (`maths.matmul_dtype`)."""
    dtype = torch.bfloat16 if itemsize == 2 else torch.float32
    return matmul_dtype(dtype, torch.device("cpu" if on_cpu else "cuda")).itemsize


def kv_cache_bytes(shape: ModelShape, slots: int, capacity: int, itemsize: int) -> float:
    """Return the bytes of keys and values of `slots` sequences of `capacity` tokens."""
    return float(2 * shape.layers * slots * capacity * shape.kv_heads * shape.head_dim * itemsize)


def decode_logits_bytes(shape: ModelShape, slots: int, itemsize: int) -> float:
    """Return the bytes of one decode step's logits: as multiplied, in float32, and the sampler's cumulative sums."""
    return float(slots * shape.vocab_size * (itemsize + (4 if shape.softcapped else 3) * 4))
