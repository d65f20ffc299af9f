"""Checks of the reward: does it tell good from bad, and by more than length."""

from __future__ import annotations

import math
from statistics import fmean, pstdev

from harken.doctor.check import Check, check
from harken.doctor.finding import Outcome, error, note, ok, warning
from harken.doctor.grading import UNKNOWING, Graded
from harken.doctor.ppo_context import TOKENS, PPOContext
from harken.maths.statistics import wilson_interval

COST = "scores of 128 answers"
FEW_PAIRS = 12
"""Fewer pairs than this say too little to warn."""
LENGTH_ALONE = 0.8
"""Correlation of score and length from which little but length is scored."""
USUAL_SPREAD = (0.2, 5.0)
"""Standard deviation of the scores that PPO's penalties and kl_coef are meant for."""


@check(
    ("ppo",),
    what="the reward model's scores: finite, and not all the same",
    why="NaN ends the run at its first update; a constant score teaches nothing but its penalties.",
    items="S4-30, S1-48",
    cost=COST,
)
def reward_spread(context: PPOContext) -> Outcome:
    """In standardised units, as PPO adds them up."""
    graded = context.graded
    if graded is None:
        return note(_missing(context))
    scores = [*graded.scores, *graded.empty, *graded.unknowing]
    broken = sum(not math.isfinite(score) for score in scores)
    if broken:
        return error(
            f"{broken} of {len(scores)} scores are not finite",
            "train the reward model again; its head is damaged",
        )
    mean, spread = fmean(graded.scores), pstdev(graded.scores)
    measured = f"mean {mean:+.2f}, spread {spread:.2f} over {len(graded.scores)} answers"
    if spread < context.limits.reward_std:
        return error(
            f"{measured}: a constant", "train the reward model again; its head does not read the answer"
        )
    return ok(f"{measured}; the sign of a mean says nothing")


@check(
    ("ppo",),
    what='pairs the reward model orders as people did, beside "longer wins"',
    why="A reward model no better than a coin, or than counting words, cannot teach what people prefer.",
    items="S1-49, S0-25",
    cost=COST,
)
def reward_accuracy(context: PPOContext) -> Outcome:
    """Strict: equal scores are wrong. With the 95 % Wilson interval."""
    graded = context.graded
    if graded is None or not _tells(graded, context):
        return note(_missing(context) if graded is None else "not examined: see reward_spread")
    n = len(graded.margins)
    right = sum(margin > 0 for margin in graded.margins)
    low, high = wilson_interval(right, n)
    longer = sum(more > 0 for more in graded.longer) / n
    measured = f"{right / n:.0%} [{low:.0%}, {high:.0%}] of {graded.where}; longer wins {longer:.0%}"
    if high < 0.5:
        return error(
            f"{measured}: worse than a coin",
            "the sign is turned: look whether chosen and rejected are swapped, or the head is negated",
        )
    fix = "train the reward model longer or on more pairs; `harken data` tells what becomes of the pairs"
    if right / n < context.limits.accuracy and n >= FEW_PAIRS:
        return warning(measured, fix)
    if low <= 0.5:
        return note(f"{measured}: too few pairs to tell it from a coin")
    return ok(measured)


@check(
    ("ppo",),
    what="correlation of the reward model's score with length",
    why="A score that counts words pays for words: answers grow, and nothing else improves.",
    items="S2-48",
    cost=COST,
)
def reward_length(context: PPOContext) -> Outcome:
    """Within pairs: the difference of the scores against the difference of the lengths, prompts apart."""
    graded = context.graded
    if graded is None or not _tells(graded, context):
        return note(_missing(context) if graded is None else "not examined: see reward_spread")
    longer = math.hypot(*graded.longer)
    if longer == 0:
        return note("the two answers of every pair are equally long")
    # Through the origin: which side of a pair comes first is a matter of writing.
    together = sum(score * more for score, more in zip(graded.margins, graded.longer, strict=True))
    r = together / (math.hypot(*graded.margins) * longer)
    measured = f"correlation {r:+.2f} of score and length within {len(graded.margins)} pairs"
    fix = "balance lengths in the preferences, or set training.ppo.length_penalty"
    if abs(r) >= LENGTH_ALONE and len(graded.margins) >= FEW_PAIRS:
        return warning(measured, fix)
    return note(measured, fix) if abs(r) >= context.limits.length_correlation else ok(measured)


