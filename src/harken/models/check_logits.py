"""Whether a model is causal, and its logits are what Harken takes them to be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harken.errors import UserError
from harken.kernels.attention import ordinary
from harken.maths.logits import LogitsHead
from harken.models.load_errors import reading
from harken.models.logits_head import FIX, tolerance


def check_logits(model: PreTrainedModel, trunk: nn.Module, head: LogitsHead, where: str) -> None:
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
            fix="copy or download the folder again",
        )
    if float((full - ours).abs().max()) > tolerance(head.weight.dtype) * float(full.abs().max()):
        raise UserError(
            "this model's logits depend on more than the hidden state of its trunk", where=where, fix=FIX
        )


SHORT_CHOICE = 8
"""Keys that sparse attention chooses from while it is probed: fewer than the probe has tokens."""


def check_causal(model: PreTrainedModel, trunk: nn.Module, where: str) -> None:
    """Raise UserError for a model whose states depend on later tokens: a bidirectional one, such as BERT's encoder.

    Sparse attention that chooses keys is probed past its choice: ties that are broken by the length of the row make
    it depend on what follows too.
    """
    begin, *ends = ordinary(int(model.config.get_text_config().vocab_size), 16, 8, 8)
    device = next(model.parameters()).device
    rows = [torch.tensor([[*begin, *end]], device=device) for end in (*ends, [])]
    choosers: list[Any] = [module for module in trunk.modules() if hasattr(module, "index_topk")]
    before = [module.index_topk for module in choosers]
    try:
        for module in choosers:
            module.index_topk = min(module.index_topk, SHORT_CHOICE)
        with torch.no_grad(), reading("this model cannot be run over a few tokens", where, FIX):
            states = [
                trunk(input_ids=row, use_cache=False).last_hidden_state[0, : len(begin)].float()
                for row in rows
            ]
    finally:
        for module, count in zip(choosers, before, strict=True):
            module.index_topk = count
    size = states[0].norm(dim=-1).clamp(min=1e-9)
    off = torch.stack([(state - states[0]).norm(dim=-1) / size for state in states[1:]]).amax(0)
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    # In 16 bits rounding alone may choose another expert for a token, not for most.
    worst = off.amax() if dtype.itemsize >= 4 else off.median()
    if not float(worst) <= (1000 if dtype.itemsize >= 4 else 10) * torch.finfo(dtype).eps:
        raise UserError(
            "this model is not causal: what it computes at a token depends on the tokens after it",
            where=where,
            fix="choose a decoder (for BERT's kind: is_decoder: true in config.json, if it was trained as one)",
        )


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, unembedding: Tensor, where: str) -> None:
    """Raises UserError for a tokenizer that writes tokens the model has no embedding for."""
    largest, rows = max(tokenizer.get_vocab().values(), default=0), len(unembedding)
    if largest >= rows:
        raise UserError(
            f"its tokenizer has a token {largest}, and its model embeds {rows} tokens, from 0",
            where=where,
            fix="copy the tokenizer of the very model, or resize the model's embeddings",
        )
