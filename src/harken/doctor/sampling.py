"""Check a PPO policy's samples, and the terms of its loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harken.batches import PolicyOutputs
from harken.doctor.check import Check, check
from harken.doctor.context import with_padding
from harken.doctor.finding import CheckOutcome, error, note, ok, warning
from harken.doctor.ppo_context import PPOContext

COST = "8 responses"
FAR, VERY_FAR = 4.0, 6.0
"""Standard errors. A correct sampler exceeds 4 once in 16,000 runs of the check."""
CENTRED = 0.01
"""Largest |mean| of whitened advantages, in standard deviations."""
SAME = {"float32": 1e-3, "bfloat16": 0.1}
"""Largest relative difference between two computations of one loss or gradient norm."""


@check(
    ("ppo",),
    what="log-probabilities of the sampler and of the trainer, token by token",
    why="If the policy that samples is not the one that is scored, every ratio and every KL is wrong.",
    cost=COST,
)
def sampler_is_scorer(context: PPOContext) -> CheckOutcome:
    """Compare them at the configuration's temperature."""
    trainer = context.old_outputs.logprobs[context.batch.response_mask]
    sampler = trainer.new_tensor([lp for r in context.responses for lp in r.sampler_logprobs])
    gap, limits = float((trainer - sampler).abs().mean()), context.limits
    bias = float((trainer - sampler).mean())
    measured = f"mean gap {gap:.2g}, bias {bias:+.2g} nats per token over {len(trainer)} tokens"
    fix = "sample with the training weights, at training.ppo.temperature, without top-k, top-p or penalties"
    if not gap <= limits.sampler_gap_unhealthy:
        return error(measured, fix)
    return ok(measured) if gap <= limits.sampler_gap_warning else warning(measured, fix)


@check(
    ("ppo",),
    what="−log π of the sampled tokens, compared with the policy's entropy",
    why="This finds greedy, top-k or colder sampling even if the sampler reports correct log-probabilities.",
    cost=COST,
)
@torch.no_grad()
def sampling_is_fair(context: PPOContext) -> CheckOutcome:
    """Compare mean −log π with the entropy, which it equals for correct sampling, in standard errors."""
    batch, policy = context.batch, context.models.policy
    states = policy.response_states(batch)
    surprise = -context.old_outputs.logprobs[batch.response_mask]
    expected, variance = _entropies(states, policy.backbone.output_weight, context.settings.temperature)
    spread = float(variance.sum()) ** 0.5
    deviation = float((surprise - expected).sum()) / max(spread, 1e-6)
    measured = (
        f"{float(surprise.mean()):.2f} nats per token, entropy {float(expected.mean()):.2f}: "
        f"{deviation:+.1f} standard errors over {len(surprise)} tokens"
    )
    fix = "draw from the whole softmax(logits / temperature): no greedy, top-k, top-p or repetition penalty"
    if not abs(deviation) <= VERY_FAR:
        return error(measured, fix)
    return ok(measured) if abs(deviation) <= FAR else warning(measured, fix)


