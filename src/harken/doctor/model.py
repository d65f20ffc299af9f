"""Check that the model's outputs depend on neither padding nor randomness."""

from __future__ import annotations

import torch
from torch import Tensor

from harken.config.preference_training import OnlineDPOTraining
from harken.doctor.check import ALL, Check, check
from harken.doctor.context import Context, with_padding
from harken.doctor.finding import CheckOutcome, error, note, ok, warning
from harken.doctor.ppo_context import PPOContext
from harken.models.encoder import Encoder

LEFT_PADDING = 7


@check(
    ALL,
    what="whether every model that the stage needs can be loaded",
    why="A model that cannot be loaded would stop the run later.",
    cost="the models",
)
def models_load(context: Context) -> CheckOutcome:
    """Load models with adapters, heads and optimisers."""
    trained = sum(p.numel() for p in context.trainable.values())
    base = sum(p.numel() for p in context.base_parameters)
    return ok(f"{base:,} weights, {trained:,} train, on {context.device} in {context.config.dtype}")


@check(
    ALL,
    what="size of the tokenizer, compared with the embedding",
    why="A token without an embedding stops the run at the first row that contains it.",
    cost="the models",
)
def vocabulary(context: Context) -> CheckOutcome:
    """Compare sizes; an embedding may have more rows than there are tokens."""
    embeddings = len(context.model.input_weight)
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
    what="longest sequence, compared with the model's positions",
    why="Beyond its positions a model generates noise, and the engine rejects such a prompt during the run.",
    cost="the models",
)
def positions(context: Context) -> CheckOutcome:
    """Use the prompt and the response in PPO."""
    model = context.model
    limits = model.max_length if isinstance(model, Encoder) else None
    available = limits or getattr(model.config, "max_position_embeddings", None)
    needed = context.config.data.max_length
    required = f"data.max_length {needed}"
    if isinstance(context, PPOContext):
        needed += context.settings.max_gen_len
        required += f" + max_gen_len {context.settings.max_gen_len}"
    elif isinstance(context.config.training, OnlineDPOTraining):
        needed += context.config.training.online_dpo.max_gen_len
        required += f" + max_gen_len {context.config.training.online_dpo.max_gen_len}"
    if available is None:
        return ok(f"{required}; the model names no limit")
    measured = f"{required} of {available:,} positions"
    if needed > available:
        return warning(
            measured,
            "lower data.max_length" + (" or max_gen_len" if context.kind in ("ppo", "online_dpo") else ""),
        )
    return ok(measured)


@check(
    ALL,
    what="logits of non-padding tokens with and without left padding",
    why="Sampling may pad prompts on the left. If that changes the logits, sampler and trainer differ.",
    cost="2 forwards of a row",
)
@torch.no_grad()
def left_padding(context: Context) -> CheckOutcome:
    """Compare log-probabilities; position_ids skip padding, as in sampling."""
    if isinstance(context.model, Encoder):
        return ok("nothing is sampled from an encoder")
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
        "this model does not support padding: it must use position_ids and the attention mask",
    )


@check(
    ALL,
    what="two forwards of the same rows",
    why="Dropout or other randomness makes the sampling policy differ from the one that is scored.",
    cost="2 forwards of a few rows",
)
def repeatable(context: Context) -> CheckOutcome:
    """Compare two forwards. CUDA kernels that add in no fixed order may differ by rounding."""
    gap = float((context.outputs(context.batch) - context.outputs(context.batch)).abs().max())
    measured = f"largest difference {gap:.2g} {_unit(context)}"
    if gap == 0:
        return ok(measured)
    if context.device.type != "cpu" and gap < context.limits.sampler_gap_warning:
        return note(f"{measured}: rounding of the device")
    return error(
        measured, "set every dropout of the model's config.json to 0; nothing may call model.train()"
    )


@check(
    ALL,
    what="the same rows with more padding, filled with random tokens",
    why="Padding must not affect the outputs: a loss that depends on it learns from noise.",
    cost="2 forwards of a few rows",
)
def padding_ignored(context: Context) -> CheckOutcome:
    """Compare outputs; with causal attention, padding on the right has no effect."""
    size = min(len(context.renderer.tokenizer), len(context.model.input_weight))
    gap = context.outputs(context.batch) - context.outputs(with_padding(context.batch, size))
    return _agree(context, gap, "by random padding", "this model reads padding: choose another")


def _next(context: Context, tokens: Tensor, hidden: Tensor) -> Tensor:
    """Compute the log-probability of every token but the first."""
    logits = (hidden[:, :-1] @ context.backbone.output_weight.T).float()
    return torch.log_softmax(logits, -1).gather(-1, tokens[:, 1:, None]).squeeze(-1)


def _agree(context: Context, gap: Tensor, how: str, fix: str) -> CheckOutcome:
    """Judge whether two computations agree up to rounding of the compute dtype."""
    mean = float(gap.abs().mean())
    measured = f"mean change {mean:.2g} {_unit(context)} {how}"
    if not mean <= context.limits.sampler_gap_warning:  # written this way, NaN is an error
        return error(measured, fix)
    return ok(measured)


def _unit(context: Context) -> str:
    return "of reward" if context.kind in ("reward", "classifier") else "nats"


LOADING_CHECKS: tuple[Check, ...] = (models_load, vocabulary, positions)
MODEL_CHECKS: tuple[Check, ...] = (left_padding, repeatable, padding_ignored)
