"""Check that a model is causal, and that its logits are `LogitsHead` of its trunk's hidden state."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from harken.errors import UserError
from harken.kernels.attention import probe_tokens
from harken.maths.logits import LogitsHead
from harken.models.load_errors import load_errors
from harken.models.logits_head import FIX, tolerance


def check_logits(model: PreTrainedModel, trunk: nn.Module, head: LogitsHead, where: str) -> None:
    """Raise UserError if the model's logits differ from `head` of its trunk's hidden state for ordinary tokens."""
    (row,) = probe_tokens(len(head.weight), 8)
    tokens = torch.tensor([row], device=head.weight.device)
    with torch.no_grad():
        full = model(input_ids=tokens, use_cache=False).logits[0].float()
        ours = head(
            trunk(input_ids=tokens, use_cache=False).last_hidden_state[0].to(head.weight.dtype)
        ).float()
    _require_finite(full, "logits", where)
    if float((full - ours).abs().max()) > tolerance(head.weight.dtype) * float(full.abs().max()):
        raise UserError(
            "this model's logits depend on more than the hidden state of its trunk", where=where, fix=FIX
        )


def check_causal(model: PreTrainedModel, trunk: nn.Module, where: str) -> None:
    """Raise UserError if hidden states depend on later tokens, as in a bidirectional model such as BERT.

    In 16 bits, rounding alone may change a state, or route a token to another expert. There the median change caused by
    later tokens is compared with that caused by earlier tokens.
    """
    first, other, middle, end, last = probe_tokens(
        int(model.config.get_text_config().vocab_size), 8, 8, 8, 8, 8
    )
    device = next(model.parameters()).device
    rows = [[*first, *middle, *end], [*first, *middle, *last], [*other, *middle, *end]]
    with torch.no_grad(), load_errors("this model cannot be run over a few tokens", where, FIX):
        states, with_other_end, with_other_start = (
            trunk(input_ids=torch.tensor([row], device=device), use_cache=False)
            .last_hidden_state[0, 8:16]
            .float()
            for row in rows
        )
    _require_finite(states, "hidden states", where)
    size = states.norm(dim=-1).clamp(min=1e-9)
    later_change, earlier_change = (
        (state - states).norm(dim=-1) / size for state in (with_other_end, with_other_start)
    )
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    if dtype.itemsize >= 4:
        causal = bool((later_change <= 1000 * torch.finfo(dtype).eps).all())
    else:
        causal = float(later_change.median()) <= float(earlier_change.median()) / 4
    if not causal:
        raise UserError(
            "this model is not causal: its hidden states depend on later tokens",
            where=where,
            fix="choose a decoder (for BERT's kind: is_decoder: true in config.json, if it was trained as one)",
        )


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, unembedding: Tensor, where: str) -> None:
    """Raise UserError if the tokenizer has token ids without an embedding in the model."""
    largest, rows = max(tokenizer.get_vocab().values(), default=0), len(unembedding)
    if largest >= rows:
        raise UserError(
            f"its tokenizer has a token {largest}, and its model embeds {rows} tokens, from 0",
            where=where,
            fix="copy this model's own tokenizer, or resize the model's embeddings",
        )


def _require_finite(values: Tensor, name: str, where: str) -> None:
    if not torch.isfinite(values).all():
        raise UserError(
            f"this model's {name} are not finite numbers",
            where=where,
            fix="copy or download the folder again",
        )
