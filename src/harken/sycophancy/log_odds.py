"""Compute the log-probability of given responses under a policy, without generating any text."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from harken.batches import collate
from harken.data.chat import Renderer
from harken.errors import UserError
from harken.models.backbone import Backbone
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
    training. Raises UserError for a conversation that does not fit and an empty response.
    """
    encoded = []
    for messages, response in rows:
        fitted = renderer.fit_prompt(messages, prompt_limit)
        tokens = renderer.encode_response(response, ended=False)
        if fitted is None or not tokens:
            problem = "a response without tokens" if fitted else f"does not fit in {prompt_limit} tokens"
            raise UserError(
                problem, where=messages[-1].content[:60], fix="raise max_length, or correct the probe"
            )
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
            values[index] = value
    return values
