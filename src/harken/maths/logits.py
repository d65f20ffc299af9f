"""Compute logits from hidden states, for training, sampling, checks and estimates alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from harken.maths.matmul_dtype import to_matmul_dtype


@dataclass(frozen=True)
class LogitsHead:
    """Compute logits from hidden states.

        z = scale × (hidden W' + bias)      logits = softcap × tanh(z / softcap), or z without a cap

    The matmul runs in its own dtype (`maths.matmul_dtype`), everything after it in float32 or wider.
    """

    weight: Float[Tensor, "vocab width"]
    bias: Float[Tensor, " vocab"] | None = None
    scale: float = 1.0
    softcap: float | None = None
    """The bound of every logit's absolute value."""

    def __call__(self, hidden: Float[Tensor, "n width"]) -> Float[Tensor, "n vocab"]:
        """Return the logits of every token of the vocabulary."""
        return self.from_matmul(to_matmul_dtype(hidden) @ to_matmul_dtype(self.weight).T)

    def from_matmul(self, matmul: Float[Tensor, "n part"], start: int = 0) -> Float[Tensor, "n part"]:
        """Turn `hidden @ weight[start:…].T` into logits. May overwrite `matmul`."""
        logits = at_least_fp32(matmul)
        if self.bias is not None:
            logits = logits.add_(at_least_fp32(self.bias[start : start + matmul.shape[-1]]))
        if self.scale != 1:
            logits = logits.mul_(self.scale)
        if self.softcap is not None:
            # The last multiplication is not in place: the gradient of tanh needs tanh's output.
            logits = logits.div_(self.softcap).tanh_() * self.softcap
        return logits

    def derivative(self, logits: Float[Tensor, "n part"]) -> Tensor | float:
        """Return d logits / d (hidden W' + bias) elementwise, given the logits; a number without a softcap."""
        if self.softcap is None:
            return self.scale
        return (logits / self.softcap).square_().neg_().add_(1.0).mul_(self.scale)


def at_least_fp32(x: Tensor) -> Tensor:
    """Cast `x` to float32; return it unchanged where its dtype is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
