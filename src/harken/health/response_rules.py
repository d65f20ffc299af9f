"""Health rules on the responses: diversity, length, empty, truncated, repetition."""

from __future__ import annotations

from statistics import fmean, median

from harken.health.history import History
from harken.health.limits import Limits
from harken.health.rule import Observation, Rule

DIVERSITY = {"unique": "distinct responses", "distinct_2": "distinct bigrams"}


def _collapse(history: History, limits: Limits) -> Observation | None:
    """Find the largest fall of diversity in the rollouts and in the held-out evaluation."""
    falls = []
    for metric, words in DIVERSITY.items():
        for prefix, count, where in (
            ("response/", limits.window, "rollouts"),
            ("eval/", 1, "held-out responses"),
        ):
            start = history.start(prefix + metric, count)
            recent = history.median(prefix + metric, count)
            if start and recent is not None:
                falls.append(
                    (recent / start, f"{words} in {where} fell from {start:.2f} to {recent:.2f} of all")
                )
    if falls and (worst := min(falls))[0] <= limits.collapse_warning:
        return Observation("unhealthy" if worst[0] <= limits.collapse_unhealthy else "warning", worst[1])
    start = history.start("response/tokens_std", limits.window)
    recent = history.median("response/tokens_std", limits.window)
    if start and recent is not None and recent <= limits.collapse_spread * start:
        return Observation("warning", f"the spread of lengths fell from {start:.1f} to {recent:.1f} tokens")
    return None


def _shorter(history: History, limits: Limits) -> Observation | None:
    lengths, truncated = history.values("response/tokens_mean"), history.values("response/cap_hit")
    # The length of a truncated response is unknown: start where most responses end by themselves.
    first = next((i for i, share in enumerate(truncated) if share <= limits.truncated_warning), len(lengths))
    if len(lengths) < first + 2 * limits.window:
        return None
    start, recent = median(lengths[first : first + limits.window]), median(lengths[-limits.window :])
    if not start or recent / start > limits.shorter_warning:
        return None
    unhealthy = recent / start <= limits.shorter_unhealthy
    return Observation(
        "unhealthy" if unhealthy else "warning", f"responses shrank from {start:.0f} to {recent:.0f} tokens"
    )


def _empty(history: History, limits: Limits) -> Observation | None:
    share = history.mean("response/empty", limits.window)
    if share is None or share <= limits.empty_warning:
        return None
    unhealthy = share > limits.empty_unhealthy and history.step >= limits.empty_from
    return Observation("unhealthy" if unhealthy else "warning", f"{share:.1%} of the responses are empty")


def _truncated(history: History, limits: Limits) -> Observation | None:
    share = history.mean("response/cap_hit", limits.long_window)
    if share is None or history.step < limits.truncated_from or share <= limits.truncated_warning:
        return None
    start = fmean(history.values("response/cap_hit")[: limits.window])
    grew = share > limits.truncated_unhealthy and start < limits.truncated_warning
    return Observation(
        "unhealthy" if grew else "warning",
        f"{share:.0%} of the responses are truncated, {start:.0%} at the start",
    )


def _repetition(history: History, limits: Limits) -> Observation | None:
    shares = [history.mean("response/repetition", limits.window), history.median("eval/repetition", 1)]
    share = max((s for s in shares if s is not None), default=0.0)
    if share <= limits.repetition_warning:
        return None
    unhealthy = share > limits.repetition_unhealthy
    return Observation(
        "unhealthy" if unhealthy else "warning", f"{share:.0%} of a response's 4-grams repeat earlier ones"
    )


RESPONSE_RULES = (
    Rule(
        name="policy_collapse",
        kinds=("ppo",),
        metric="response/distinct_2",
        warning="distinct responses or distinct token bigrams ≤ {collapse_warning:g} × the start, or the spread of "
        "lengths ≤ {collapse_spread:g} × the start; medians of {window} updates, or single held-out evaluations",
        unhealthy="distinct responses or distinct token bigrams ≤ {collapse_unhealthy:g} × the start",
        cause="the policy gives the same response to every prompt: the KL is too loose or the steps too large",
        fix="raise kl_coef, lower training.lr, set entropy_coef, resume from an earlier checkpoint, "
        "check the reward model",
        observe=_collapse,
    ),
    Rule(
        name="length_collapse",
        kinds=("ppo",),
        metric="response/tokens_mean",
        warning="mean length ≤ {shorter_warning:g} × the first {window} updates in which at most half were truncated, "
        "median of {window} updates",
        unhealthy="the same ≤ {shorter_unhealthy:g} ×",
        cause="short responses are safe under the reward model or its penalties",
        fix="lower length_penalty and missing_eos_penalty, raise kl_coef, check the reward model on short responses",
        observe=_shorter,
    ),
    Rule(
        name="empty_responses",
        kinds=("ppo",),
        metric="response/empty",
        warning="empty responses > {empty_warning:.0%}, mean of {window} updates",
        unhealthy="empty responses > {empty_unhealthy:.0%}, mean of {window} updates, from update {empty_from}",
        cause="an empty response scores better than a real one",
        fix="check the reward model's score of an empty response; lower length_penalty; raise kl_coef",
        observe=_empty,
    ),
    Rule(
        name="truncated_responses",
        kinds=("ppo",),
        metric="response/cap_hit",
        warning="responses truncated at the limit > {truncated_warning:.0%}, mean of {long_window} updates, from "
        "update {truncated_from}",
        unhealthy="the same > {truncated_unhealthy:.0%}, and below {truncated_warning:.0%} in the first "
        "{window} updates",
        cause="the policy does not learn to end, or is rewarded for length",
        fix="raise max_gen_len or missing_eos_penalty; check length_bias",
        observe=_truncated,
    ),
    Rule(
        name="repetition",
        kinds=("ppo",),
        metric="response/repetition",
        warning="repeated token 4-grams > {repetition_warning:.0%} of a response, mean of {window} updates or held-out",
        unhealthy="the same > {repetition_unhealthy:.0%}",
        cause="the reward model does not penalise loops, or the policy has degenerated",
        fix="set repetition_penalty, raise kl_coef, add repetitive responses to the reward model's rejected side",
        observe=_repetition,
    ),
)
