"""Decode each row separately with transformers' own cache: slow, for models that no faster decoder is exact for."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from harken.models.backbone import Backbone


class PlainDecoder:
    """A `rollout.decoder.Decoder` that runs one row at a time through the model's own layers, cache and attention."""

    graphs = None

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone
        self.lengths: list[int] = []
        self.last_states = torch.empty(0, backbone.hidden_size, dtype=backbone.dtype, device=backbone.device)
        self._caches: list[DynamicCache] = []

    @property
    def rows(self) -> int:
        """Return how many rows a step computes."""
        return len(self.lengths)

    def prefill(self, prompts: Sequence[Sequence[int]], copies: Sequence[int]) -> None:
        """Add `copies[i]` sequences that begin with `prompts[i]`; each prompt is processed once."""
        states = [self.last_states]
        for prompt, count in zip(prompts, copies, strict=True):
            cache = DynamicCache(config=self.backbone.config)
            state = self._forward(list(prompt), cache)
            self._caches += [cache, *(copy.deepcopy(cache) for _ in range(count - 1))]
            states += [state] * count
            self.lengths += [len(prompt)] * count
        self.last_states = torch.cat(states)

    def append(self, tokens: Int[Tensor, " live"]) -> None:
        """Append one token to every live sequence."""
        chosen = tokens.tolist()
        self.last_states = torch.cat(
            [self._forward([token], cache) for token, cache in zip(chosen, self._caches, strict=True)]
        )
        self.lengths = [length + 1 for length in self.lengths]

    def drop(self, slots: Sequence[int]) -> list[int]:
        """Remove these sequences. Return the old slot of each live one, in order."""
        dropped = set(slots)
        order = [slot for slot in range(len(self.lengths)) if slot not in dropped]
        self.lengths = [self.lengths[slot] for slot in order]
        self._caches = [self._caches[slot] for slot in order]
        self.last_states = self.last_states[order]
        return order

    def _forward(self, tokens: Sequence[int], cache: DynamicCache) -> Float[Tensor, "1 features"]:
        """Return the trunk's hidden state at the last of these tokens of one row."""
        input_ids = torch.tensor([tokens], device=self.backbone.device)
        return self.backbone.forward(input_ids=input_ids, past_key_values=cache, use_cache=True)[:, -1]
