"""Compute the log-probability of given responses under a policy, without generating any text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from harken.batches import collate
from harken.data.chat import Renderer
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.positions import position_limits
from harken.models.roles import Policy
from harken.records import Message


def target_logprobs(
    backbone: Backbone,
    role: str | None,
    renderer: Renderer,
    rows: Sequence[tuple[Sequence[Message], str]],
    prompt_limit: int,
    micro_batch_tokens: int = 4096,
) -> list[float]:
    """Return log P(response | conversation) in nats, summed over the response's tokens, without an end of turn.

    `role` is the backbone's adapter, None for the bare base. Conversations are shortened to `prompt_limit` tokens as in
    training. Raises UserError for a conversation that does not fit, an empty response, more tokens than the model has
    positions, and a log-probability that is not finite.
    """
    encoded = []
    for messages, response in rows:
        fitted = renderer.fit_prompt(messages, prompt_limit)
        tokens = renderer.encode_response(response, ended=False)
        if fitted is None or not tokens:
            problem = "a response without tokens" if fitted else f"does not fit in {prompt_limit} tokens"
            raise UserError(problem, where=_place(messages), fix="raise max_length, or correct the row")
        require_positions(backbone, len(fitted[0]) + len(tokens), _place(messages))
        encoded.append((fitted[0], tokens))
    policy = Policy(backbone, role)
    values = [0.0] * len(encoded)
    sequences = [[*prompt, *response] for prompt, response in encoded]
    for group in backbone.micro_batches([[s] for s in sequences], micro_batch_tokens):
        masks = [[False] * len(encoded[i][0]) + [True] * len(encoded[i][1]) for i in group]
        batch = collate([sequences[i] for i in group], masks, backbone.pad_token).to(backbone.device)
        with torch.no_grad():
            outputs = policy.evaluate(batch)
        # Masked positions are 0 in the outputs.
        sums = outputs.logprobs.double().sum(-1).tolist()
        for index, value in zip(group, sums, strict=True):
            if not math.isfinite(value):
                raise UserError(
                    f"the log-probability of {rows[index][1][:30]!r} is {value}",
                    where=_place(rows[index][0]),
                    fix="check the model's weights; set dtype to float32, or a lower strength of the steering",
                )
            values[index] = value
    return values


def require_positions(backbone: Backbone, tokens: int, where: str) -> None:
    """Raise UserError for a conversation with its response of more tokens than the model has positions."""
    limit = min(position_limits(backbone.model), default=None)
    if limit is not None and tokens > limit:
        raise UserError(
            f"the conversation and the response have {tokens} tokens, and the model has {limit} positions",
            where=where,
            fix="leave the row out, or correct it",
        )


def _place(messages: Sequence[Message]) -> str:
    return f"“{messages[-1].content[:60]}”"
