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

CHUNK = 256
"""Rows of logits that exist at a time (`maths.logprobs.projected`)."""


@dataclass(frozen=True)
class Pass:
    """How a model is run: in which precision, with which adapter, on which kind of device."""

    shape: ModelShape
    number: int
    """Bytes of a number that is computed with: 2 in bfloat16, 4 in float32."""
    rank: int | None
    """Of the adapter that trains; None: every weight trains; 0: nothing does."""
    dropout: bool = False
    on_cpu: bool = True
    checkpointing: bool = False

    @property
    def multiplied(self) -> int:
        """Bytes of a number while it is multiplied."""
        return multiplied(self.number, on_cpu=self.on_cpu)

    @property
    def mixed(self) -> bool:
        """Whether float32 weights are trained in a 16-bit computation."""
        return self.rank is None and self.computed < 4

    @property
    def computed(self) -> int:
        """Bytes of a number between two products: where every weight trains, in the type of the products."""
        return self.multiplied if self.rank is None else self.number

    def kept(self, rows: float, longest: int) -> float:
        """Bytes that a forward with gradients over `rows` × `longest` tokens leaves for the backward."""
        tokens, layer = rows * longest, self._kept_in_layer(longest)
        if self.checkpointing:
            # Every layer's input, and one layer that is being run again.
            stream = 4 if self.mixed else self.computed
            return tokens * (self.shape.layers * stream * self.shape.width + layer) + self._experts()
        return tokens * self.shape.layers * layer + self.shape.layers * self._experts()

    def _experts(self) -> float:
        """Bytes of a layer's experts with their adapter added: peft makes them anew in every forward."""
        total = sum(count * inputs * outputs for count, inputs, outputs in self.shape.experts)
        return float(self.computed * total / self.shape.layers) if self.rank else 0.0

    def casts(self) -> float:
        """Bytes of the 16-bit copies of what trains, alive from forward to backward."""
        if self.computed == 4:
            return 0.0
        trained = self.shape.parameters if self.rank is None else self.shape.lora(self.rank)
        return float(self.computed * trained)

    def in_passing(self, rows: float, longest: int, *, backward: bool = False) -> float:
        """Bytes that come and go within one layer: the most of feed-forward, attention and norm."""
        s, b, tokens = self.shape, self.computed, rows * longest
        # On a CPU attention goes batch of segments by batch: mask, scores and weights, backward their gradients.
        together = min(max(MAX_BATCH_WEIGHTS, min(longest, MAX_SEGMENT_LENGTH) * longest), tokens * longest)
        weights = s.heads * together if self.on_cpu else 0
        # Where a product is wider than what is kept: its input and output once more, and all of attention.
        m = self.multiplied
        copies = m * (s.width + s.inner) if m > b else 0
        rows = tokens * m * 2 * (s.heads + s.groups) * s.features if m > b else 0
        if backward:
            whole = tokens * (4 * b * s.inner + copies)
            return float(max(whole, rows + 4 * m * weights, tokens * 16 * s.width))
        block = b * (2 * s.width + 3 * s.inner) + copies
        return float(max(tokens * block, rows + 3 * m * weights, tokens * (12 + 2 * b) * s.width))

    def head(self, response_masks: float, *, weight_trains: bool = False) -> float:
        """Bytes around the unembedding of `actions` tokens: states and their gradient, and of a chunk's logits (on a
        CPU of a tile of the vocabulary) one copy as multiplied and two wide, three where they are capped."""
        s, b = self.shape, self.computed
        tile = min(TILE, s.vocabulary) if self.on_cpu else s.vocabulary
        chunk = min(CHUNK, response_masks) * tile * (b + (12 if s.softcapped else 8))
        of_tile = tile * s.width * self.multiplied if self.multiplied > b else 0
        of_weight = 2 * 4 * s.vocabulary * s.width if weight_trains else 0
        return float(chunk + of_tile + of_weight + response_masks * s.width * (b + 4))

    def _weights(self, longest: int) -> float:
        """Bytes of saved attention weights per token: of segments that see at most `MAX_SAVED_KEYS` keys."""
        if not self.on_cpu:
            return 4.0 * self.shape.heads
        seen = round_up(min(longest, MAX_SAVED_KEYS), SIZE_STEP)
        return self.computed * self.shape.heads * seen * seen / longest

    def _kept_in_layer(self, longest: int) -> float:
        s, b = self.shape, self.computed
        seen, shared = s.heads * s.features, s.groups * s.features
        stream = 4 if self.mixed else b
        # Under autocast each of q, k, v, gate and up makes its own 16-bit copy of a float32 input, and rotation
        # leaves queries and keys in float32.
        inputs = 5 * b * s.width if self.mixed else 2 * b * s.width
        weights = self._weights(longest)
        kept = float(2 * stream * s.width + 8 + inputs)
        kept += stream * (seen + shared) + b * shared + weights + b * seen
        kept += 3 * b * s.inner
        if self.rank is not None:
            kept += b * self.rank * len(s.projections) / s.layers
            kept -= b * (2 * s.width + s.inner)
            if self.dropout:
                # peft's own way: the dropped copy and the mask of each matrix's input, in place of the input.
                mask = b if self.on_cpu else 1
                kept += (b + mask) * sum(inputs for inputs, _ in s.projections) / s.layers
                # A fused kernel keeps what it gave, whoever else does.
                kept -= b * seen if self.on_cpu else 0
        return kept


def multiplied(number: int, *, on_cpu: bool) -> int:
    """Bytes in which a number that is kept in `number` bytes is multiplied (`maths.matmul_dtype`)."""
    kept_as = torch.bfloat16 if number == 2 else torch.float32
    return matmul_dtype(kept_as, torch.device("cpu" if on_cpu else "cuda")).itemsize


def key_value_cache(shape: ModelShape, slots: int, capacity: int, number: int) -> float:
    """Bytes of keys and values of `slots` sequences of `capacity` tokens."""
    return float(2 * shape.layers * slots * capacity * shape.groups * shape.features * number)


def step_logits(shape: ModelShape, slots: int, number: int) -> float:
    """Bytes of one decoding step's logits: as multiplied, wide, and as masses with their running sums."""
    return float(slots * shape.vocabulary * (number + (4 if shape.softcapped else 3) * 4))
