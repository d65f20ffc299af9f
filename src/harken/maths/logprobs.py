"""Compute log-probabilities of given tokens, in nats, at the sampling temperature."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from harken.maths.logits import LogitsHead, at_least_fp32
from harken.maths.matmul_dtype import to_matmul_dtype

TILE = 4096
"""Vocabulary tokens per tile of float32 logits, on a CPU."""


def token_logprobs(
    logits: Float[Tensor, "*shape vocab"], tokens: Int[Tensor, "*shape"], temperature: float = 1.0
) -> Float[Tensor, "*shape"]:
    """Compute log softmax(logits / temperature) at `tokens`, in float32 or wider."""
    return _gather(torch.log_softmax(at_least_fp32(logits) / temperature, dim=-1), tokens)


def linear_logprobs(
    hidden: Float[Tensor, "n width"],
    head: LogitsHead,
    tokens: Int[Tensor, " n"],
    temperature: float = 1.0,
    chunk: int = 256,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Compute each token's log-probability and its distribution's entropy from hidden states (nats).

    The logits are `head(hidden)`; the log-softmax is float32 or wider. Differentiable in `hidden` and in the head's
    weight and bias.
    Only `chunk` rows of logits exist at a time, also in the backward pass: they are recomputed instead of stored, and
    on a CPU in tiles of the vocabulary.
    """
    logprobs, entropy = _LinearLogprobs.apply(  # type: ignore[no-untyped-call]
        hidden, head.weight, head.bias, tokens, head, temperature, chunk
    )
    return logprobs, entropy


def full_kl(
    hidden: Float[Tensor, "n width"],
    head: LogitsHead,
    reference_hidden: Float[Tensor, "n other"],
    reference_head: LogitsHead,
    temperature: float = 1.0,
    chunk: int = 256,
) -> Float[Tensor, " n"]:
    """Compute the exact KL(p ‖ p_ref) at each position, in nats: no sampling noise, twice the work.

        Σ_v p(v) (log p(v) - log p_ref(v))

    Differentiable in `hidden` and in the head's weight and bias; only `chunk` rows of logits exist at a time, also in
    the backward pass.
    """

    # Cast once, not once per chunk.
    head = replace(head, weight=to_matmul_dtype(head.weight))
    reference_head = replace(reference_head, weight=to_matmul_dtype(reference_head.weight))

    def part(states: Tensor, reference: Tensor) -> Tensor:
        log_p = torch.log_softmax(head(states) / temperature, dim=-1)
        with torch.no_grad():
            log_q = _log_p(reference, reference_head, temperature)
        kl: Tensor = torch.linalg.vecdot(log_p.exp(), log_p - log_q)
        return kl

    pairs = zip(torch.split(hidden, chunk), torch.split(reference_hidden, chunk), strict=True)
    pieces = [checkpoint(part, *pair, use_reentrant=False) for pair in pairs]
    return torch.cat(pieces) if pieces else at_least_fp32(hidden).sum(-1)


