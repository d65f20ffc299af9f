"""Checks of the model itself: what it computes must not depend on padding, batch mates or chance."""

from __future__ import annotations

import torch
from torch import Tensor

from harken.doctor.check import ALL, Check, check
from harken.doctor.context import Context, with_pads
from harken.doctor.finding import Outcome, error, note, ok, warning
from harken.doctor.ppo_context import PPOContext

LEFT_PADDING = 7


@check(
    ALL,
    what="whether every model that the stage needs can be read and put together",
    why="What cannot be loaded now cannot be loaded in the middle of the night.",
    items="S1-20",
    cost="the models",
)
def models_load(context: Context) -> Outcome:
    """With adapters, heads and optimisers."""
    trained = sum(p.numel() for p in context.trained.values())
    base = sum(p.numel() for p in context.base_parameters)
    return ok(f"{base:,} weights, {trained:,} train, on {context.device} in {context.config.dtype}")


@check(
    ALL,
    what="the tokenizer's ids against the rows of the embedding",
    why="A token without an embedding ends the run at the first row that holds it.",
    items="P7",
    cost="the models",
)
def vocabulary(context: Context) -> Outcome:
    """Some embeddings are padded to a round number: more rows than tokens are fine."""
    embeddings = context.backbone.model.get_input_embeddings().weight.shape[0]
    tokens = len(context.renderer.tokenizer)
    measured = f"{tokens:,} tokens, {embeddings:,} embeddings"
    if tokens > embeddings:
        return error(
            measured,
            "model.resize_token_embeddings(len(tokenizer)), or use the tokenizer it was trained with",
        )
    return ok(measured)


@check(
    ALL,
    what="the longest sequence against the model's positions",
    why="Beyond its positions a model writes noise, and the engine refuses such a prompt in the middle of a run.",
    items="S0-20",
    cost="the models",
)
def positions(context: Context) -> Outcome:
    """Of PPO: prompt and answer."""
    has = getattr(context.backbone.config, "max_position_embeddings", None)
    needed = context.config.data.max_length
    named = f"data.max_length {needed}"
    if isinstance(context, PPOContext):
        needed += context.settings.max_gen_len
        named += f" + max_gen_len {context.settings.max_gen_len}"
    if has is None:
        return ok(f"{named}; the model names no limit")
    measured = f"{named} of {has:,} positions"
    if needed > has:
        return warning(
            measured, "lower data.max_length" + (" or max_gen_len" if context.kind == "ppo" else "")
        )
    return ok(measured)


@check(
    ALL,
    what="logits at real tokens with and without padding on the left",
    why="Sampling pads prompts on the left: if that moves the logits, a policy is not the one that is scored.",
    items="P3, P4",
    cost="2 forwards of a row",
)
@torch.no_grad()
def left_padding(context: Context) -> Outcome:
    """Positions count real tokens only, as in sampling."""
    backbone, batch = context.backbone, context.batch
    row = batch.tokens[0][batch.attention_mask[0]][None]
    pads = row.new_full((1, LEFT_PADDING), context.renderer.pad)
    mask = torch.cat([torch.zeros_like(pads), torch.ones_like(row)], 1)
    plain = backbone.forward(
        input_ids=row,
        attention_mask=torch.ones_like(row),
        position_ids=torch.arange(row.shape[1], device=row.device)[None],
        use_cache=False,
    )
    padded = backbone.forward(
        input_ids=torch.cat([pads, row], 1),
        attention_mask=mask,
        position_ids=(mask.cumsum(-1) - 1).clamp(min=0),
        use_cache=False,
    )
    gap = _next(context, row, plain) - _next(context, row, padded[:, LEFT_PADDING:])
    return _agree(
        context,
        gap,
        f"by {LEFT_PADDING} pads",
        "this model cannot be padded: its positions must follow position_ids and its attention the mask",
    )


@check(
    ALL,
    what="the same rows twice",
    why="Dropout, or anything else left to chance, makes the policy that samples another than the one scored.",
    items="P33",
    cost="2 forwards of a few rows",
)
def repeatable(context: Context) -> Outcome:
    """Kernels that add in no fixed order (CUDA) may differ by rounding."""
    gap = float((context.said(context.batch) - context.said(context.batch)).abs().max())
    measured = f"largest difference {gap:.2g} {_unit(context)}"
    if gap == 0:
        return ok(measured)
    if context.device.type != "cpu" and gap < context.limits.sampler_gap_amber:
        return note(f"{measured}: rounding of the device")
    return error(
        measured, "set every dropout of the model's config.json to 0; nothing may call model.train()"
    )


@check(
    ALL,
    what="the same rows with other padding behind them, filled with random tokens",
    why="What stands in the padding is nobody's word: a loss that hears it learns from noise.",
    items="P13, P24, P32",
    cost="2 forwards of a few rows",
)
def padding_ignored(context: Context) -> Outcome:
    """Attention is causal, so a token behind a row can only be heard by mistake."""
    size = min(len(context.renderer.tokenizer), context.backbone.output_weight.shape[0])
    gap = context.said(context.batch) - context.said(with_pads(context.batch, size))
    return _agree(
        context, gap, "by random padding", "this model reads what comes after a token: it is not a causal one"
    )


def _next(context: Context, tokens: Tensor, hidden: Tensor) -> Tensor:
    """Log-probability of every token but the first, given those before it."""
    logits = (hidden[:, :-1] @ context.backbone.output_weight.T).float()
    return torch.log_softmax(logits, -1).gather(-1, tokens[:, 1:, None]).squeeze(-1)


def _agree(context: Context, gap: Tensor, how: str, fix: str) -> Outcome:
    """Whether two ways to the same numbers agree up to rounding of the type that is computed in."""
    mean = float(gap.abs().mean())
    measured = f"mean change {mean:.2g} {_unit(context)} {how}"
    if not mean <= context.limits.sampler_gap_amber:  # so written, NaN is an error
        return error(measured, fix)
    return ok(measured)


def _unit(context: Context) -> str:
    return "of reward" if context.kind == "reward" else "nats"


LOADED: tuple[Check, ...] = (models_load, vocabulary, positions)
MODEL: tuple[Check, ...] = (left_padding, repeatable, padding_ignored)
