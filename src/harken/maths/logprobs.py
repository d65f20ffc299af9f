"""Log-probabilities of given tokens, in nats, at the temperature they were sampled with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from harken.maths.products import for_product

TILE = 4096
"""Tokens of the vocabulary whose logits exist in float32 at a time, on a CPU."""


def token_logprobs(
    logits: Float[Tensor, "*shape vocab"], tokens: Int[Tensor, "*shape"], temperature: float = 1.0
) -> Float[Tensor, "*shape"]:
    """log softmax(logits / temperature) at `tokens`, in float32 or better."""
    return _at(torch.log_softmax(_wide(logits) / temperature, dim=-1), tokens)


def projected(
    hidden: Float[Tensor, "n width"],
    weight: Float[Tensor, "vocab width"],
    tokens: Int[Tensor, " n"],
    temperature: float = 1.0,
    chunk: int = 256,
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Log-probability of each token, and entropy of its distribution, from hidden states (nats).

    The logits are `hidden @ weight.T`, multiplied in the dtype given (`maths.products`); the log-softmax is float32 or
    better.
    Only `chunk` rows of logits exist at a time, backward too: they are made again instead of kept, and on a CPU in
    tiles of the vocabulary.
    """
    logprobs, entropy = _Projected.apply(hidden, weight, tokens, temperature, chunk)  # type: ignore[no-untyped-call]
    return logprobs, entropy


def full_kl(
    hidden: Float[Tensor, "n width"],
    weight: Float[Tensor, "vocab width"],
    reference_hidden: Float[Tensor, "n other"],
    reference_weight: Float[Tensor, "vocab other"],
    temperature: float = 1.0,
    chunk: int = 256,
) -> Float[Tensor, " n"]:
    """KL(p ‖ p_ref) of each position's whole distribution, in nats: no sampling noise, twice the work.

        Σ_v p(v) (log p(v) - log p_ref(v))

    Differentiable in `hidden` and `weight`; only `chunk` rows of logits exist at a time, backward too.
    """

    weight, reference_weight = for_product(weight), for_product(reference_weight)

    def part(states: Tensor, reference: Tensor) -> Tensor:
        log_p = torch.log_softmax(_wide(for_product(states) @ weight.T) / temperature, dim=-1)
        with torch.no_grad():
            log_q = _log_p(for_product(reference), reference_weight, temperature)
        kl: Tensor = torch.linalg.vecdot(log_p.exp(), log_p - log_q)
        return kl

    pairs = zip(torch.split(hidden, chunk), torch.split(reference_hidden, chunk), strict=True)
    pieces = [checkpoint(part, *pair, use_reentrant=False) for pair in pairs]
    return torch.cat(pieces) if pieces else _wide(hidden).sum(-1)


class _Projected(torch.autograd.Function):
    """With p = softmax(l), l = logits / temperature, and H the entropy:

        d log p(token) / d l_j = [j = token] - p_j        d H / d l_j = -p_j (log p_j + H)

    Written out because every further pass over chunk × vocab numbers costs about as much as the
    multiplication: autograd through a checkpoint of the same chunks takes longer.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, tokens: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        parts = [
            _summary(states, weight, targets, temperature)
            for states, targets in zip(torch.split(hidden, chunk), torch.split(tokens, chunk), strict=True)
        ]
        logprobs, entropy, norm = (torch.cat(part) for part in zip(*parts, strict=True))
        ctx.save_for_backward(hidden, weight, tokens, entropy, norm)
        ctx.temperature, ctx.chunk = temperature, chunk
        ctx.set_materialize_grads(False)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_logprobs: Tensor | None, of_entropy: Tensor | None
    ) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden, weight, tokens, entropy, norm = ctx.saved_tensors
        # Summed wide: adding many bfloat16 parts would lose the small ones.
        of_hidden = torch.zeros_like(_wide(hidden)) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(_wide(weight)) if ctx.needs_input_grad[1] else None
        token_slopes = torch.zeros_like(norm) if of_logprobs is None else of_logprobs
        for start in range(0, len(hidden), ctx.chunk):
            rows = slice(start, start + ctx.chunk)
            token_slope, states = token_slopes[rows, None], for_product(hidden[rows])
            for place, tile, logits in _tiles(states, weight, ctx.temperature):
                log_p = logits.sub_(norm[rows, None])
                p = log_p.exp()
                if of_entropy is None:
                    slope = p.mul_(-token_slope)
                else:
                    entropy_slope = of_entropy[rows, None]
                    slope = log_p.add_(entropy[rows, None]).mul_(-entropy_slope).sub_(token_slope).mul_(p)
                at, inside = _inside(tokens[rows] - place, slope)
                slope.scatter_add_(-1, at, torch.where(inside, token_slope, 0.0))
                of_logits = slope.div_(ctx.temperature).to(tile.dtype)
                if of_hidden is not None:
                    of_hidden[rows] += of_logits @ tile
                if of_weight is not None:
                    of_weight[place : place + len(tile)] += of_logits.T @ states
        return _narrow(of_hidden, hidden), _narrow(of_weight, weight), None, None, None


def _summary(
    states: Float[Tensor, "n width"], weight: Tensor, targets: Int[Tensor, " n"], temperature: float
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Log-probability of the targets, entropy, and log Σ exp(logits), from one look at each tile of logits.

    With m the largest logit of a tile, S = Σ exp(l - m) and D = Σ exp(l - m) (l - m) of each tile are enough: shifted
    to the largest of all they add up to the norm and to the mean logit.
    """
    parts, picked = [], _wide(states).new_zeros(len(states))
    for place, _, logits in _tiles(for_product(states), weight, temperature):
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
    states: Float[Tensor, "n width"], weight: Float[Tensor, "vocab width"], temperature: float
) -> Iterator[tuple[int, Float[Tensor, "tile width"], Float[Tensor, "n tile"]]]:
    """Where a stretch of the vocabulary begins, its weights as they are multiplied, and its logits over the
    temperature, which may be written to.

    `states` are for a product. On a CPU a stretch stays in the cache while everything is done to it; a GPU takes all
    at once.
    """
    length = TILE if states.device.type == "cpu" else len(weight)
    for place in range(0, len(weight), length):
        tile = for_product(weight[place : place + length])
        logits = _wide(states @ tile.T)
        yield place, tile, logits if temperature == 1 else logits.div_(temperature)


def _inside(at: Int[Tensor, " n"], tile: Tensor) -> tuple[Int[Tensor, "n 1"], Bool[Tensor, "n 1"]]:
    """Indices into a tile, and which of them really are in it; the others point somewhere."""
    inside = (at >= 0) & (at < tile.shape[-1])
    return at.clamp(0, tile.shape[-1] - 1)[:, None], inside[:, None]


def _log_p(hidden: Tensor, weight: Tensor, temperature: float) -> Tensor:
    logits = _wide(hidden @ weight.T).div_(temperature)
    return logits.sub_(logits.logsumexp(-1, keepdim=True))


def _at(log_p: Tensor, tokens: Tensor) -> Tensor:
    return log_p.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _narrow(gradient: Tensor | None, of: Tensor) -> Tensor | None:
    return None if gradient is None else gradient.to(of.dtype)