@check(
    ("ppo",),
    what="share of responses that end within half of max_gen_len, within it, and within twice as much",
    why="A truncated response is scored unfinished. If most are truncated, PPO learns little but to stop.",
    cost=COST,
)
def responses_end(context: PPOContext) -> CheckOutcome:
    """Count the same responses under three limits."""
    limit, followed, rollouts = context.settings.max_gen_len, context.followed, context.rollouts
    lengths = [len(r.response_tokens) if r.stop == "end_of_turn" else math.inf for r in rollouts]
    token_limits = sorted({max(limit // 2, 1), limit, 2 * limit, followed})
    shares = {n: sum(length <= n for length in lengths) / len(lengths) for n in token_limits if n <= followed}
    text = ", ".join(f"{share:.0%} by {n}" for n, share in shares.items())
    empty = sum(not r.text.strip() for r in rollouts) / len(rollouts)
    measured = f"of {len(rollouts)} responses ended {text} tokens (max_gen_len {limit}); {empty:.0%} empty"
    fix = "raise training.ppo.max_gen_len, or run SFT on responses that end"
    truncated = 1 - shares[limit] if limit in shares else 0.0
    if empty > 0.5:
        return warning(measured, "most responses are empty: run SFT first")
    if truncated > context.limits.truncated_unhealthy and not context.pipeline.sft_missing:
        return warning(measured, fix)
    return note(measured, fix) if truncated > context.limits.truncated_warning else ok(measured)


@check(
    ("ppo",),
    what="PPO targets and loss with NaN outside the response mask and random tokens in the padding",
    why="Masked positions must be selected away: multiplying by a mask keeps NaN, and a mean may include padding.",
    cost="2 backwards of 8 rows",
)
def loss_ignores_padding(context: PPOContext) -> CheckOutcome:
    """Compute everything from scores to gradient norm with the training code."""
    size = min(len(context.renderer.tokenizer), context.backbone.output_weight.shape[0])
    old, outside = context.old_outputs, ~context.batch.response_mask

    def poisoned(values: Tensor) -> Tensor:
        return values.masked_fill(outside, torch.nan)

    poison = PolicyOutputs(
        poisoned(old.logprobs), poisoned(old.entropy), poisoned(old.values), old.final_values
    )
    reference = poisoned(context.ref_logprobs)
    targets = context.targets(poison, reference)
    losses = context.zero_lr_step(with_padding(context.batch, size, more=0), targets, reference)
    return _same_losses(context, losses, "select by the mask (torch.where), never multiply by it")


@check(
    ("ppo",),
    what="loss and gradient norm of one optimiser step, in one micro-batch and in many",
    why="If the split into micro-batches changes the loss, memory settings change the training.",
    cost="2 backwards of 8 rows",
)
def split_invariance(context: PPOContext) -> CheckOutcome:
    """Compare one row at a time with all rows together."""
    targets = context.targets(context.old_outputs, context.ref_logprobs)
    losses = context.zero_lr_step(context.batch, targets, context.ref_logprobs, budget=1)
    return _same_losses(context, losses, "sum over tokens, divide by the count of the whole optimiser step")


@check(
    ("ppo",),
    what="mean of the advantages as the loss uses them",
    why="Advantages with a mean other than 0 push all tokens in the same direction.",
    cost="2 backwards of 8 rows",
)
def advantages_centred(context: PPOContext) -> CheckOutcome:
    """At ratio 1 the policy's loss is minus their mean."""
    mean = -context.losses["policy/loss"]
    measured = f"mean {mean:+.1e} of the whole batch"
    if not context.settings.whitens:
        return ok(f"{measured}; not whitened, as configured")
    if not abs(mean) <= CENTRED:
        return error(measured, "whiten over all learnable tokens of the batch, and subtract the mean")
    return ok(f"{measured}, spread 1")


def _same_losses(context: PPOContext, losses: dict[str, float], fix: str) -> CheckOutcome:
    """Compare losses and gradient norm of two computations of one optimiser step.

    The policy loss is 0 at ratio 1 with whitened advantages, so it is compared on the scale of the gradient.
    """
    clean = context.losses
    changes = {"grad_norm": abs(losses["grad_norm"] / clean["grad_norm"] - 1)}
    changes["policy/loss"] = abs(losses["policy/loss"] - clean["policy/loss"]) / clean["grad_norm"]
    if "value/loss" in clean:
        changes["value/loss"] = abs(losses["value/loss"] / max(clean["value/loss"], 1e-12) - 1)
    measured = ", ".join(f"{name} {share:.1e}" for name, share in changes.items()) + " relative change"
    if not all(share <= SAME[context.config.dtype] for share in changes.values()):
        return error(measured, fix)
    return ok(measured)


def _entropies(states: Tensor, weight: Tensor, temperature: float, chunk: int = 64) -> tuple[Tensor, Tensor]:
    """Compute mean and variance of −log π under π for each state: [n] each, nats and nats²."""
    means, variances = [], []
    for piece in torch.split(states, chunk):
        log_p = torch.log_softmax((piece @ weight.T).float() / temperature, -1)
        p = log_p.exp()
        mean = -torch.linalg.vecdot(p, log_p)
        means.append(mean)
        variances.append((torch.linalg.vecdot(p, log_p.square()) - mean.square()).clamp(min=0))
    return torch.cat(means), torch.cat(variances)


SAMPLING_CHECKS: tuple[Check, ...] = (
    sampler_is_scorer,
    sampling_is_fair,
    responses_end,
    loss_ignores_padding,
    split_invariance,
    advantages_centred,
)
