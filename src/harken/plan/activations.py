"""How many bytes a pass through the trunk holds: what forward keeps for backward, and what comes and goes.

Counted from the operations of `kernels.fused`, `kernels.lora_linear` and `kernels.attention`, layer by layer. b is 2 or
4, the bytes of a number that is computed with; h the width, i the inner width, H heads and G groups of d features.

    kept of each token in a layer                                    bytes
    inputs of the two norms, and their quotients                     2 b h + 8
    normed inputs of (q, k, v) and of (gate, up)                     2 b h, none under an adapter: made again
    queries, keys, values                                            b (H + 2 G) d
    attention weights over up to `MAX_SAVED_KEYS` tokens on a CPU              b H T
    or the log-sum of a fused kernel                                 4 H
    what attention gave, the input of o                              b H d
    gate, up, and their product, the input of down                   3 b i, under an adapter 2 b i
    x A' of each of the adapter's matrices                           b rank
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
"""Rows of logits that exist at a time (`maths.logprobs.projected`)."""


@dataclass(frozen=True)
class PassMemory:
    """How a model is run: in which precision, with which adapter, on which kind of device."""

    shape: ModelShape
    itemsize: int
    """Bytes of a number that is computed with: 2 in bfloat16, 4 in float32."""
    rank: int | None
    """Of the adapter that trains; None: every weight trains; 0: nothing does."""
    dropout: bool = False
    on_cpu: bool = True
    checkpointing: bool = False

    @property
    def matmul_itemsize(self) -> int:
        """Bytes of a number while it is multiplied."""
        return matmul_itemsize(self.itemsize, on_cpu=self.on_cpu)

    @property
    def mixed_precision(self) -> bool:
        """Whether float32 weights are trained in a 16-bit computation."""
        return self.rank is None and self.compute_itemsize < 4

    @property
    def compute_itemsize(self) -> int:
        """Bytes of a number between two products: where every weight trains, in the type of the products."""
        return self.matmul_itemsize if self.rank is None else self.itemsize

    def saved(self, rows: float, longest: int) -> float:
        """Bytes that a forward with gradients over `rows` × `longest` tokens leaves for the backward."""
        tokens, layer = rows * longest, self._saved_per_layer(longest)
        if self.checkpointing:
            # Every layer's input, and one layer that is being run again.
            stream = 4 if self.mixed_precision else self.compute_itemsize
            return (
                tokens * (self.shape.layers * stream * self.shape.hidden_size + layer)
                + self._adapted_experts()
            )
        return tokens * self.shape.layers * layer + self.shape.layers * self._adapted_experts()

    def _adapted_experts(self) -> float:
        """Bytes of a layer's experts with their adapter added: peft makes them anew in every forward."""
        total = sum(count * inputs * outputs for count, inputs, outputs in self.shape.experts)
        return float(self.compute_itemsize * total / self.shape.layers) if self.rank else 0.0

    def weight_casts(self) -> float:
        """Bytes of the 16-bit copies of what trains, alive from forward to backward."""
        if self.compute_itemsize == 4:
            return 0.0
        trained = self.shape.parameters if self.rank is None else self.shape.lora_parameters(self.rank)
        return float(self.compute_itemsize * trained)

    def workspace(self, rows: float, longest: int, *, backward: bool = False) -> float:
        """Bytes that come and go within one layer: the most of feed-forward, attention and norm."""
        s, b, tokens = self.shape, self.compute_itemsize, rows * longest
        # On a CPU attention goes batch of segments by batch: mask, scores and weights, backward their gradients.
        together = min(max(MAX_BATCH_WEIGHTS, min(longest, MAX_SEGMENT_LENGTH) * longest), tokens * longest)
        weights = s.heads * together if self.on_cpu else 0
        # Where a product is wider than what is kept: its input and output once more, and all of attention.
        m = self.matmul_itemsize
        copies = m * (s.hidden_size + s.intermediate_size) if m > b else 0
        rows = tokens * m * 2 * (s.heads + s.kv_heads) * s.head_dim if m > b else 0
        if backward:
            whole = tokens * (4 * b * s.intermediate_size + copies)
            return float(max(whole, rows + 4 * m * weights, tokens * 16 * s.hidden_size))
        block = b * (2 * s.hidden_size + 3 * s.intermediate_size) + copies
        return float(max(tokens * block, rows + 3 * m * weights, tokens * (12 + 2 * b) * s.hidden_size))

    def unembedding(self, response_masks: float, *, weight_trains: bool = False) -> float:
        """Bytes around the unembedding of `actions` tokens: states and their gradient, and of a chunk's logits (on a
        CPU of a tile of the vocabulary) one copy as multiplied and two wide, three where they are capped."""
        s, b = self.shape, self.compute_itemsize
        tile = min(TILE, s.vocab_size) if self.on_cpu else s.vocab_size
        chunk = min(LOGIT_ROWS, response_masks) * tile * (b + (12 if s.softcapped else 8))
        of_tile = tile * s.hidden_size * self.matmul_itemsize if self.matmul_itemsize > b else 0
        of_weight = 2 * 4 * s.vocab_size * s.hidden_size if weight_trains else 0
        return float(chunk + of_tile + of_weight + response_masks * s.hidden_size * (b + 4))

    def _attention_weights(self, longest: int) -> float:
        """Bytes of saved attention weights per token: of segments that see at most `MAX_SAVED_KEYS` keys."""
        if not self.on_cpu:
            return 4.0 * self.shape.heads
        seen = round_up(min(longest, MAX_SAVED_KEYS), SIZE_STEP)
        return self.compute_itemsize * self.shape.heads * seen * seen / longest

    def _saved_per_layer(self, longest: int) -> float:
        s, b = self.shape, self.compute_itemsize
        seen, shared = s.heads * s.head_dim, s.kv_heads * s.head_dim
        stream = 4 if self.mixed_precision else b
        # Under autocast each of q, k, v, gate and up makes its own 16-bit copy of a float32 input, and rotation
        # leaves queries and keys in float32.
        inputs = 5 * b * s.hidden_size if self.mixed_precision else 2 * b * s.hidden_size
        weights = self._attention_weights(longest)
        kept = float(2 * stream * s.hidden_size + 8 + inputs)
        kept += stream * (seen + shared) + b * shared + weights + b * seen
        kept += 3 * b * s.intermediate_size
        if self.rank is not None:
            kept += b * self.rank * len(s.projections) / s.layers
            kept -= b * (2 * s.hidden_size + s.intermediate_size)
            if self.dropout:
                # peft's own way: the dropped copy and the mask of each matrix's input, in place of the input.
                mask = b if self.on_cpu else 1
                kept += (b + mask) * sum(inputs for inputs, _ in s.projections) / s.layers
                # A fused kernel keeps what it gave, whoever else does.
                kept -= b * seen if self.on_cpu else 0
        return kept


def matmul_itemsize(number: int, *, on_cpu: bool) -> int:
    """Bytes in which a number that is kept in `number` bytes is multiplied (`maths.matmul_dtype`)."""
    kept_as = torch.bfloat16 if number == 2 else torch.float32
    return matmul_dtype(kept_as, torch.device("cpu" if on_cpu else "cuda")).itemsize


def kv_cache_bytes(shape: ModelShape, slots: int, capacity: int, number: int) -> float:
    """Bytes of keys and values of `slots` sequences of `capacity` tokens."""
    return float(2 * shape.layers * slots * capacity * shape.kv_heads * shape.head_dim * number)


def decode_logits_bytes(shape: ModelShape, slots: int, number: int) -> float:
    """Bytes of one decoding step's logits: as multiplied, wide, and as masses with their running sums."""
    return float(slots * shape.vocab_size * (number + (4 if shape.softcapped else 3) * 4))
