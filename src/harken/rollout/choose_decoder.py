"""Choose the fastest decoder that gives the same hidden states as the model's own forward over whole rows.

A decode step replaces parts of a model or makes its masks, and families differ there: attention sinks, scales that
depend on the position, biases by distance, windows measured from the end of a cache. So before the first response each
decoder is compared with the trunk, from the fastest to the slowest, on rows of unequal length in one batch, over
several tokens, past the model's window, and at its last positions. A model for which no decoder is exact is refused.
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
DECODERS = (FUSED_STEP, MODEL_LAYERS, MODEL_LAYERS_AND_ATTENTION, ROW_BY_ROW)
PROBE_WINDOWS = {"sliding_window": 8, "attention_chunk_size": 8}
"""Settings from which every forward makes its masks, with the values that replace long windows during the test."""
LONG_WINDOW = 300
"""Windows of more tokens are shortened during the test."""
PROBE_STEPS = 4
MAX_UNITS = {2: 10, 4: 1000}
"""Tolerance in units in the last place, in norm, by bytes per number (see `kernels.attention.outputs_match`)."""

AnyDecoder = Decoder | PlainDecoder


def open_decoder(backbone: Backbone, slots: int, capacity: int) -> AnyDecoder:
    """Return an empty decoder of the fastest exact kind for this model.

    Use it as a `Decoder`: without gradients, inside `backbone.decoding()` and a role. Raises UserError for a model for
    which no decoder is exact.
    """
    return _make_decoder(backbone, fastest_decoder(backbone), slots, capacity)


def require_decodable(backbone: Backbone) -> None:
    """Raise UserError for a model that cannot generate responses."""
    with torch.no_grad(), backbone.decoding(pack=False):
        fastest_decoder(backbone)


def fastest_decoder(backbone: Backbone) -> str:
    """Return the fastest decoder kind that matches the trunk; tested once per backbone."""
    if backbone.decoder_kind is None:
        kinds = [kind for kind in DECODERS if kind != FUSED_STEP or backbone.decode_step is not None]
        fastest = next((kind for kind in kinds if _is_exact(backbone, kind)), None)
        if fastest is None:
            raise UserError(
                f"responses cannot be generated with this model: {_reason(backbone)}",
                where=str(backbone.model.config.model_type),
                fix="choose a model of a family in docs/models.md",
            )
        if fastest == ROW_BY_ROW:
            say(f"{backbone.model.config.model_type}: generates one row at a time, which is slow")
        backbone.decoder_kind = fastest
    return backbone.decoder_kind


def _reason(backbone: Backbone) -> str:
    """Explain why no decoder is exact: no KV cache, or decode steps that differ from the forward."""
    if getattr(backbone.model, "_is_stateful", False) or "past_key_values" not in _parameter_names(
        backbone.trunk
    ):
        return (
            "it keeps a recurrent state instead of a KV cache, and decode steps from such a state cannot be padded "
            "or differ from its forward over the whole row"
        )
    return "its decode steps differ from its forward over the whole row, also with transformers' own cache"


def _parameter_names(trunk: Any) -> set[str]:
    forward = trunk.forward
    return set(inspect.signature(getattr(forward, "__wrapped__", forward)).parameters)


def _make_decoder(backbone: Backbone, kind: str, slots: int, capacity: int, offset: int = 0) -> AnyDecoder:
    if kind == ROW_BY_ROW:
        return PlainDecoder(backbone)
    kernel = "eager" if kind == MODEL_LAYERS_AND_ATTENTION else attention.DECODE_ATTENTION
    return Decoder(
        backbone, slots, capacity, kernel=kernel, use_decode_step=kind == FUSED_STEP, offset=offset
    )


def _is_exact(backbone: Backbone, kind: str) -> bool:
    """Return whether the decoder's hidden states match the trunk's in every test case."""
    try:
        return all(_is_exact_for(backbone, kind, *case) for case in _cases(backbone, kind))
    except INCOMPATIBLE_ERRORS:
        return False


def _cases(backbone: Backbone, kind: str) -> Iterator[tuple[list[int], int, dict[str, int]]]:
    """Yield test cases: prompt lengths, the first position, and the windows to set."""
    config = backbone.config
    windows = {name: getattr(config, name, None) for name in PROBE_WINDOWS}
    shortened = {name: PROBE_WINDOWS[name] for name, size in windows.items() if size and size > LONG_WINDOW}
    sizes = [
        size for size in (*windows.values(), getattr(config, "window_size", None)) if isinstance(size, int)
    ]
    window = max((size for size in sizes if size <= LONG_WINDOW), default=0)
    positions = getattr(config, "max_position_embeddings", None)
    limits = [limit for limit in (positions, position_limit(config)) if limit]
    furthest = min(limits, default=1 << 30)
    long = min(max(window, max(shortened.values(), default=0), 9) + 3, furthest - PROBE_STEPS)
    if long < 1:
        return
    yield [long, min(2, long)], 0, shortened
    offset = furthest - 7 - PROBE_STEPS
    if limits and offset > 0 and kind != ROW_BY_ROW:
        yield [7, 2], offset, {}


def _is_exact_for(
    backbone: Backbone, kind: str, lengths: list[int], offset: int, windows: dict[str, int]
) -> bool:
    config = backbone.config
    rows = probe_tokens(int(config.vocab_size), *(length + PROBE_STEPS for length in lengths))
    with _overridden(config, windows):
        decoder = _make_decoder(backbone, kind, len(rows), max(lengths) + PROBE_STEPS, offset)
        decoder.graphs = None
        decoder.prefill([row[:-PROBE_STEPS] for row in rows], [1] * len(rows))
        states = [decoder.last_states]
        for step in range(PROBE_STEPS):
            decoder.append(torch.tensor([row[step - PROBE_STEPS] for row in rows], device=backbone.device))
            states.append(decoder.last_states)
        actual = torch.stack(states, 1)
        expected = torch.stack([_forward_row(backbone, row, offset)[-PROBE_STEPS - 1 :] for row in rows])
    return _outputs_match(actual, expected, backbone.dtype)


def _forward_row(backbone: Backbone, row: Sequence[int], offset: int) -> Tensor:
    """Return the trunk's hidden states of one row without a cache, [time, features]."""
    inputs: dict[str, Any] = {"input_ids": torch.tensor([row], device=backbone.device), "use_cache": False}
    if offset:
        inputs["position_ids"] = torch.arange(offset, offset + len(row), device=backbone.device)[None]
    return backbone.forward(**inputs)[0]


def _outputs_match(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Return whether states differ only by rounding; in 16 bits by median, since rounding may change an expert."""
    actual, expected = actual.float(), expected.float()
    off = (actual - expected).norm(dim=-1) / expected.norm(dim=-1).clamp(min=1e-9)
    worst = off.median(-1).values if dtype.itemsize < 4 else off.amax(-1)
    units = MAX_UNITS[min(dtype.itemsize, 4)]
    return bool((worst <= units * torch.finfo(dtype).eps).all())


@contextmanager
def _overridden(config: Any, values: dict[str, int]) -> Iterator[None]:
    previous = {name: getattr(config, name) for name in values}
    try:
        for name, value in values.items():
            setattr(config, name, value)
        yield
    finally:
        for name, value in previous.items():
            setattr(config, name, value)
