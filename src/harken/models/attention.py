"""Causal attention over packed rows (`models.packing`) on a CPU: plain multiplications, grouped heads, little kept.

torch's fused attention is slow there, forward and backward, and transformers' plain one repeats keys for grouped
heads, keeps the weights twice, in two precisions, and knows nothing of beginnings that rows share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from harken.models.packing import LEAST_SHARED, Layout, Segment, packed
from harken.models.shapes import rounded

NAME = "harken_packed"

# Weights over more keys than this are computed again backward: kept, they would outgrow all else that is.
KEPT = 256

STEP = 32
"""What the sizes of a multiplication are rounded up to."""


def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "1 heads places features"],
    key: Float[Tensor, "1 groups places features"],
    value: Float[Tensor, "1 groups places features"],
    attention_mask: None,
    scaling: float | None = None,
    *,
    layout: Layout,
    **ignored: Any,
) -> tuple[Float[Tensor, "1 places heads features"], None]:
    """softmax(q k s) v over what a place sees, the softmax in float32. Takes the arguments of transformers' interface.

    A place sees its segment's beginning and the spans before it: for layers without windows or masks of their own.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    seen: Tensor = _Attention.apply(query, key, value, layout.segments, scale)  # type: ignore[no-untyped-call]
    return seen, None


class _Attention(torch.autograd.Function):
    """Of each segment, with w = softmax(s q k'):   dv = w' dy,  g = w (dy v' - Σ w dy v'),  dq = s g k,  dk = s g' q.

    Heads of a group are rows of one multiplication: [groups, heads / groups × time, …]. Queries and keys are filled up
    with zeros to sizes that come again (see `models.shapes`).
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, segments: list[Segment], scale: float
    ) -> Tensor:
        _, heads, places, _ = query.shape
        keys, values = key[0].contiguous(), value[0].contiguous()
        groups = len(keys)
        seen = query.new_empty(places, heads, values.shape[-1])
        kept = []
        for segment in segments:
            rows, seen_keys = _rows(query[0], segment, groups), _visible(keys, segment)
            weights = _weights(rows, seen_keys, segment, scale).to(values.dtype)
            of_heads = _cut(weights @ _visible(values, segment), segment, heads)
            seen[segment.start : segment.end] = of_heads.transpose(0, 1)
            if segment.visible <= KEPT:
                kept.append(weights)
        ctx.save_for_backward(query, keys, values, *kept)
        ctx.segments, ctx.scale = segments, scale
        return seen[None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_seen: Tensor) -> tuple[Tensor | None, ...]:
        query, keys, values, *kept = ctx.saved_tensors
        of_short = iter(kept)
        groups, heads = len(keys), query.shape[1]
        of_query = torch.empty_like(query[0])
        # What many rows share adds up in float32.
        of_keys = torch.zeros(keys.shape, device=keys.device)
        of_values = torch.zeros(values.shape, device=values.device)
        heads_first = of_seen[0].transpose(0, 1)
        for segment in ctx.segments:
            rows, of_rows = _rows(query[0], segment, groups), _rows(heads_first, segment, groups)
            seen_keys, seen_values = _visible(keys, segment), _visible(values, segment)
            if segment.visible <= KEPT:
                weights = next(of_short)
            else:
                weights = _weights(rows, seen_keys, segment, ctx.scale).to(values.dtype)
            _add(of_values, segment, weights.transpose(-1, -2) @ of_rows)
            of_weights = (of_rows @ seen_values.transpose(-1, -2)).float()
            wide = weights.float()
            mean = torch.linalg.vecdot(of_weights, wide).unsqueeze(-1)
            slope = of_weights.sub_(mean).mul_(wide).mul_(ctx.scale).to(keys.dtype)
            of_query[:, segment.start : segment.end] = _cut(slope @ seen_keys, segment, heads)
            _add(of_keys, segment, slope.transpose(-1, -2) @ rows)
        return of_query[None], of_keys.to(keys.dtype)[None], of_values.to(values.dtype)[None], None, None


def _weights(
    rows: Float[Tensor, "groups queries features"],
    seen: Float[Tensor, "groups keys features"],
    segment: Segment,
    scale: float,
) -> Float[Tensor, "groups queries keys"]:
    """What each query takes of each key that the segment's last token sees."""
    scores = (rows @ seen.transpose(-1, -2)).float().mul_(scale)
    length, visible = rounded(len(segment), STEP), scores.shape[-1]
    before = segment.visible - len(segment)
    later = torch.full((length, visible - before), -torch.inf, device=rows.device).triu_(1)
    scores.view(len(rows), -1, length, visible)[..., before:].add_(later)
    return torch.softmax(scores, dim=-1)


def _rows(heads: Float[Tensor, "heads places features"], segment: Segment, groups: int) -> Tensor:
    """A segment's queries (or their gradients), [groups, heads / groups × time, features], zeros behind its end."""
    of_segment = heads[:, segment.start : segment.end]
    missing = rounded(len(segment), STEP) - len(segment)
    return nn.functional.pad(of_segment, (0, 0, 0, missing)).reshape(groups, -1, heads.shape[-1])


def _cut(rows: Float[Tensor, "groups queries features"], segment: Segment, heads: int) -> Tensor:
    """The reverse of `_rows`, [heads, time, features]."""
    return rows.view(heads, -1, rows.shape[-1])[:, : len(segment)]


def _visible(of_places: Float[Tensor, "groups places features"], segment: Segment) -> Tensor:
    """The keys or values that a segment's last token sees, in the order of its row, zeros behind them."""
    parts = [of_places[:, start:end] for start, end in segment.spans]
    missing = rounded(segment.visible, STEP) - segment.visible
    filler = of_places.new_zeros(len(of_places), missing, of_places.shape[-1])
    return torch.cat([*parts, filler], dim=1)


def _add(totals: Float[Tensor, "groups places features"], segment: Segment, parts: Tensor) -> None:
    """The reverse of `_visible`: parts go back to where they came from."""
    began = 0
    for start, end in segment.spans:
        totals[:, start:end] += parts[:, began : began + end - start]
        began += end - start


def is_plain(config: PreTrainedConfig) -> bool:
    """Whether every layer attends to all of its past, and scores are not capped."""
    windowed = {type(layer) for layer in DynamicCache(config=config).layers} != {DynamicLayer}
    return not windowed and getattr(config, "attn_logit_softcapping", None) is None


def serves(forward: Callable[..., Tensor], config: PreTrainedConfig, dtype: torch.dtype) -> bool:
    """Whether packed rows give what the model's own attention gives of them one by one, up to rounding.

    `forward(kernel, **inputs)` is the trunk on the CPU, [1, places, features], with an attention by its name.
    """
    if not is_plain(config):
        return False
    shared = list(range(1, LEAST_SHARED + 2))
    rows = [[*shared, 1, 2, 3], [*shared, 4]]
    layout = packed(rows)
    try:
        with torch.no_grad():
            own = [forward("eager", input_ids=torch.tensor([row]), use_cache=False)[0] for row in rows]
            ours = forward(
                NAME, input_ids=layout.tokens, position_ids=layout.positions, layout=layout, use_cache=False
            )[0]
    except TypeError:  # a family whose layers take no further arguments
        return False
    found = torch.cat([ours[where[: len(row)]] for where, row in zip(layout.where, rows, strict=True)])
    expected = torch.cat(own).float()
    return bool((expected - found.float()).norm() <= 10 * torch.finfo(dtype).eps * expected.norm())


AttentionInterface.register(NAME, packed_attention)
