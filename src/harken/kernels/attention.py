"""Causal attention over packed rows (`kernels.packing`) on a CPU, as plain matmuls per key-value group.

torch's fused attention is slow on a CPU, forward and backward. transformers' eager attention repeats keys for grouped
heads, saves the attention weights in two precisions, and cannot share prefixes.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from harken.kernels.packing import MIN_SHARED_PREFIX, PackedSequence, pack_rows
from harken.kernels.segments import SegmentBatch, SegmentBatches
from harken.maths.matmul_dtype import to_matmul_dtype, without_autocast

PACKED_ATTENTION = "harken_packed"

# Up to this many tokens, eager attention over padded rows is faster on a CPU than torch's fused attention.
MAX_EAGER_LENGTH = 256

# Attention weights over more keys than this are recomputed in the backward pass; saving them would dominate memory.
MAX_SAVED_KEYS = 256


def packed_attention(
    module: nn.Module,
    query: Float[Tensor, "1 heads tokens features"],
    key: Float[Tensor, "1 groups tokens features"],
    value: Float[Tensor, "1 groups tokens features"],
    attention_mask: None,
    scaling: float | None = None,
    *,
    layout: PackedSequence,
    **kwargs: Any,
) -> tuple[Float[Tensor, "1 tokens heads features"], None]:
    """Compute softmax(q k s) v over packed segments, with the softmax in float32.

    Takes the arguments of transformers' attention interface. Only for layers without windows or their own masks. Raises
    TypeError for an argument that would change the result and is not supported.
    """
    reject_unknown_arguments(kwargs)
    if attention_mask is not None:
        raise TypeError("a mask of its own")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output: Tensor = _Attention.apply(
        query, key, value, layout.segment_batches(query.shape[1], key.shape[1]), scale
    )  # type: ignore[no-untyped-call]
    # The view is outside the autograd function: its outputs may not be views that layers modify in place.
    return output.view(1, -1, query.shape[1], value.shape[-1]), None


IGNORED_ARGUMENTS = {"dropout", "position_ids", "cache_position", "use_cache", "is_causal", "training"}
"""Arguments of transformers' attention interface that kernels ignore: only adapters have dropout."""


def reject_unknown_arguments(kwargs: dict[str, Any], masked: Set[str] = frozenset()) -> None:
    """Raise TypeError for an argument that is set, and is neither ignorable nor already part of the mask."""
    for name, value in kwargs.items():
        ignored = name.startswith(("output_", "return_")) or name in IGNORED_ARGUMENTS | masked
        if not ignored and value is not None and value is not False:
            raise TypeError(f"attention with {name}")


class _Attention(torch.autograd.Function):
    """With w = softmax(s q k'):   dv = w' dy,  g = w (dy v' - Σ w dy v'),  dq = s g k,  dk = s g' q.

    One batch of segments at a time, with a matmul per segment and key-value group: [matmuls, heads / groups × time, …].
    """

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, batches: SegmentBatches, scale: float
    ) -> Tensor:
        heads, groups = query.shape[1], key.shape[1]
        rows = [_rows(x) for x in (query, key, value)]
        queries, keys, values = map(to_matmul_dtype, rows)
        output = values.new_empty(batches.rows, values.shape[-1])
        saved = []
        with without_autocast(query.device):
            for batch in batches.batches:
                weights = _weights(queries, keys, batch, heads, groups, scale).to(values.dtype)
                batch_output = output[batch.first_query : batch.first_query + len(batch.queries)]
                torch.bmm(
                    weights,
                    _gather(values, batch.keys, weights),
                    out=batch_output.view(*weights.shape[:2], -1),
                )
                if weights.shape[-1] <= MAX_SAVED_KEYS:
                    saved.append(weights.to(value.dtype))
        ctx.save_for_backward(*rows, *saved)
        ctx.batches, ctx.heads, ctx.groups, ctx.scale = batches, heads, groups, scale
        return output.to(value.dtype).index_select(0, batches.output_index)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *saved = ctx.saved_tensors
        queries, keys, values = map(to_matmul_dtype, (query, key, value))
        saved_weights = iter(saved)
        grad_tokens = to_matmul_dtype(grad_output.reshape(-1, grad_output.shape[-1]))
        grad_queries = queries.new_empty(ctx.batches.rows, queries.shape[-1])
        # Gradients of keys that many rows share are accumulated in float32.
        grad_keys = torch.zeros(keys.shape, dtype=_at_least_fp32(keys), device=keys.device)
        grad_values = torch.zeros(values.shape, dtype=_at_least_fp32(values), device=values.device)
        for batch in ctx.batches.batches:
            if batch.mask.shape[-1] <= MAX_SAVED_KEYS:
                weights = to_matmul_dtype(next(saved_weights))
            else:
                weights = _weights(queries, keys, batch, ctx.heads, ctx.groups, ctx.scale).to(values.dtype)
            grad_rows = grad_tokens.index_select(0, batch.queries).index_fill_(0, batch.padding, 0.0)
            grad_rows = grad_rows.view(*weights.shape[:2], -1)
            _scatter_add(grad_values, batch.keys, weights.transpose(1, 2) @ grad_rows)
            grad_weights = grad_rows @ _gather(values, batch.keys, weights).transpose(1, 2)
            grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, grad_weights.dtype).to(
                keys.dtype
            )
            batch_grad = grad_queries[batch.first_query : batch.first_query + len(batch.queries)]
            torch.bmm(
                grad_scores,
                _gather(keys, batch.keys, grad_scores),
                out=batch_grad.view(*grad_scores.shape[:2], -1),
            )
            rows = queries.index_select(0, batch.queries).view(*grad_scores.shape[:2], -1)
            _scatter_add(grad_keys, batch.keys, grad_scores.transpose(1, 2) @ rows)
        grad_query = grad_queries.index_select(0, ctx.batches.output_index).mul_(ctx.scale)
        return (
            _heads_first(grad_query.to(query.dtype), ctx.heads),
            _heads_first(grad_keys.mul_(ctx.scale).to(key.dtype), ctx.groups),
            _heads_first(grad_values.to(value.dtype), ctx.groups),
            None,
            None,
        )


