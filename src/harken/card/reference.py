"""Find the SFT model that a reward model was trained on, and score responses with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from harken.batches import collate
from harken.card.distance import SFTReference
from harken.card.scored import RewardArray
from harken.data.chat import Renderer, RenderFailure
from harken.data.parse import Pair
from harken.data.token_pairs import prompt_length
from harken.errors import UserError
from harken.models.backbone import Backbone
from harken.models.find_tokenizer import renderer_of, tokenizer_of
from harken.models.quantised import WeightDtype
from harken.models.resolve import ModelSource, require_use, resolve
from harken.models.roles import Policy, read_card
from harken.records import TokenPair
from harken.run.config_lock import read_locked_config
from harken.run.folder import RunFolder

LOGPROB_BATCH_TOKENS = 8192
"""Tokens in one forward."""


def find_reference(
    name: str | None,
    reward: ModelSource,
    max_length: int,
    weight_dtype: WeightDtype,
    device: torch.device | str,
) -> SFTReference | None:
    """Return the model called `name`, or else the SFT run that the reward model was trained on; None without either.

    Its weights are loaded when it scores. Raises UserError for a name that is not a policy.
    """
    source = sft_of(reward) if name is None else require_use(resolve(name), "policy")
    if source is None:
        return None
    resolved = source

    def logprobs(pairs: Sequence[Pair]) -> RewardArray:
        if any(isinstance(pair, TokenPair) for pair in pairs):
            _require_same_tokens(resolved, reward)
        policy = Policy(Backbone.load(resolved, weight_dtype, device), None)
        return mean_response_logprobs(policy, renderer_of(resolved), pairs, max_length)

    return SFTReference(source.name, "lineage" if name is None else "option", logprobs)


def _require_same_tokens(reference: ModelSource, reward: ModelSource) -> None:
    """Raise UserError if pairs are token ids that decode to other texts with the reference's tokenizer."""
    if tokenizer_of(reference).get_vocab() != tokenizer_of(reward).get_vocab():
        raise UserError(
            "the pairs are token ids, and this model has another tokenizer than the reward model",
            where=f"--reference {reference.name}",
            fix="name a model with the reward model's tokenizer, or give pairs as text",
        )


def sft_of(reward: ModelSource) -> ModelSource | None:
    """Return the SFT run's model under a reward model; None where it was trained on any other model."""
    if reward.base is not None:
        ancestors = reward.base.chain()
    else:  # every weight was trained; the folder of the base is only recorded
        base = read_card(reward.folder).base
        try:
            ancestors = resolve(base).chain() if base and Path(base).is_dir() else []
        except UserError:
            return None
    return next((link for link in reversed(ancestors) if _is_sft(link)), None)


def _is_sft(link: ModelSource) -> bool:
    run = RunFolder(link.folder.parent)
    if link.folder != run.final.resolve() or not run.config.is_file():
        return False
    training = read_locked_config(run.config).get("training")
    return isinstance(training, dict) and training.get("type") == "sft"


@torch.no_grad()
def mean_response_logprobs(
    policy: Policy, renderer: Renderer, pairs: Sequence[Pair], max_length: int
) -> RewardArray:
    """Return the mean log-probability per token of both responses, [pairs, 2], nats, at temperature 1.

    NaN where a pair does not fit into `max_length`, or a response has no token.
    """
    encoded = [renderer.encode_preference(pair, max_length) for pair in pairs]
    means = np.full((len(pairs), 2), np.nan)
    places, rows, masks = [], [], []
    for index, pair in enumerate(encoded):
        if isinstance(pair, RenderFailure):
            continue
        start = prompt_length(pair)
        for side, tokens in enumerate((pair.chosen_tokens, pair.rejected_tokens)):
            # The first token has no predecessor, so no probability.
            mask = [i >= max(start, 1) for i in range(len(tokens))]
            if any(mask):
                places.append((index, side))
                rows.append(tokens)
                masks.append(mask)
    backbone = policy.backbone
    for group in backbone.micro_batches([[row] for row in rows], LOGPROB_BATCH_TOKENS):
        batch = collate([rows[i] for i in group], [masks[i] for i in group], backbone.pad_token)
        sums = policy.evaluate(batch.to(backbone.device)).logprobs.double().sum(-1).cpu().numpy()
        for i, total in zip(group, sums, strict=True):
            means[places[i]] = total / sum(masks[i])
    return means
