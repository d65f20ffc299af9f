"""Decode with the model: sequences in KV cache slots that grow by one token per step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import (
    DynamicLayer,
    DynamicSlidingWindowLayer,
    get_layer_types_and_kwargs,
)

from harken.kernels.cuda_graphs import CudaGraphs
from harken.kernels.shape_buckets import round_up
from harken.models.backbone import Backbone
from harken.rollout import attention
from harken.rollout.kv_cache import DecodeOneToken, KVCache, Prefill

ROW_STEP, WIDTH_STEP = 8, 32
"""Row counts and cache widths are rounded up to these (see `kernels.shape_buckets`)."""
WIDTH_STEP_ON_GPU = 256
"""On a GPU, attending to masked positions costs less than another graph capture."""


class Decoder:
    """At most `slots` sequences of at most `capacity` tokens. The live ones are the first `len(lengths)` slots.

    Use it under `torch.no_grad`, inside `backbone.decoding()` and the role to sample from. `last_states` holds the
    trunk's hidden state at each live sequence's last token, [live, features].
    """

    def __init__(
        self,
        backbone: Backbone,
        slots: int,
        capacity: int,
        *,
        kernel: str = attention.DECODE_ATTENTION,
        use_decode_step: bool = True,
        offset: int = 0,
    ) -> None:
        """Create an empty decoder. `kernel` is the attention to use where `use_decode_step` does not apply.

        `offset` is added to every position.
        """
        config = backbone.config
        layers = DynamicCache(config=config).layers
        if odd := {type(layer) for layer in layers} - {DynamicLayer, DynamicSlidingWindowLayer}:
            raise TypeError(f"slots cannot hold a cache layer of type {odd.pop().__name__}")
        self._kinds = set(get_layer_types_and_kwargs(config)[0])
        if not self._kinds <= {"full_attention", "sliding_attention"}:
            raise TypeError(f"no decode mask for layers of type {', '.join(sorted(self._kinds))}")
        self.backbone = backbone
        on_cpu = backbone.device.type == "cpu"
        self.cache = KVCache(config.num_hidden_layers, slots, capacity, trimmed=on_cpu)
        self.lengths: list[int] = []
        self.last_states = torch.empty(0, backbone.hidden_size, dtype=backbone.dtype, device=backbone.device)
        self._window = int(getattr(config, "sliding_window", None) or 0)
        self._attention, self._offset = kernel, offset
        self._decode_step = backbone.decode_step if use_decode_step else None
        capturable = not on_cpu and self._decode_step is not None and self._decode_step.capturable
        self.graphs = CudaGraphs() if capturable and offset == 0 else None
        """CUDA graphs of decode steps, also used for sampling tokens; None on a CPU."""

    def prefill(self, prompts: Sequence[Sequence[int]], copies: Sequence[int]) -> None:
        """Add `copies[i]` sequences that begin with `prompts[i]`; each prompt is processed once."""
        device, first, count = self.backbone.device, len(self.lengths), sum(copies)
        lengths = [len(prompt) for prompt, n in zip(prompts, copies, strict=True) for _ in range(n)]
        source = torch.arange(len(prompts)).repeat_interleave(torch.tensor(list(copies)))
        layout = self.backbone.pack(prompts)
        if self._offset:
            layout = replace(layout, positions=layout.positions + self._offset)
        token_index = layout.token_index[source].to(device)
        self._reserve(max([*self.lengths, *lengths]))
        self.cache.plan = Prefill(torch.arange(first, first + count, device=device), token_index)
        states = self.backbone.forward_packed(layout, past_key_values=self.cache, use_cache=True)
        last_positions = torch.tensor(lengths, device=device)[:, None] - 1
        self.last_states = torch.cat([self.last_states, states[token_index.gather(1, last_positions)[:, 0]]])
        self.lengths += lengths

    def append(self, tokens: Int[Tensor, " live"]) -> None:
        """Append one token to every live sequence."""
        # Shapes are rounded up: unused rows write to free slots, and the mask hides unwritten positions.
        live, rows = len(self.lengths), self.rows
        width = self._reserve(max(self.lengths) + 1)
        positions = torch.tensor([*self.lengths, *[0] * (rows - live)], device=tokens.device)
        tokens = torch.nn.functional.pad(tokens, (0, rows - live))
        self.lengths = [length + 1 for length in self.lengths]
        self.last_states = self._states(tokens, positions, width)[:live]

    @property
    def rows(self) -> int:
        """Return how many rows a step computes: the live ones, rounded up."""
        live = len(self.lengths)
        # On a GPU more rows take hardly longer, and every row count needs its own graph.
        affordable = (
            round_up(live, ROW_STEP) if self.cache.trimmed else max(ROW_STEP, 1 << (live - 1).bit_length())
        )
        return min(affordable, self.cache.slots)

    def _states(self, tokens: Tensor, positions: Tensor, width: int) -> Float[Tensor, "rows features"]:
        if self.graphs is not None:
            return self.graphs(width, partial(self._step, width), tokens, positions)[0]
        if self._decode_step is not None:
            return self._step(width, tokens, positions)[0]
        self.cache.plan = DecodeOneToken(positions, width)
        states = self.backbone.forward(
            self._attention,
            input_ids=tokens[:, None],
            attention_mask=self._mask(positions, width),
            position_ids=positions[:, None] + self._offset,
            past_key_values=self.cache,
            use_cache=True,
        )
        return states[:, 0]

    def _step(self, width: int, tokens: Tensor, positions: Tensor) -> tuple[Tensor]:
        assert self._decode_step is not None
        self.cache.plan = DecodeOneToken(positions, width)
        return (
            self._decode_step(tokens, positions + self._offset, _causal_mask(positions, width), self.cache),
        )

    def drop(self, slots: Sequence[int]) -> list[int]:
        """Remove these sequences; later ones move into their slots. Return the old slot of each live one, in order."""
        dropped = set(slots)
        live = len(self.lengths) - len(dropped)
        order = list(range(live))
        holes = [slot for slot in order if slot in dropped]
        movers = [slot for slot in range(live, len(self.lengths)) if slot not in dropped]
        if holes:
            self.cache.copy_slots(movers, holes)
        for hole, mover in zip(holes, movers, strict=True):
            order[hole] = mover
        self.lengths = [self.lengths[slot] for slot in order]
        self.last_states = self.last_states[order]
        return order

    def _reserve(self, longest: int) -> int:
        """Make room for sequences of `longest` tokens; return how many positions to attend to."""
        step = WIDTH_STEP if self.cache.trimmed else WIDTH_STEP_ON_GPU
        return self.cache.reserve(min(round_up(longest, step), self.cache.capacity))

    def _mask(self, positions: Tensor, width: int) -> Tensor | dict[str, Tensor]:
        """Return additive masks [live, 1, 1, width], one per layer type of the model."""
        full, columns = _causal_mask(positions, width), torch.arange(width, device=positions.device)
        masks = {}
        for kind in self._kinds:
            first = torch.zeros_like(positions)  # the first position that a row attends to
            if kind == "sliding_attention":
                first = positions - self._window + 1
            masks[kind] = (full + _additive_mask(columns < first[:, None]))[:, None, None]
        return masks if len(masks) > 1 else masks.popitem()[1]


def _causal_mask(positions: Tensor, width: int) -> Float[Tensor, "rows width"]:
    """Return 0 up to a row's own position, −inf beyond."""
    return _additive_mask(torch.arange(width, device=positions.device) > positions[:, None])


def _additive_mask(hidden: Tensor) -> Tensor:
    return torch.zeros((), device=hidden.device).where(~hidden, -torch.inf)
