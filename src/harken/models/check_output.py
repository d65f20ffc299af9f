"""Whether a model's logits are what Harken takes them to be."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harken.errors import UserError
from harken.maths.logits import LogitsHead
from harken.models.attention import ordinary
from harken.models.logits_head import FIX, tolerance


def check_output(model: PreTrainedModel, trunk: nn.Module, head: LogitsHead, where: str) -> None:
    """Raise UserError for a model whose logits of ordinary tokens are not `head` of its trunk's hidden state."""
    (row,) = ordinary(len(head.weight), 8)
    tokens = torch.tensor([row], device=head.weight.device)
    with torch.no_grad():
        full = model(input_ids=tokens, use_cache=False).logits[0].float()
        ours = head(
            trunk(input_ids=tokens, use_cache=False).last_hidden_state[0].to(head.weight.dtype)
        ).float()
    if not torch.isfinite(full).all():
        raise UserError(
            "this model's logits are not finite numbers",
            where=where,
            mend="copy or download the folder again",
        )
    if float((full - ours).abs().max()) > tolerance(head.weight.dtype) * float(full.abs().max()):
        raise UserError(
            "this model's logits depend on more than the hidden state of its trunk", where=where, mend=FIX
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
