"""Sequences that grow one token at a time, each with the library's own cache: slow, for what transformers decodes."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from harken.models.backbone import Backbone


class PlainDecoder:
    """As `rollout.decoder.Decoder`, a row at a time through the model's own layers, cache and attention."""

    graphs = None

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.lengths: list[int] = []
        self.last_states = torch.empty(0, backbone.hidden_size, dtype=backbone.dtype, device=backbone.device)
        self._pasts: list[DynamicCache] = []

    @property
    def rows(self) -> int:
        """How many rows a step is for."""
        return len(self.lengths)

    def prefill(self, prompts: Sequence[Sequence[int]], copies: Sequence[int]) -> None:
        """`copies[i]` sequences that begin with `prompts[i]`; each prompt is read once."""
        states = [self.last_states]
        for prompt, count in zip(prompts, copies, strict=True):
            past = DynamicCache(config=self.backbone.config)
            read = self._read(list(prompt), past)
            self._pasts += [past, *(copy.deepcopy(past) for _ in range(count - 1))]
            states += [read] * count
            self.lengths += [len(prompt)] * count
        self.last_states = torch.cat(states)

    def append(self, tokens: Int[Tensor, " live"]) -> None:
        """One more token for every live sequence."""
        chosen = tokens.tolist()
        self.last_states = torch.cat(
            [self._read([token], past) for token, past in zip(chosen, self._pasts, strict=True)]
        )
        self.lengths = [length + 1 for length in self.lengths]

    def drop(self, slots: Sequence[int]) -> list[int]:
        """End these sequences. Returns the old slot of each live one, in order."""
        gone = set(slots)
        order = [slot for slot in range(len(self.lengths)) if slot not in gone]
        self.lengths = [self.lengths[slot] for slot in order]
        self._pasts = [self._pasts[slot] for slot in order]
        self.last_states = self.last_states[order]
        return order

    def _read(self, tokens: Sequence[int], past: DynamicCache) -> Float[Tensor, "1 features"]:
        """The trunk's state at the last of these tokens of one row."""
        given = torch.tensor([tokens], device=self.backbone.device)
        return self.backbone.forward(input_ids=given, past_key_values=past, use_cache=True)[:, -1]
