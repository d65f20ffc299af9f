"""Check the reward model: accuracy, length bias, scale, and scores of empty responses."""

from __future__ import annotations

import math
from statistics import fmean, pstdev

from harken.doctor.check import Check, check
from harken.doctor.finding import CheckOutcome, error, note, ok, warning
from harken.doctor.grading import DONT_KNOW, RewardScores
from harken.doctor.ppo_context import UPDATE_RESPONSE_TOKENS, PPOContext
from harken.maths.statistics.intervals import wilson_interval

COST = "scores of 128 responses"
FEW_PAIRS = 12
"""Minimum number of pairs for a warning."""
LENGTH_ALONE = 0.8
"""Correlation of score and length from which a warning is due."""
USUAL_SPREAD = (0.2, 5.0)
"""Range of the scores' standard deviation for which PPO's penalties and kl_coef are meant."""


@check(
    ("ppo",),
    what="whether the reward model's scores are finite and differ",
    why="NaN ends the run at its first update. With constant scores, only the penalties are learned.",
    cost=COST,
)
def reward_spread(context: PPOContext) -> CheckOutcome:
    """Compute mean and standard deviation of the standardised scores."""
    graded = context.reward_scores
    if graded is None:
        return note(_missing(context))
    scores = [*graded.scores, *graded.empty, *graded.dont_know]
    broken = sum(not math.isfinite(score) for score in scores)
    if broken:
        return error(
            f"{broken} of {len(scores)} scores are not finite",
            "train the reward model again; its head is damaged",
        )
    mean, spread = fmean(graded.scores), pstdev(graded.scores)
    measured = f"mean {mean:+.2f}, spread {spread:.2f} over {len(graded.scores)} responses"
    if spread < context.limits.reward_std:
        return error(
            f"{measured}: a constant", "train the reward model again; its head does not read the response"
        )
    return ok(f"{measured}; the sign of the mean is arbitrary")


@check(
    ("ppo",),
    what='accuracy of the reward model on preferences, compared with "longer wins"',
    why="A reward model no better than random guessing or counting words gives no signal about preferences.",
    cost=COST,
)
def reward_accuracy(context: PPOContext) -> CheckOutcome:
    """Compute accuracy with its 95 % Wilson interval; equal scores count as wrong."""
    graded = context.reward_scores
    if graded is None or not _informative(graded, context):
        return note(_missing(context) if graded is None else "not checked: see reward_spread")
    n = len(graded.margins)
    right = sum(margin > 0 for margin in graded.margins)
    low, high = wilson_interval(right, n)
    longer = sum(difference > 0 for difference in graded.longer) / n
    measured = f"{right / n:.0%} [{low:.0%}, {high:.0%}] of {graded.where}; longer wins {longer:.0%}"
    if high < 0.5:
        return error(
            f"{measured}: worse than random guessing",
            "the sign is inverted: check whether chosen and rejected are swapped, or the head is negated",
        )
    fix = "train the reward model longer or on more pairs; `harken data` counts the pairs that are used"
    if right / n < context.limits.accuracy and n >= FEW_PAIRS:
        return warning(measured, fix)
    if low <= 0.5:
        return note(f"{measured}: too few pairs to exclude random guessing")
    return ok(measured)


@check(
    ("ppo",),
    what="correlation of the reward model's score with length",
    why="If the score follows length, PPO makes responses longer and nothing else improves.",
    cost=COST,
)
def reward_length(context: PPOContext) -> CheckOutcome:
    """Correlate score differences with length differences within pairs, which removes the prompt's effect."""
    graded = context.reward_scores
    if graded is None or not _informative(graded, context):
        return note(_missing(context) if graded is None else "not checked: see reward_spread")
    longer = math.hypot(*graded.longer)
    if longer == 0:
        return note("the two responses of every pair are equally long")
    # Without centring: which side of a pair comes first is arbitrary.
    covariance = sum(
        score * difference for score, difference in zip(graded.margins, graded.longer, strict=True)
    )
    r = covariance / (math.hypot(*graded.margins) * longer)
    measured = f"correlation {r:+.2f} of score and length within {len(graded.margins)} pairs"
    fix = "balance lengths in the preferences, or set training.ppo.length_penalty"
    if abs(r) >= LENGTH_ALONE and len(graded.margins) >= FEW_PAIRS:
        return warning(measured, fix)
    return note(measured, fix) if abs(r) >= context.limits.length_correlation else ok(measured)


