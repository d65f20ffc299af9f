"""Checks of what a PPO policy samples, and of what its loss is made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harken.batches import PolicyOutputs
from harken.doctor.check import Check, check
from harken.doctor.context import with_pads
from harken.doctor.finding import Outcome, error, note, ok, warning
from harken.doctor.ppo_context import PPOContext

COST = "8 answers"
FAR, VERY_FAR = 4.0, 6.0
"""Standard errors. Of a fair sampler 4 happens once in 16,000 examinations."""
CENTRED = 0.01
"""Standard deviations that the mean of whitened advantages may be away from 0."""
SAME = {"float32": 1e-3, "bfloat16": 0.1}
"""Relative difference between two ways to one loss or gradient norm that is put down to rounding."""


@check(
    ("ppo",),
    what="log-probabilities of the sampler and of the trainer, token by token",
    why="If the policy that samples is not the one that is scored, every ratio and every KL is wrong.",
    items="P5, P6, P7",
    cost=COST,
)
def sampler_is_scorer(context: PPOContext) -> Outcome:
    """At the configuration's temperature."""
    trainer = context.old.logprobs[context.batch.response_mask]
    sampler = trainer.new_tensor([lp for r in context.answers for lp in r.sampler_logprobs])
    gap, limits = float((trainer - sampler).abs().mean()), context.limits
    bias = float((trainer - sampler).mean())
    measured = f"mean gap {gap:.2g}, bias {bias:+.2g} nats a token over {len(trainer)} tokens"
    fix = "sample with the training weights, at training.ppo.temperature, without top-k, top-p or penalties"
    if not gap <= limits.sampler_gap_red:
        return error(measured, fix)
    return ok(measured) if gap <= limits.sampler_gap_amber else warning(measured, fix)


@check(
    ("ppo",),
    what="surprise of the sampled tokens against the policy's entropy",
    why="Greedy, top-k or colder sampling shows here even if the sampler reports the right log-probabilities.",
    items="P5, P9",
    cost=COST,
)
@torch.no_grad()
def sampling_is_fair(context: PPOContext) -> Outcome:
    """Of fair samples −log π is the entropy on average; the difference is told in standard errors."""
    batch, policy = context.batch, context.roles.policy
    states = policy.response_states(batch)
    surprise = -context.old.logprobs[batch.response_mask]
    expected, variance = _entropies(states, policy.backbone.output_weight, context.settings.temperature)
    spread = float(variance.sum()) ** 0.5
    away = float((surprise - expected).sum()) / max(spread, 1e-6)
    measured = (
        f"{float(surprise.mean()):.2f} nats a token, entropy {float(expected.mean()):.2f}: "
        f"{away:+.1f} standard errors over {len(surprise)} tokens"
    )
    fix = "draw from the whole softmax(logits / temperature): no greedy, top-k, top-p or repetition penalty"
    if not abs(away) <= VERY_FAR:
        return error(measured, fix)
    return ok(measured) if abs(away) <= FAR else warning(measured, fix)


