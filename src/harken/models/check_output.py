"""Whether a model's logits are what Harken takes them to be."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from harken.errors import UserError


def check_output(model: PreTrainedModel, trunk: nn.Module, unembedding: Tensor, where: str) -> None:
    """Harken computes logits as hidden @ unembedding.T. Raises UserError for a model that adds more to them."""
    tokens = torch.arange(1, 9, device=unembedding.device)[None]
    with torch.no_grad():
        full = model(input_ids=tokens).logits.float()
        ours = (trunk(input_ids=tokens).last_hidden_state @ unembedding.T).float()
    if not torch.allclose(full, ours, rtol=0.02, atol=0.02 * float(full.abs().max())):
        raise UserError(
            "this model's logits are not its hidden state times its unembedding (a bias, a cap or a scale)",
            where=where,
            mend="such models are not supported yet: choose one of the Llama, Qwen, Mistral or GPT-2 families",
        )