class _LinearLogprobs(torch.autograd.Function):
    """Compute log-probabilities and entropy H in chunks. With p = softmax(l) and l = logits / temperature:

        d log p(token) / d l_j = [j = token] - p_j        d H / d l_j = -p_j (log p_j + H)

    and d l_j / d (hidden W' + bias)_j is the head's derivative over the temperature.

    The backward pass is explicit because every further pass over chunk × vocab numbers costs about as much as the
    matmul: autograd through a checkpoint of the same chunks is slower.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        tokens: Tensor,
        head: LogitsHead,
        temperature: float,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        parts = [
            _logprob_stats(states, head, targets, temperature)
            for states, targets in zip(torch.split(hidden, chunk), torch.split(tokens, chunk), strict=True)
        ]
        logprobs, entropy, norm = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(hidden, weight, bias, tokens, entropy, norm)
        ctx.scale, ctx.softcap, ctx.temperature, ctx.chunk = head.scale, head.softcap, temperature, chunk
        ctx.set_materialize_grads(False)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_logprobs: Tensor | None, grad_entropy: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None, None]:
        hidden, weight, bias, tokens, entropy, norm = ctx.saved_tensors
        head = LogitsHead(weight, bias, ctx.scale, ctx.softcap)
        # Accumulate in float32: sums of many bfloat16 terms would lose the small ones.
        grad_hidden = torch.zeros_like(at_least_fp32(hidden)) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(at_least_fp32(weight)) if ctx.needs_input_grad[1] else None
        grad_bias = torch.zeros_like(at_least_fp32(bias)) if ctx.needs_input_grad[2] else None
        token_grads = torch.zeros_like(norm) if grad_logprobs is None else grad_logprobs
        for start in range(0, len(hidden), ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            token_grad, states = token_grads[rows, None], to_matmul_dtype(hidden[rows])
            for vocab_start, tile, logits in _tiles(states, head, ctx.temperature):
                head_derivative = head.derivative(
                    logits if ctx.temperature == 1 else logits * ctx.temperature
                )
                log_p = logits.sub_(norm[rows, None])
                p = log_p.exp()
                if grad_entropy is None:
                    logits_grad = p.mul_(-token_grad)
                else:
                    entropy_grad = grad_entropy[rows, None]
                    logits_grad = log_p.add_(entropy[rows, None]).mul_(-entropy_grad).sub_(token_grad).mul_(p)
                index, inside = _index_in_tile(tokens[rows] - vocab_start, logits_grad)
                logits_grad.scatter_add_(-1, index, torch.where(inside, token_grad, 0.0))
                logits_grad = logits_grad.mul_(head_derivative / ctx.temperature)
                if grad_bias is not None:
                    grad_bias[vocab_start : vocab_start + len(tile)] += logits_grad.sum(0)
                grad_matmul = logits_grad.to(tile.dtype)
                if grad_hidden is not None:
                    grad_hidden[rows] += grad_matmul @ tile
                if grad_weight is not None:
                    grad_weight[vocab_start : vocab_start + len(tile)] += grad_matmul.T @ states
        gradients = (
            _cast_like(grad_hidden, hidden),
            _cast_like(grad_weight, weight),
            _cast_like(grad_bias, bias),
        )
        return *gradients, None, None, None, None


def _logprob_stats(
    states: Float[Tensor, "n width"], head: LogitsHead, targets: Int[Tensor, " n"], temperature: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Compute the targets' log-probability, the entropy and log Σ exp(logits) in one pass over the tiles of logits.

    With m the largest logit of a tile, each tile gives S = Σ exp(l - m) and D = Σ exp(l - m) (l - m). Shifted to the
    largest logit of all tiles, they add up to the normaliser and the mean logit.
    """
    parts, picked = [], at_least_fp32(states).new_zeros(len(states))
    for vocab_start, _, logits in _tiles(to_matmul_dtype(states), head, temperature):
        index, inside = _index_in_tile(targets - vocab_start, logits)
        picked = torch.where(inside, logits.gather(-1, index), picked[:, None])[:, 0]
        peak = logits.amax(-1)
        mass = logits.sub_(peak[:, None]).exp()
        parts.append((peak, mass.sum(-1), torch.linalg.vecdot(mass, logits)))
    peaks, sums, dots = (torch.stack(part) for part in zip(*parts, strict=True))
    top = peaks.amax(0)
    shift = (peaks - top).exp()
    total = (shift * sums).sum(0)
    mean = (shift * (dots + (peaks - top) * sums)).sum(0) / total
    return picked - top - total.log(), total.log() - mean, top + total.log()


def _tiles(
    states: Float[Tensor, "n width"], head: LogitsHead, temperature: float
) -> Iterator[tuple[int, Float[Tensor, "tile width"], Float[Tensor, "n tile"]]]:
    """Yield tiles of the vocabulary: start index, weights in the matmul dtype, and logits over the temperature.

    `states` are in the matmul dtype; the logits may be overwritten. On a CPU a tile fits into the processor's cache; a
    GPU takes the whole vocabulary as one tile.
    """
    length = TILE if states.device.type == "cpu" else len(head.weight)
    for vocab_start in range(0, len(head.weight), length):
        tile = to_matmul_dtype(head.weight[vocab_start : vocab_start + length])
        logits = head.from_matmul(states @ tile.T, vocab_start)
        yield vocab_start, tile, logits if temperature == 1 else logits.div_(temperature)


def _index_in_tile(index: Int[Tensor, " n"], tile: Tensor) -> tuple[Int[Tensor, "n 1"], Bool[Tensor, "n 1"]]:
    """Return indices clamped to a tile, and a mask of those that were inside it."""
    inside = (index >= 0) & (index < tile.shape[-1])
    return index.clamp(0, tile.shape[-1] - 1)[:, None], inside[:, None]


def _log_p(hidden: Tensor, head: LogitsHead, temperature: float) -> Tensor:
    logits = head(hidden).div_(temperature)
    return logits.sub_(logits.logsumexp(-1, keepdim=True))


def _gather(log_p: Tensor, tokens: Tensor) -> Tensor:
    return log_p.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def _cast_like(gradient: Tensor | None, like: Tensor | None) -> Tensor | None:
    return None if gradient is None or like is None else gradient.to(like.dtype)
