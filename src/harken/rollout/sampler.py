"""One token a row, drawn from softmax(logits / temperature) with one uniform number."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK = 256


def draw(
    logits: Float[Tensor, "rows vocab"], uniforms: Float[Tensor, " rows"], temperature: float
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """The token whose stretch of the cumulative distribution holds u in [0, 1), and its log-probability.

    Log-probabilities are float64, in nats. Temperature 0 takes the likeliest token (the first of equals)
    and gives its log-probability at 1. A token of probability 0 is never drawn. NaN in gives NaN out.

    Sums run in two levels, blocks of tokens and tokens in a block: a cumulative sum over everything would cost more
    than the rest. Blocks add up in float64, so that no tail of a large vocabulary is rounded away.
    """
    rows, vocab = logits.shape
    blocks = -(-vocab // BLOCK)
    mass = torch.empty(rows, blocks * BLOCK, device=logits.device)
    mass[:, :vocab] = logits
    mass[:, vocab:] = -torch.inf
    if temperature:
        mass.div_(temperature)
    mass.sub_(mass.amax(-1, keepdim=True)).exp_()

    in_blocks = mass.view(rows, blocks, BLOCK)
    sums = in_blocks.sum(-1).double()
    cumulative = sums.cumsum(-1)
    total = cumulative[:, -1:].clone()
    if temperature:
        target = uniforms.double()[:, None] * total
        block = _first_exceeding(cumulative, target)
        rest = target - (cumulative.gather(-1, block) - sums.gather(-1, block))
        inside = in_blocks[torch.arange(rows, device=logits.device), block[:, 0]]
        tokens = block * BLOCK + _first_exceeding(inside.cumsum(-1, dtype=torch.float64), rest.clamp(min=0))
        # Only NaN points past the vocabulary: a real token keeps the next step whole until it is reported.
        tokens = tokens.clamp(max=vocab - 1)
    else:
        tokens = mass[:, :vocab].argmax(-1, keepdim=True)
    logprobs = (mass.gather(-1, tokens).double() / total).log()
    return tokens[:, 0], logprobs[:, 0]


def _first_exceeding(cumulative: Tensor, target: Tensor) -> Tensor:
    """The first place where the cumulative sum exceeds the target, at most the last that adds anything."""
    # Rounding can lift the target to the total itself, past the last place of any mass.
    last = torch.searchsorted(cumulative, cumulative[:, -1:].clone()).clamp(max=cumulative.shape[-1] - 1)
    return torch.minimum(torch.searchsorted(cumulative, target, right=True), last)
