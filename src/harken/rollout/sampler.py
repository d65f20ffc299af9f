"""Sample one token per row from softmax(logits / temperature) by inverse CDF, with one uniform number per row."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

CUMSUM_BLOCK = 256


def sample_tokens(
    logits: Float[Tensor, "rows vocab"], uniforms: Float[Tensor, " rows"], temperature: float
) -> tuple[Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """Return the token whose interval of the cumulative distribution contains u in [0, 1), and its log-probability.

    Log-probabilities are float64, in nats. Temperature 0 takes the most likely token (the first on ties) and gives its
    log-probability at temperature 1. A token of probability 0 is never drawn. NaN in gives NaN out.

    The cumulative sum has two levels, blocks of tokens and tokens in a block, since one over the whole vocabulary would
    dominate the cost. Blocks are summed in float64, so that the tail of a large vocabulary is not rounded away.
    """
    rows, vocab = logits.shape
    blocks = -(-vocab // CUMSUM_BLOCK)
    mass = torch.empty(rows, blocks * CUMSUM_BLOCK, device=logits.device)
    mass[:, :vocab] = logits
    mass[:, vocab:] = -torch.inf
    if temperature:
        mass.div_(temperature)
    mass.sub_(mass.amax(-1, keepdim=True)).exp_()

    in_blocks = mass.view(rows, blocks, CUMSUM_BLOCK)
    sums = in_blocks.sum(-1).double()
    cumulative = sums.cumsum(-1)
    total = cumulative[:, -1:].clone()
    if temperature:
        target = uniforms.double()[:, None] * total
        block = _first_exceeding(cumulative, target)
        remainder = target - (cumulative.gather(-1, block) - sums.gather(-1, block))
        block_mass = in_blocks[torch.arange(rows, device=logits.device), block[:, 0]]
        tokens = block * CUMSUM_BLOCK + _first_exceeding(
            block_mass.cumsum(-1, dtype=torch.float64), remainder.clamp(min=0)
        )
        # Only NaN gives an index past the vocabulary. Clamp it, so that the next step runs until the NaN is reported.
        tokens = tokens.clamp(max=vocab - 1)
    else:
        tokens = mass[:, :vocab].argmax(-1, keepdim=True)
    logprobs = (mass.gather(-1, tokens).double() / total).log()
    return tokens[:, 0], logprobs[:, 0]


def _first_exceeding(cumulative: Tensor, target: Tensor) -> Tensor:
    """Return the first index where the cumulative sum exceeds the target, at most the last with any mass."""
    # Rounding can lift the target to the total itself, past the last index with mass.
    last = torch.searchsorted(cumulative, cumulative[:, -1:].clone()).clamp(max=cumulative.shape[-1] - 1)
    return torch.minimum(torch.searchsorted(cumulative, target, right=True), last)
