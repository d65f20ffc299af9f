"""Rules on the answers themselves: alike, short, empty, cut, repetitive."""

from __future__ import annotations

from statistics import fmean, median

from harken.health.history import History
from harken.health.limits import Limits
from harken.health.rule import Observation, Rule

DIVERSITY = {"unique": "distinct answers", "distinct_2": "distinct bigrams"}


def _collapse(history: History, limits: Limits) -> Observation | None:
    """The worst fall among the batches' answers and those to the held-out probe."""
    falls = []
    for metric, words in DIVERSITY.items():
        for prefix, count, where in (
            ("response/", limits.window, "rollouts"),
            ("eval/", 1, "held-out answers"),
        ):
            start = history.start(prefix + metric, count)
            now = history.median(prefix + metric, count)
            if start and now is not None:
                falls.append((now / start, f"{words} in {where} fell from {start:.2f} to {now:.2f} of all"))
    if falls and (worst := min(falls))[0] <= limits.collapse_amber:
        return Observation("red" if worst[0] <= limits.collapse_red else "amber", worst[1])
    start = history.start("response/tokens_std", limits.window)
    now = history.median("response/tokens_std", limits.window)
    if start and now is not None and now <= limits.collapse_spread * start:
        return Observation("amber", f"the spread of lengths fell from {start:.1f} to {now:.1f} tokens")
    return None


def _shorter(history: History, limits: Limits) -> Observation | None:
    lengths, cut = history.values("response/tokens_mean"), history.values("response/cap_hit")
    # Answers that were cut say nothing about how long they would be: count from where most of them end.
    first = next((i for i, share in enumerate(cut) if share <= limits.cut_amber), len(lengths))
    if len(lengths) < first + 2 * limits.window:
        return None
    start, now = median(lengths[first : first + limits.window]), median(lengths[-limits.window :])
    if not start or now / start > limits.shorter_amber:
        return None
    red = now / start <= limits.shorter_red
    return Observation("red" if red else "amber", f"answers shrank from {start:.0f} to {now:.0f} tokens")


def _empty(history: History, limits: Limits) -> Observation | None:
    share = history.mean("response/empty", limits.window)
    if share is None or share <= limits.empty_amber:
        return None
    red = share > limits.empty_red and history.step >= limits.empty_from
    return Observation("red" if red else "amber", f"{share:.1%} of the answers are empty")


def _cut(history: History, limits: Limits) -> Observation | None:
    share = history.mean("response/cap_hit", limits.long_window)
    if share is None or history.step < limits.cut_from or share <= limits.cut_amber:
        return None
    start = fmean(history.values("response/cap_hit")[: limits.window])
    grew = share > limits.cut_red and start < limits.cut_amber
    return Observation(
        "red" if grew else "amber",
        f"{share:.0%} of the answers are cut at the limit, {start:.0%} at the start",
    )


def _repetition(history: History, limits: Limits) -> Observation | None:
    shares = [history.mean("response/repetition", limits.window), history.median("eval/repetition", 1)]
    share = max((s for s in shares if s is not None), default=0.0)
    if share <= limits.repetition_amber:
        return None
    red = share > limits.repetition_red
    return Observation("red" if red else "amber", f"{share:.0%} of an answer's 4-grams repeat earlier ones")


ANSWER_RULES = (
    Rule(
        name="policy_collapse",
        kinds=("ppo",),
        amber="distinct answers or distinct token bigrams ≤ {collapse_amber:g} × the start, or the spread of lengths "
        "≤ {collapse_spread:g} × the start; medians of {window} updates, or single held-out evaluations",
        red="distinct answers or distinct token bigrams ≤ {collapse_red:g} × the start",
        cause="the policy gives the same answer everywhere: the KL is too loose or the steps too large",
        fix="raise kl_coef, lower training.lr, set entropy_coef, go back a checkpoint, check the reward model",
        items="S2-53, S2-56, S4-32",
        look=_collapse,
    ),
    Rule(
        name="length_collapse",
        kinds=("ppo",),
        amber="mean length ≤ {shorter_amber:g} × the first {window} updates in which at most half were cut, "
        "median of {window} updates",
        red="the same ≤ {shorter_red:g} ×",
        cause="short answers are safe under the reward model or its penalties",
        fix="lower length_penalty and missing_eos_penalty, raise kl_coef, check the reward model on short answers",
        items="S4-32, S0-40",
        look=_shorter,
    ),
    Rule(
        name="empty_answers",
        kinds=("ppo",),
        amber="empty answers > {empty_amber:.0%}, mean of {window} updates",
        red="empty answers > {empty_red:.0%}, mean of {window} updates, from update {empty_from}",
        cause="ending at once is scored better than answering",
        fix="check what the reward model gives an empty answer; lower length_penalty; raise kl_coef",
        items="S0-40",
        look=_empty,
    ),
    Rule(
        name="cut_answers",
        kinds=("ppo",),
        amber="answers cut at the limit > {cut_amber:.0%}, mean of {long_window} updates, from update {cut_from}",
        red="the same > {cut_red:.0%}, and below {cut_amber:.0%} in the first {window} updates",
        cause="the policy does not learn to end, or is paid for length",
        fix="raise max_gen_len or missing_eos_penalty; look at length_bias",
        items="S0-47, S2-48, property 22",
        look=_cut,
    ),
    Rule(
        name="repetition",
        kinds=("ppo",),
        amber="repeated token 4-grams > {repetition_amber:.0%} of an answer, mean of {window} updates or held-out",
        red="the same > {repetition_red:.0%}",
        cause="the reward model does not punish loops, or the policy has degenerated",
        fix="set repetition_penalty, raise kl_coef, add looping answers to the reward model's rejected side",
        items="S2-48, S4-32",
        look=_repetition,
    ),
)
