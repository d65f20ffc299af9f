"""Log-probabilities of given tokens, in nats, at the temperature they were sampled with."""

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
"""Tokens of the vocabulary whose logits exist in float32 at a time, on a CPU."""


def token_logprobs(
    logits: Float[Tensor, "*shape vocab"], tokens: Int[Tensor, "*shape"], temperature: float = 1.0
) -> Float[Tensor, "*shape"]:
    """log softmax(logits / temperature) at `tokens`, in float32 or better."""
    return _at(torch.log_softmax(at_least_fp32(logits) / temperature, dim=-1), tokens)


def linear_logprobs(
    hidden: Float[Tensor, "n width"],
    head: LogitsHead,
    tokens: Int[Tensor, " n"],
    temperature: float = 1.0,
    chunk: int = 256,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Log-probability of each token, and entropy of its distribution, from hidden states (nats).

    The logits are `head(hidden)`; the log-softmax is float32 or better. Differentiable in `hidden` and in the head's
    weight and bias.
    Only `chunk` rows of logits exist at a time, backward too: they are made again instead of kept, and on a CPU in
    tiles of the vocabulary.
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
    """KL(p ‖ p_ref) of each position's whole distribution, in nats: no sampling noise, twice the work.

        Σ_v p(v) (log p(v) - log p_ref(v))

    Differentiable in `hidden` and in the head's weight and bias; only `chunk` rows of logits exist at a time, backward
    too.
    """

    # Widened once, not once a chunk.
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
    """With p = softmax(l), l = logits / temperature, and H the entropy:

        d log p(token) / d l_j = [j = token] - p_j        d H / d l_j = -p_j (log p_j + H)

    and d l_j / d (hidden W' + bias)_j is the head's slope over the temperature.

    Written out because every further pass over chunk × vocab numbers costs about as much as the
    multiplication: autograd through a checkpoint of the same chunks takes longer.
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
            _summary(states, head, targets, temperature)
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
        ctx: Any, of_logprobs: Tensor | None, of_entropy: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, Tensor | None, None, None, None, None]:
        hidden, weight, bias, tokens, entropy, norm = ctx.saved_tensors
        head = LogitsHead(weight, bias, ctx.scale, ctx.softcap)
        # Summed wide: adding many bfloat16 parts would lose the small ones.
        of_hidden = torch.zeros_like(at_least_fp32(hidden)) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(at_least_fp32(weight)) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(at_least_fp32(bias)) if ctx.needs_input_grad[2] else None
        token_slopes = torch.zeros_like(norm) if of_logprobs is None else of_logprobs
        for start in range(0, len(hidden), ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            token_slope, states = token_slopes[rows, None], to_matmul_dtype(hidden[rows])
            for place, tile, logits in _tiles(states, head, ctx.temperature):
                of_step = head.derivative(logits if ctx.temperature == 1 else logits * ctx.temperature)
                log_p = logits.sub_(norm[rows, None])
                p = log_p.exp()
                if of_entropy is None:
                    slope = p.mul_(-token_slope)
                else:
                    entropy_slope = of_entropy[rows, None]
                    slope = log_p.add_(entropy[rows, None]).mul_(-entropy_slope).sub_(token_slope).mul_(p)
                at, inside = _inside(tokens[rows] - place, slope)
                slope.scatter_add_(-1, at, torch.where(inside, token_slope, 0.0))
                slope = slope.mul_(of_step / ctx.temperature)
                if of_bias is not None:
                    of_bias[place : place + len(tile)] += slope.sum(0)
                of_products = slope.to(tile.dtype)
                if of_hidden is not None:
                    of_hidden[rows] += of_products @ tile
                if of_weight is not None:
                    of_weight[place : place + len(tile)] += of_products.T @ states
        gradients = _narrow(of_hidden, hidden), _narrow(of_weight, weight), _narrow(of_bias, bias)
        return *gradients, None, None, None, None


def _summary(
    states: Float[Tensor, "n width"], head: LogitsHead, targets: Int[Tensor, " n"], temperature: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Log-probability of the targets, entropy, and log Σ exp(logits), from one look at each tile of logits.

    With m the largest logit of a tile, S = Σ exp(l - m) and D = Σ exp(l - m) (l - m) of each tile are enough: shifted
    to the largest of all they add up to the norm and to the mean logit.
    """
    parts, picked = [], at_least_fp32(states).new_zeros(len(states))
    for place, _, logits in _tiles(to_matmul_dtype(states), head, temperature):
        at, inside = _inside(targets - place, logits)
        picked = torch.where(inside, logits.gather(-1, at), picked[:, None])[:, 0]
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
    """Where a stretch of the vocabulary begins, its weights as they are multiplied, and its logits over the
    temperature, which may be written to.

    `states` are for a product. On a CPU a stretch stays in the cache while everything is done to it; a GPU takes all
    at once.
    """
    length = TILE if states.device.type == "cpu" else len(head.weight)
    for place in range(0, len(head.weight), length):
        tile = to_matmul_dtype(head.weight[place : place + length])
        logits = head.from_matmul(states @ tile.T, place)
        yield place, tile, logits if temperature == 1 else logits.div_(temperature)


def _inside(at: Int[Tensor, " n"], tile: Tensor) -> tuple[Int[Tensor, "n 1"], Bool[Tensor, "n 1"]]:
    """Indices into a tile, and which of them really are in it; the others point somewhere."""
    inside = (at >= 0) & (at < tile.shape[-1])
    return at.clamp(0, tile.shape[-1] - 1)[:, None], inside[:, None]


def _log_p(hidden: Tensor, head: LogitsHead, temperature: float) -> Tensor:
    logits = head(hidden).div_(temperature)
    return logits.sub_(logits.logsumexp(-1, keepdim=True))


def _at(log_p: Tensor, tokens: Tensor) -> Tensor:
    return log_p.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def _narrow(gradient: Tensor | None, of: Tensor | None) -> Tensor | None:
    return None if gradient is None or of is None else gradient.to(of.dtype)
