"""Checks of what a PPO policy samples, and of what its loss is made of."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from harken.batches import TokenEvaluation
from harken.doctor.check import Check, check
from harken.doctor.finding import Seen, error, note, ok, warning
from harken.doctor.ppo_subject import PPOSubject
from harken.doctor.subject import with_pads

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
def sampler_is_scorer(subject: PPOSubject) -> Seen:
    """At the configuration's temperature."""
    trainer = subject.old.logprobs[subject.batch.action]
    sampler = trainer.new_tensor([lp for r in subject.answers for lp in r.sampler_logprobs])
    gap, limits = float((trainer - sampler).abs().mean()), subject.limits
    bias = float((trainer - sampler).mean())
    measured = f"mean gap {gap:.2g}, bias {bias:+.2g} nats a token over {len(trainer)} tokens"
    mend = "sample with the training weights, at training.ppo.temperature, without top-k, top-p or penalties"
    if not gap <= limits.sampler_gap_red:
        return error(measured, mend)
    return ok(measured) if gap <= limits.sampler_gap_amber else warning(measured, mend)


@check(
    ("ppo",),
    what="surprise of the sampled tokens against the policy's entropy",
    why="Greedy, top-k or colder sampling shows here even if the sampler reports the right log-probabilities.",
    items="P5, P9",
    cost=COST,
)
@torch.no_grad()
def sampling_is_fair(subject: PPOSubject) -> Seen:
    """Of fair samples −log π is the entropy on average; the difference is told in standard errors."""
    batch, policy = subject.batch, subject.roles.policy
    states = policy.states(batch)
    surprise = -subject.old.logprobs[batch.action]
    expected, variance = _entropies(states, policy.backbone.output_weight, subject.settings.temperature)
    spread = float(variance.sum()) ** 0.5
    away = float((surprise - expected).sum()) / max(spread, 1e-6)
    measured = (
        f"{float(surprise.mean()):.2f} nats a token, entropy {float(expected.mean()):.2f}: "
        f"{away:+.1f} standard errors over {len(surprise)} tokens"
    )
    mend = "draw from the whole softmax(logits / temperature): no greedy, top-k, top-p or repetition penalty"
    if not abs(away) <= VERY_FAR:
        return error(measured, mend)
    return ok(measured) if abs(away) <= FAR else warning(measured, mend)


@check(
    ("ppo",),
    what="answers that end by half of max_gen_len, by it, and by twice as much",
    why="A cut answer is scored for what it did not say; if most are cut, PPO learns little but to stop.",
    items="S0-40, P8, P22, S2-48",
    cost=COST,
)
def answers_end(subject: PPOSubject) -> Seen:
    """The same answers under three limits."""
    limit, followed, rollouts = subject.settings.max_gen_len, subject.followed, subject.rollouts
    lengths = [len(r.response_tokens) if r.stop == "end_of_turn" else math.inf for r in rollouts]
    asked = sorted({max(limit // 2, 1), limit, 2 * limit, followed})
    shares = {n: sum(length <= n for length in lengths) / len(lengths) for n in asked if n <= followed}
    text = ", ".join(f"{share:.0%} by {n}" for n, share in shares.items())
    empty = sum(not r.text.strip() for r in rollouts) / len(rollouts)
    measured = f"of {len(rollouts)} answers ended {text} tokens (max_gen_len {limit}); {empty:.0%} empty"
    mend = "raise training.ppo.max_gen_len, or tune on answers that end"
    cut = 1 - shares[limit] if limit in shares else 0.0
    if empty > 0.5:
        return warning(measured, "the policy says nothing: tune it first")
    if cut > subject.limits.cut_red and not subject.around.untuned:
        return warning(measured, mend)
    return note(measured, mend) if cut > subject.limits.cut_amber else ok(measured)


@check(
    ("ppo",),
    what="credit and loss with NaN wherever no token was sampled, and random tokens in the padding",
    why="Multiplying by a mask lets NaN through and means over padding through: what is masked must be unread.",
    items="P24, P26, P32",
    cost="2 backwards of 8 rows",
)
def loss_ignores_padding(subject: PPOSubject) -> Seen:
    """The whole way from scores to gradient norm, by the code that trains."""
    size = min(len(subject.renderer.tokenizer), subject.backbone.output_weight.shape[0])
    old, outside = subject.old, ~subject.batch.action

    def poisoned(values: Tensor) -> Tensor:
        return values.masked_fill(outside, torch.nan)

    poison = TokenEvaluation(
        poisoned(old.logprobs), poisoned(old.entropy), poisoned(old.values), old.final_values
    )
    reference = poisoned(subject.reference_logprobs)
    assigned = subject.credit(poison, reference)
    losses = subject.learned(with_pads(subject.batch, size, more=0), assigned, reference)
    return _same_losses(subject, losses, "select by the mask (torch.where), never multiply by it")


@check(
    ("ppo",),
    what="loss and gradient norm of one optimiser step in one micro-batch, and in many",
    why="If the split into micro-batches changes the loss, memory settings change what is learnt.",
    items="P31",
    cost="2 backwards of 8 rows",
)
def split_invariance(subject: PPOSubject) -> Seen:
    """One row at a time against all together."""
    assigned = subject.credit(subject.old, subject.reference_logprobs)
    losses = subject.learned(subject.batch, assigned, subject.reference_logprobs, budget=1)
    return _same_losses(subject, losses, "sum over tokens, divide by the count of the whole optimiser step")


@check(
    ("ppo",),
    what="mean of the advantages as the loss uses them",
    why="Whitening that keeps the mean pushes every token the same way, whatever it earned.",
    items="P26",
    cost="2 backwards of 8 rows",
)
def advantages_centred(subject: PPOSubject) -> Seen:
    """At ratio 1 the policy's loss is minus their mean."""
    mean = -subject.losses["policy/loss"]
    measured = f"mean {mean:+.1e} of the whole batch"
    if not subject.settings.whitens:
        return ok(f"{measured}; not whitened, as configured")
    if not abs(mean) <= CENTRED:
        return error(measured, "whiten over all learnable tokens of the batch, and take the mean away")
    return ok(f"{measured}, spread 1")


def _same_losses(subject: PPOSubject, losses: dict[str, float], mend: str) -> Seen:
    """Losses and gradient norm of one optimiser step, made another way. The policy's loss is 0 at ratio 1 and
    whitened advantages: it is compared on the scale of the gradient."""
    clean = subject.losses
    away = {"grad_norm": abs(losses["grad_norm"] / clean["grad_norm"] - 1)}
    away["policy/loss"] = abs(losses["policy/loss"] - clean["policy/loss"]) / clean["grad_norm"]
    if "value/loss" in clean:
        away["value/loss"] = abs(losses["value/loss"] / max(clean["value/loss"], 1e-12) - 1)
    measured = ", ".join(f"{name} {share:.1e}" for name, share in away.items()) + " relative change"
    if not all(share <= SAME[subject.config.dtype] for share in away.values()):
        return error(measured, mend)
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
