"""Whether a model's logits are what Harken takes them to be."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harken.errors import UserError


def check_output(model: PreTrainedModel, trunk: nn.Module, unembedding: Tensor, where: str) -> None:
    """Harken computes logits as hidden @ unembedding.T. Raises UserError for a model that adds more to them."""
    tokens = torch.arange(1, 9, device=unembedding.device)[None] % len(unembedding)
    with torch.no_grad():
        full = model(input_ids=tokens).logits.float()
        ours = (trunk(input_ids=tokens).last_hidden_state @ unembedding.T).float()
    if not torch.isfinite(full).all():
        raise UserError(
            "this model's logits are not finite numbers",
            where=where,
            mend="copy or download the folder again",
        )
    if not torch.allclose(full, ours, rtol=0.02, atol=0.02 * float(full.abs().max())):
        raise UserError(
            "this model's logits are not its hidden state times its unembedding (a bias, a cap or a scale)",
            where=where,
            mend="such models are not supported yet: choose one of the Llama, Qwen, Mistral or GPT-2 families",
        )


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, unembedding: Tensor, where: str) -> None:
    """Raises UserError for a tokenizer that writes tokens the model has no embedding for."""
    largest, rows = max(tokenizer.get_vocab().values(), default=0), len(unembedding)
    if largest >= rows:
        raise UserError(
            f"its tokenizer has a token {largest}, and its model embeds {rows} tokens, from 0",
            where=where,
            mend="copy the tokenizer of the very model, or resize the model's embeddings",
        )
