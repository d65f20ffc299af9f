"""Sequences in slots that grow by one token at a time: the model's side of generation, without choosing tokens."""

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
"""What the numbers of rows and of cached places are rounded up to (see `kernels.shape_buckets`)."""
WIDTH_STEP_ON_GPU = 256
"""There, reading places in vain costs less than another recording."""


class Decoder:
    """At most `slots` sequences of at most `capacity` tokens. The live ones are the first `len(lengths)` slots.

    Use it under `torch.no_grad`, inside `backbone.decoding()` and the role that is to speak. `last` is the
    trunk's state at each live sequence's last token, [live, features].
    """

    def __init__(
        self,
        backbone: Backbone,
        slots: int,
        capacity: int,
        *,
        kernel: str = attention.NAME,
        use_decode_step: bool = True,
        offset: int = 0,
    ) -> None:
        """`kernel` is the attention of the model's own layers, where `use_decode_step` does not take their place.

        With an `offset` every row stands that many positions further on.
        """
        config = backbone.config
        layers = DynamicCache(config=config).layers
        if odd := {type(layer) for layer in layers} - {DynamicLayer, DynamicSlidingWindowLayer}:
            raise TypeError(f"state of a kind that slots do not hold ({odd.pop().__name__})")
        self._kinds = set(get_layer_types_and_kwargs(config)[0])
        if not self._kinds <= {"full_attention", "sliding_attention"}:
            raise TypeError(f"masks of a kind that is not made here ({', '.join(sorted(self._kinds))})")
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
        """Where the work of a step is recorded, by itself and by who draws tokens; None on a CPU."""

    def prefill(self, prompts: Sequence[Sequence[int]], copies: Sequence[int]) -> None:
        """`copies[i]` sequences that begin with `prompts[i]`; each prompt is read once."""
        device, began, count = self.backbone.device, len(self.lengths), sum(copies)
        lengths = [len(prompt) for prompt, n in zip(prompts, copies, strict=True) for _ in range(n)]
        source = torch.arange(len(prompts)).repeat_interleave(torch.tensor(list(copies)))
        layout = self.backbone.pack(prompts)
        if self._offset:
            layout = replace(layout, positions=layout.positions + self._offset)
        where = layout.token_index[source].to(device)
        self._reserve(max([*self.lengths, *lengths]))
        self.cache.plan = Prefill(torch.arange(began, began + count, device=device), where)
        states = self.backbone.forward_packed(layout, past_key_values=self.cache, use_cache=True)
        ends = torch.tensor(lengths, device=device)[:, None] - 1
        self.last_states = torch.cat([self.last_states, states[where.gather(1, ends)[:, 0]]])
        self.lengths += lengths

    def append(self, tokens: Int[Tensor, " live"]) -> None:
        """One more token for every live sequence."""
        # Shapes that come again: free slots write a token nobody reads, and the mask hides places nobody has written.
        live, rows = len(self.lengths), self.rows
        places = self._reserve(max(self.lengths) + 1)
        at = torch.tensor([*self.lengths, *[0] * (rows - live)], device=tokens.device)
        tokens = torch.nn.functional.pad(tokens, (0, rows - live))
        self.lengths = [length + 1 for length in self.lengths]
        self.last_states = self._states(tokens, at, places)[:live]

    @property
    def rows(self) -> int:
        """How many rows a step is for: the live ones, and some that nobody reads."""
        live = len(self.lengths)
        # A GPU takes hardly longer for more rows, and every number of them is another recording.
        wanted = (
            round_up(live, ROW_STEP) if self.cache.trimmed else max(ROW_STEP, 1 << (live - 1).bit_length())
        )
        return min(wanted, self.cache.slots)

    def _states(self, tokens: Tensor, at: Tensor, places: int) -> Float[Tensor, "rows features"]:
        if self.graphs is not None:
            return self.graphs(places, partial(self._step, places), tokens, at)[0]
        if self._decode_step is not None:
            return self._step(places, tokens, at)[0]
        self.cache.plan = DecodeOneToken(at, places)
        states = self.backbone.forward(
            self._attention,
            input_ids=tokens[:, None],
            attention_mask=self._mask(at, places),
            position_ids=at[:, None] + self._offset,
            past_key_values=self.cache,
            use_cache=True,
        )
        return states[:, 0]

    def _step(self, places: int, tokens: Tensor, at: Tensor) -> tuple[Tensor]:
        assert self._decode_step is not None
        self.cache.plan = DecodeOneToken(at, places)
        return (self._decode_step(tokens, at + self._offset, _causal_mask(at, places), self.cache),)

    def drop(self, slots: Sequence[int]) -> list[int]:
        """End these sequences; later ones move into their places. Returns the old slot of each live one, in order."""
        gone = set(slots)
        live = len(self.lengths) - len(gone)
        order = list(range(live))
        holes = [slot for slot in order if slot in gone]
        movers = [slot for slot in range(live, len(self.lengths)) if slot not in gone]
        if holes:
            self.cache.copy_slots(movers, holes)
        for hole, mover in zip(holes, movers, strict=True):
            order[hole] = mover
        self.lengths = [self.lengths[slot] for slot in order]
        self.last_states = self.last_states[order]
        return order

    def _reserve(self, longest: int) -> int:
        """Room for sequences of `longest` tokens; returns how many places to attend to."""
        step = WIDTH_STEP if self.cache.trimmed else WIDTH_STEP_ON_GPU
        return self.cache.reserve(min(round_up(longest, step), self.cache.capacity))

    def _mask(self, at: Tensor, count: int) -> Tensor | dict[str, Tensor]:
        """[live, 1, 1, count], 0 or −inf, for the kinds of layer the model has."""
        full, places = _causal_mask(at, count), torch.arange(count, device=at.device)
        masks = {}
        for kind in self._kinds:
            first = torch.zeros_like(at)  # the first place that a row sees
            if kind == "sliding_attention":
                first = at - self._window + 1
            masks[kind] = (full + _additive_mask(places < first[:, None]))[:, None, None]
        return masks if len(masks) > 1 else masks.popitem()[1]


def _causal_mask(at: Tensor, count: int) -> Float[Tensor, "rows places"]:
    """0 up to a row's own place, −inf beyond."""
    return _additive_mask(torch.arange(count, device=at.device) > at[:, None])


def _additive_mask(hidden: Tensor) -> Tensor:
    return torch.zeros((), device=hidden.device).where(~hidden, -torch.inf)