@check(
    ("ppo",),
    what="answers that end by half of max_gen_len, by it, and by twice as much",
    why="A cut answer is scored for what it did not say; if most are cut, PPO learns little but to stop.",
    items="S0-40, P8, P22, S2-48",
    cost=COST,
)
def answers_end(context: PPOContext) -> Outcome:
    """The same answers under three limits."""
    limit, followed, rollouts = context.settings.max_gen_len, context.followed, context.rollouts
    lengths = [len(r.response_tokens) if r.stop == "end_of_turn" else math.inf for r in rollouts]
    asked = sorted({max(limit // 2, 1), limit, 2 * limit, followed})
    shares = {n: sum(length <= n for length in lengths) / len(lengths) for n in asked if n <= followed}
    text = ", ".join(f"{share:.0%} by {n}" for n, share in shares.items())
    empty = sum(not r.text.strip() for r in rollouts) / len(rollouts)
    measured = f"of {len(rollouts)} answers ended {text} tokens (max_gen_len {limit}); {empty:.0%} empty"
    fix = "raise training.ppo.max_gen_len, or tune on answers that end"
    cut = 1 - shares[limit] if limit in shares else 0.0
    if empty > 0.5:
        return warning(measured, "the policy says nothing: tune it first")
    if cut > context.limits.cut_red and not context.around.untuned:
        return warning(measured, fix)
    return note(measured, fix) if cut > context.limits.cut_amber else ok(measured)


@check(
    ("ppo",),
    what="credit and loss with NaN wherever no token was sampled, and random tokens in the padding",
    why="Multiplying by a mask lets NaN through and means over padding through: what is masked must be unread.",
    items="P24, P26, P32",
    cost="2 backwards of 8 rows",
)
def loss_ignores_padding(context: PPOContext) -> Outcome:
    """The whole way from scores to gradient norm, by the code that trains."""
    size = min(len(context.renderer.tokenizer), context.backbone.output_weight.shape[0])
    old, outside = context.old, ~context.batch.response_mask

    def poisoned(values: Tensor) -> Tensor:
        return values.masked_fill(outside, torch.nan)

    poison = PolicyOutputs(
        poisoned(old.logprobs), poisoned(old.entropy), poisoned(old.values), old.final_values
    )
    reference = poisoned(context.reference_logprobs)
    targets = context.credit(poison, reference)
    losses = context.learned(with_pads(context.batch, size, more=0), targets, reference)
    return _same_losses(context, losses, "select by the mask (torch.where), never multiply by it")


@check(
    ("ppo",),
    what="loss and gradient norm of one optimiser step in one micro-batch, and in many",
    why="If the split into micro-batches changes the loss, memory settings change what is learnt.",
    items="P31",
    cost="2 backwards of 8 rows",
)
def split_invariance(context: PPOContext) -> Outcome:
    """One row at a time against all together."""
    targets = context.credit(context.old, context.reference_logprobs)
    losses = context.learned(context.batch, targets, context.reference_logprobs, budget=1)
    return _same_losses(context, losses, "sum over tokens, divide by the count of the whole optimiser step")


@check(
    ("ppo",),
    what="mean of the advantages as the loss uses them",
    why="Whitening that keeps the mean pushes every token the same way, whatever it earned.",
    items="P26",
    cost="2 backwards of 8 rows",
)
def advantages_centred(context: PPOContext) -> Outcome:
    """At ratio 1 the policy's loss is minus their mean."""
    mean = -context.losses["policy/loss"]
    measured = f"mean {mean:+.1e} of the whole batch"
    if not context.settings.whitens:
        return ok(f"{measured}; not whitened, as configured")
    if not abs(mean) <= CENTRED:
        return error(measured, "whiten over all learnable tokens of the batch, and take the mean away")
    return ok(f"{measured}, spread 1")


def _same_losses(context: PPOContext, losses: dict[str, float], fix: str) -> Outcome:
    """Losses and gradient norm of one optimiser step, made another way. The policy's loss is 0 at ratio 1 and
    whitened advantages: it is compared on the scale of the gradient."""
    clean = context.losses
    away = {"grad_norm": abs(losses["grad_norm"] / clean["grad_norm"] - 1)}
    away["policy/loss"] = abs(losses["policy/loss"] - clean["policy/loss"]) / clean["grad_norm"]
    if "value/loss" in clean:
        away["value/loss"] = abs(losses["value/loss"] / max(clean["value/loss"], 1e-12) - 1)
    measured = ", ".join(f"{name} {share:.1e}" for name, share in away.items()) + " relative change"
    if not all(share <= SAME[context.config.dtype] for share in away.values()):
        return error(measured, fix)
    return ok(measured)


def _entropies(states: Tensor, weight: Tensor, temperature: float, chunk: int = 64) -> tuple[Tensor, Tensor]:
    """Mean and variance of −log π under π, for the distribution of each state; [n] each, nats and nats²."""
    means, variances = [], []
    for piece in torch.split(states, chunk):
        log_p = torch.log_softmax((piece @ weight.T).float() / temperature, -1)
        p = log_p.exp()
        mean = -torch.linalg.vecdot(p, log_p)
        means.append(mean)
        variances.append((torch.linalg.vecdot(p, log_p.square()) - mean.square()).clamp(min=0))
    return torch.cat(means), torch.cat(variances)


SAMPLING: tuple[Check, ...] = (
    sampler_is_scorer,
    sampling_is_fair,
    answers_end,
    loss_ignores_padding,
    split_invariance,
    advantages_centred,
)