@check(
    ("ppo",),
    what=f'scores of an empty answer and of "{UNKNOWING}" against real ones',
    why="What scores above real answers is what the policy will write: nothing at all, or that it does not know.",
    items="S1-49, S2-48, S0-40",
    cost=COST,
)
def reward_of_nothing(context: PPOContext) -> Outcome:
    """The share of real answers, good and bad, that score below."""
    graded = context.graded
    if graded is None or not _tells(graded, context):
        return note(_missing(context) if graded is None else "not examined: see reward_spread")
    if not graded.empty:
        return note("pairs come as tokens: no prompt to leave unanswered")
    empty, unknowing = fmean(graded.empty), fmean(graded.unknowing)
    below = {
        name: sum(score < value for score in graded.scores) / len(graded.scores)
        for name, value in (("empty", empty), ("unknowing", unknowing))
    }
    measured = (
        f"empty {empty:+.2f} (above {below['empty']:.0%} of real answers), "
        f'"{UNKNOWING}" {unknowing:+.2f} (above {below["unknowing"]:.0%})'
    )
    fix = "add pairs whose rejected side is empty or unknowing, and train the reward model again"
    if max(below.values()) > 0.8:
        return warning(measured, fix)
    return note(measured, fix) if max(below.values()) > 0.5 else ok(measured)


@check(
    ("ppo",),
    what="offset and scale saved with the reward model, and what score_clip would cut",
    why="kl_coef, penalties and score_clip are in units of the score's spread: another spread is another run.",
    items="S1-49, P14, P19",
    cost=COST,
)
def reward_units(context: PPOContext) -> Outcome:
    """The sign of a mean is arbitrary: only differences between answers teach."""
    graded, reward = context.graded, context.reward_model
    if graded is None or reward is None or not _tells(graded, context):
        return note(_missing(context) if graded is None else "not examined: see reward_spread")
    mean, spread, model = fmean(graded.scores), pstdev(graded.scores), reward.model
    measured = f"offset {model.offset:+.3g}, scale {model.scale:.3g}: mean {mean:+.2f}, spread {spread:.2f}"
    if reward.clip is not None:
        cut = sum(abs(score) >= reward.clip for score in graded.scores) / len(graded.scores)
        measured += f"; score_clip {reward.clip:g} cuts {cut:.0%}"
        if cut > 0.2:
            return warning(measured, "raise training.ppo.score_clip, or train with normalise: standardise")
    fix = "train the reward model with normalise: standardise, or bear it in mind when setting kl_coef"
    if not USUAL_SPREAD[0] <= spread <= USUAL_SPREAD[1] or abs(mean) > 3 * spread:
        return warning(measured, fix)
    return ok(measured)


@check(
    ("ppo",),
    what="every part of the reward on sampled answers",
    why="A part that fails, abstains or never differs is not the part that was meant.",
    items="S4-30, P15",
    cost="8 answers, scored",
)
def reward_parts(context: PPOContext) -> Outcome:
    """Mean of each part, and the spread of their weighted sum."""
    scored = context.scored
    values: dict[str, list[float]] = {}
    for row in scored:
        for score in row.scores:
            values.setdefault(score.source, []).extend([score.value] if score.value is not None else [])
    silent = [name for name, known in values.items() if not known]
    parts = ", ".join(f"{name} {fmean(known):+.2f}" for name, known in values.items() if known)
    spread = pstdev(row.reward for row in scored)
    measured = f"{parts or 'no part'}; spread of the sum {spread:.2f}, {len(scored)} answers of {TOKENS} tokens at most"
    if silent:
        return warning(
            f"{measured}; {', '.join(silent)} judged none", "look at what this part needs to judge"
        )
    if spread == 0:
        return warning(
            f"{measured}: every answer earns the same",
            "PPO needs answers that differ in reward: look at the parts",
        )
    return ok(measured)


def _missing(context: PPOContext) -> str:
    if context.reward_model is None:
        return "no trained reward model to ask"
    return "nothing says what preferences the reward model was trained on"


def _tells(graded: Graded, context: PPOContext) -> bool:
    """Whether the scores are finite and differ: what `reward_spread` finds is told once."""
    finite = all(math.isfinite(score) for score in graded.scores)
    return finite and pstdev(graded.scores) >= context.limits.reward_std


REWARD: tuple[Check, ...] = (
    reward_spread,
    reward_accuracy,
    reward_length,
    reward_of_nothing,
    reward_units,
    reward_parts,
)