def _weights(
    queries: Float[Tensor, "many features"],
    keys: Float[Tensor, "fewer features"],
    batch: SegmentBatch,
    heads: int,
    groups: int,
    scale: float,
) -> Float[Tensor, "matmuls queries visible"]:
    """Return the attention weights of a batch, softmax(s q k' + mask), computed in float32."""
    mask = batch.head_masks(heads, groups, queries.dtype)
    rows = queries.index_select(0, batch.queries).view(*mask.shape[:2], -1)
    scores = torch.baddbmm(mask, rows, _gather(keys, batch.keys, mask).transpose(1, 2), alpha=scale)
    return torch.softmax(scores, dim=-1)


def _rows(heads: Float[Tensor, "1 heads tokens features"]) -> Float[Tensor, "rows features"]:
    """Flatten tokens and heads into one dimension."""
    return heads[0].transpose(0, 1).reshape(-1, heads.shape[-1])


def _heads_first(rows: Float[Tensor, "rows features"], heads: int) -> Tensor:
    """Undo `_rows`: return [1, heads, tokens, features]."""
    return rows.view(-1, heads, rows.shape[-1]).transpose(0, 1)[None]


def _gather(rows: Tensor, keys: Tensor, weights: Tensor) -> Tensor:
    """Return the keys or values of a batch, [matmuls, visible, features]."""
    return rows.index_select(0, keys).view(weights.shape[0], weights.shape[-1], -1)


def _scatter_add(totals: Float[Tensor, "rows features"], keys: Tensor, parts: Tensor) -> None:
    """Undo `_gather`: add the gradients of gathered rows to their sources."""
    totals.index_add_(0, keys, parts.view(-1, parts.shape[-1]).to(totals.dtype))


def _at_least_fp32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def is_full_attention(config: PreTrainedConfig) -> bool:
    """Return whether every layer attends to all earlier tokens, and scores have no soft cap."""
    windowed = {type(layer) for layer in DynamicCache(config=config).layers} != {DynamicLayer}
    return not windowed and getattr(config, "attn_logit_softcapping", None) is None


def outputs_match(actual: Tensor, expected: Tensor, dtype: torch.dtype) -> bool:
    """Return whether two outputs of a model of `dtype` differ by rounding alone.

    Equivalent implementations were 3 to 20 units in the last place apart in float32 and 1 to 5 in bfloat16, in norm;
    a different formula was a third of the norm away.
    """
    units = 10 if dtype.itemsize < 4 else 1000
    expected = expected.float()
    return bool((actual.float() - expected).norm() <= units * torch.finfo(dtype).eps * expected.norm())


def probe_tokens(vocabulary: int, *counts: int) -> list[list[int]]:
    """Return distinct token ids to probe a model with, in groups of these sizes.

    They start an eighth into the vocabulary: it begins with special tokens, some of them untrained, on which rounding
    alone can change a model's output.
    """
    tokens = iter(range(vocabulary // 8, vocabulary // 8 + sum(counts)))
    return [[next(tokens) % vocabulary for _ in range(count)] for count in counts]


INCOMPATIBLE_ERRORS = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""Exceptions that a model's layers raise when they do not support the given arguments."""


def max_eager_length(forward: Callable[..., Tensor], config: PreTrainedConfig, dtype: torch.dtype) -> int:
    """Return the longest padded row for which eager attention is used on a CPU.

    It is 0 where eager attention differs from the attention the model is loaded with: falcon's adds ALiBi twice.
    """
    (row,) = probe_tokens(config.get_text_config().vocab_size, 9)
    tokens = torch.tensor([row])
    try:
        with torch.no_grad():
            native, eager = (forward(kernel, input_ids=tokens, use_cache=False) for kernel in (None, "eager"))
    except INCOMPATIBLE_ERRORS:
        return 0
    return MAX_EAGER_LENGTH if outputs_match(eager, native, dtype) else 0


def is_packing_equivalent(
    forward: Callable[..., Tensor], config: PreTrainedConfig, dtype: torch.dtype
) -> bool:
    """Return whether packed rows give the same hidden states as the model's own attention row by row, up to rounding.

    `forward(kernel, **inputs)` runs the trunk on the CPU with the attention of that name: [1, tokens, features].
    """
    if not is_full_attention(config):
        return False
    shared, first, second = probe_tokens(config.vocab_size, MIN_SHARED_PREFIX + 1, 3, 1)
    rows = [[*shared, *first], [*shared, *second]]
    layout = pack_rows(rows)
    try:
        with torch.no_grad():
            separate = [forward("eager", input_ids=torch.tensor([row]), use_cache=False)[0] for row in rows]
            ours = forward(
                PACKED_ATTENTION,
                input_ids=layout.tokens,
                position_ids=layout.positions,
                layout=layout,
                use_cache=False,
            )[0]
    except INCOMPATIBLE_ERRORS:
        return False
    packed = torch.cat([ours[index[: len(row)]] for index, row in zip(layout.token_index, rows, strict=True)])
    return outputs_match(packed, torch.cat(separate), dtype)


AttentionInterface.register(PACKED_ATTENTION, packed_attention)