@check(
    ("ppo",),
    what=f'scores of an empty response and of "{DONT_KNOW}" against real ones',
    why="If empty or evasive responses score above real ones, the policy learns to write them.",
    cost=COST,
)
def reward_of_nothing(context: PPOContext) -> CheckOutcome:
    """Compute the share of real responses that score below."""
    graded = context.reward_scores
    if graded is None or not _informative(graded, context):
        return note(_missing(context) if graded is None else "not checked: see reward_spread")
    if not graded.empty:
        return note("pairs are given as tokens: there is no prompt to respond to")
    empty, dont_know = fmean(graded.empty), fmean(graded.dont_know)
    below = {
        name: sum(score < value for score in graded.scores) / len(graded.scores)
        for name, value in (("empty", empty), ("dont_know", dont_know))
    }
    measured = (
        f"empty {empty:+.2f} (above {below['empty']:.0%} of real responses), "
        f'"{DONT_KNOW}" {dont_know:+.2f} (above {below["dont_know"]:.0%})'
    )
    fix = "add pairs whose rejected side is empty or evasive, and train the reward model again"
    if max(below.values()) > 0.8:
        return warning(measured, fix)
    return note(measured, fix) if max(below.values()) > 0.5 else ok(measured)


@check(
    ("ppo",),
    what="offset and scale saved with the reward model, and the share that score_clip changes",
    why="kl_coef, penalties and score_clip are in units of the score's standard deviation, so they depend on it.",
    cost=COST,
)
def reward_units(context: PPOContext) -> CheckOutcome:
    """Check scale and clip; the sign of the mean is arbitrary, only differences affect training."""
    graded, reward = context.reward_scores, context.reward_model
    if graded is None or reward is None or not _informative(graded, context):
        return note(_missing(context) if graded is None else "not checked: see reward_spread")
    mean, spread, model = fmean(graded.scores), pstdev(graded.scores), reward.model
    measured = f"offset {model.offset:+.3g}, scale {model.scale:.3g}: mean {mean:+.2f}, spread {spread:.2f}"
    if reward.clip is not None:
        clipped = sum(abs(score) >= reward.clip for score in graded.scores) / len(graded.scores)
        measured += f"; score_clip {reward.clip:g} clips {clipped:.0%}"
        if clipped > 0.2:
            return warning(measured, "raise training.ppo.score_clip, or train with normalise: standardise")
    fix = "train the reward model with normalise: standardise, or consider it when setting kl_coef"
    if not USUAL_SPREAD[0] <= spread <= USUAL_SPREAD[1] or abs(mean) > 3 * spread:
        return warning(measured, fix)
    return ok(measured)


@check(
    ("ppo",),
    what="every part of the reward on sampled responses",
    why="A part that fails, gives no score or is constant does not do what was intended.",
    cost="8 responses, scored",
)
def reward_parts(context: PPOContext) -> CheckOutcome:
    """Compute the mean of each part, and the spread of their weighted sum."""
    scored = context.scored
    values: dict[str, list[float]] = {}
    for row in scored:
        for score in row.scores:
            values.setdefault(score.source, []).extend([score.value] if score.value is not None else [])
    silent = [name for name, scores in values.items() if not scores]
    parts = ", ".join(f"{name} {fmean(scores):+.2f}" for name, scores in values.items() if scores)
    spread = pstdev(row.reward for row in scored)
    responses = f"{len(scored)} responses of ≤ {UPDATE_RESPONSE_TOKENS} tokens"
    measured = f"{parts or 'no part'}; spread of the sum {spread:.2f}, {responses}"
    if silent:
        return warning(
            f"{measured}; {', '.join(silent)} gave no score", "check what this part needs to score a response"
        )
    if spread == 0:
        return warning(
            f"{measured}: every response gets the same reward",
            "PPO needs responses that differ in reward: check the parts",
        )
    return ok(measured)


def _missing(context: PPOContext) -> str:
    if context.reward_model is None:
        return "there is no trained reward model"
    return "the reward model's preferences are unknown"


def _informative(graded: RewardScores, context: PPOContext) -> bool:
    """Return whether the scores are finite and differ; only `reward_spread` reports it otherwise."""
    finite = all(math.isfinite(score) for score in graded.scores)
    return finite and pstdev(graded.scores) >= context.limits.reward_std


REWARD_CHECKS: tuple[Check, ...] = (
    reward_spread,
    reward_accuracy,
    reward_length,
    reward_of_nothing,
    reward_units,
    reward_parts,
)
