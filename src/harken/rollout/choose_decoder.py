"""Which way of decoding gives what the model's own forward gives of whole rows.

A decode step leaves out, speeds up or masks by itself what a family may do in its own manner: sinks, scales that depend
on the position, biases by distance, windows measured from the end of a cache. So before the first response each way is
tried against the trunk, from the fastest to the plainest: rows of unequal length in one batch, several tokens deep,
past the model's window, and at the furthest positions it has. A model that no way is right for is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from harken.errors import UserError
from harken.kernels.attention import INCOMPATIBLE_ERRORS, probe_tokens
from harken.models.backbone import Backbone
from harken.models.positions import position_limit
from harken.rollout import attention
from harken.rollout.decoder import Decoder
from harken.rollout.plain_decoder import PlainDecoder
from harken.run.terminal import say

FUSED_STEP = "decode step"
MODEL_LAYERS = "model layers"
MODEL_LAYERS_AND_ATTENTION = "model layers and attention"
ROW_BY_ROW = "row by row"
KINDS = (FUSED_STEP, MODEL_LAYERS, MODEL_LAYERS_AND_ATTENTION, ROW_BY_ROW)
PROBE_WINDOWS = {"sliding_window": 8, "attention_chunk_size": 8}
"""Settings that masks are made from in every forward, and what they are while a long one is tried."""
LONG_WINDOW = 300
"""A window of more tokens is tried as a short one."""
PROBE_STEPS = 4
MAX_UNITS = {2: 10, 4: 1000}
"""Units in the last place that two right ways may be apart, in norm, by the bytes of a number (`kernels.attention`)."""

AnyDecoder = Decoder | PlainDecoder


def open_decoder(backbone: Backbone, slots: int, capacity: int) -> AnyDecoder:
    """Return an empty decoder of the fastest way that is right for this model.

    Use it as a `Decoder`: without gradients, inside `backbone.decoding()` and a role. Raises UserError for a model
    that no way is right for.
    """
    return _decoder(backbone, fastest_decoder(backbone), slots, capacity)


def require_decodable(backbone: Backbone) -> None:
    """Raise UserError, in one line, for a model that responses cannot be generated with."""
    with torch.no_grad(), backbone.decoding(pack=False):
        fastest_decoder(backbone)


def fastest_decoder(backbone: Backbone) -> str:
    """Return the fastest way that agrees with the trunk; asked once, the same ever after."""
    if backbone.decoder_kind is None:
        ways = [way for way in KINDS if way != FUSED_STEP or backbone.decode_step is not None]
        found = next((way for way in ways if _is_exact(backbone, way)), None)
        if found is None:
            raise UserError(
                f"responses cannot be generated with this model: {_reason(backbone)}",
                where=str(backbone.model.config.model_type),
                fix="choose a model of a family in docs/models.md",
            )
        if found == ROW_BY_ROW:
            say(f"{backbone.model.config.model_type}: generates one row at a time, which is slow")
        backbone.decoder_kind = found
    return backbone.decoder_kind


def _reason(backbone: Backbone) -> str:
    """Say why no way is right: a family that keeps no KV cache, or one whose cache gives something else."""
    if getattr(backbone.model, "_is_stateful", False) or "past_key_values" not in _inputs(backbone.trunk):
        return (
            "it keeps a recurrent state instead of a KV cache, and decode steps from such a state cannot be padded "
            "or do not give what its forward over the whole row gives"
        )
    return "its decode steps, with transformers' own cache too, do not give what its forward over the whole row gives"


def _inputs(trunk: Any) -> set[str]:
    forward = trunk.forward
    return set(inspect.signature(getattr(forward, "__wrapped__", forward)).parameters)


def _decoder(backbone: Backbone, way: str, slots: int, capacity: int, offset: int = 0) -> AnyDecoder:
    if way == ROW_BY_ROW:
        return PlainDecoder(backbone)
    kernel = "eager" if way == MODEL_LAYERS_AND_ATTENTION else attention.NAME
    return Decoder(backbone, slots, capacity, kernel=kernel, use_decode_step=way == FUSED_STEP, offset=offset)


def _is_exact(backbone: Backbone, way: str) -> bool:
    """Whether every token of every case comes out as the trunk has it."""
    try:
        return all(_is_exact_for(backbone, way, *case) for case in _cases(backbone, way))
    except INCOMPATIBLE_ERRORS:
        return False


def _cases(backbone: Backbone, way: str) -> Iterator[tuple[list[int], int, dict[str, int]]]:
    """Lengths of prompts, the position they begin at, and windows to set meanwhile."""
    config = backbone.config
    windows = {name: getattr(config, name, None) for name in PROBE_WINDOWS}
    shortened = {name: PROBE_WINDOWS[name] for name, size in windows.items() if size and size > LONG_WINDOW}
    sizes = [
        size for size in (*windows.values(), getattr(config, "window_size", None)) if isinstance(size, int)
    ]
    within = max((size for size in sizes if size <= LONG_WINDOW), default=0)
    positions = getattr(config, "max_position_embeddings", None)
    limits = [limit for limit in (positions, position_limit(config)) if limit]
    furthest = min(limits, default=1 << 30)
    long = min(max(within, max(shortened.values(), default=0), 9) + 3, furthest - PROBE_STEPS)
    if long < 1:
        return
    yield [long, min(2, long)], 0, shortened
    offset = furthest - 7 - PROBE_STEPS
    if limits and offset > 0 and way != ROW_BY_ROW:
        yield [7, 2], offset, {}


def _is_exact_for(
    backbone: Backbone, way: str, lengths: list[int], offset: int, windows: dict[str, int]
) -> bool:
    config = backbone.config
    rows = probe_tokens(int(config.vocab_size), *(length + PROBE_STEPS for length in lengths))
    with _overridden(config, windows):
        decoder = _decoder(backbone, way, len(rows), max(lengths) + PROBE_STEPS, offset)
        decoder.graphs = None
        decoder.prefill([row[:-PROBE_STEPS] for row in rows], [1] * len(rows))
        states = [decoder.last_states]
        for step in range(PROBE_STEPS):
            decoder.append(torch.tensor([row[step - PROBE_STEPS] for row in rows], device=backbone.device))
            states.append(decoder.last_states)
        found = torch.stack(states, 1)
        expected = torch.stack([_forward_row(backbone, row, offset)[-PROBE_STEPS - 1 :] for row in rows])
    return _outputs_match(found, expected, backbone.dtype)


def _forward_row(backbone: Backbone, row: Sequence[int], offset: int) -> Tensor:
    """[time, features]: the trunk's own forward over one row, without a cache."""
    inputs: dict[str, Any] = {"input_ids": torch.tensor([row], device=backbone.device), "use_cache": False}
    if offset:
        inputs["position_ids"] = torch.arange(offset, offset + len(row), device=backbone.device)[None]
    return backbone.forward(**inputs)[0]


def _outputs_match(found: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Whether each row's tokens differ by rounding alone: in 16 bits most of them, where experts may be chosen anew."""
    found, expected = found.float(), expected.float()
    off = (found - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-9)
    worst = off.median(-1).values if dtype.itemsize < 4 else off.amax(-1)
    units = MAX_UNITS[min(dtype.itemsize, 4)]
    return bool((worst <= units * torch.finfo(dtype).eps).all())


@contextmanager
def _overridden(config: Any, values: dict[str, int]) -> Iterator[None]:
    before = {name: getattr(config, name) for name in values}
    try:
        for name, value in values.items():
            setattr(config, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)
