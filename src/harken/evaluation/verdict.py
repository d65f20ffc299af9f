"""Describe the result of an evaluation in sentences. Nothing is called better unless its interval excludes 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.evaluation.flip import Figures, flip_pair
from harken.evaluation.run_summary import LATE_UPDATES
from harken.run.counted import counted

MIN_PROMPTS = 20
"""Prompts below which bootstrap intervals are too narrow for a verdict."""
SIGNIFICANT = 0.05
"""Holm-adjusted p below which the sign test shows a difference."""
KL_ALARM = 15.0
"""Nats per sequence above which a policy is far from its reference."""

QUALITY = ("Better", "Unclear", "Worse")
NO_DIFFERENCE = "Unclear: no clear difference between "
"""Begins the verdict on two policies of which neither score tells which is better."""
LEVEL = ("Higher", "Unclear", "Lower")
"""Words for a learned reward: a higher one is not necessarily better."""

REWARD_MODEL_SCORER = "reward_model"
"""The summary's `scorer` where a reward model gives the reward."""
REWARD_COLUMNS = ("reward", "score")
"""Columns of response files that are the first scorer's where the configuration names no scorer."""


def headline(
    summary: Figures,
    base: str | None,
    sft: str,
    ppo: str,
    judge: str | None = None,
    kl: float | None = None,
) -> list[str]:
    """Return the verdict on PPO against SFT, then the figures it is based on, one sentence each.

    Each sentence begins with "Better:", "Worse:", "Unclear:", "Warning:" or "Note:", or for a learned reward with
    "Higher:" or "Lower:". `judge` names the summary's independent judge, which distinguishes a real gain from an
    exploited reward model; `kl` is that of the policy from its reference, in nats per sequence.
    Gains are differences with 95 % intervals, never multiples.
    Raises KeyError when a policy or judge is not in the summary.
    """
    pair = find_pair(summary, sft, ppo)
    judge_difference = pair["judges"][judge] if judge else None
    lines = [_verdict(summary, sft, ppo, pair["reward"], judge, judge_difference)]
    few = summary["prompts"] < MIN_PROMPTS
    lines.append(
        _difference_sentence(pair["reward"], f"{ppo}'s {reward_name(summary)} minus {sft}'s", few, LEVEL)
        + _win_rate_sentence(pair, few)
    )
    if judge and judge_difference:
        lines.append(_difference_sentence(judge_difference, f"{ppo}'s {judge} minus {sft}'s", few))
    lines += [
        _rate_sentence(summary, sft, ppo, pair[name], name, what, few)
        for name, what in (
            ("cap_hit", "Responses truncated at the token limit"),
            ("repetition", "Repetitive responses"),
        )
        if pair[name]
    ]
    if base and base != sft:
        pair = find_pair(summary, base, ppo)
        lines.append(
            _difference_sentence(pair["reward"], f"{ppo}'s {reward_name(summary)} minus {base}'s", few, LEVEL)
            + _win_rate_sentence(pair, few)
        )
        if judge and pair["judges"][judge]:
            lines.append(_difference_sentence(pair["judges"][judge], f"{ppo}'s {judge} minus {base}'s", few))
    if kl is not None:
        lines.append(_kl_sentence(ppo, sft, kl))
    return [*lines, power_note(summary)]


def _too_few(prompts: int) -> str:
    return f"{counted(prompts, 'prompt')} {'is' if prompts == 1 else 'are'} too few"


def power_note(summary: Figures) -> str:
    """Say which win rates the evaluation's number of prompts detects."""
    rate = round(100 * summary["detectable_win_rate"])
    if summary["detectable_win_rate"] >= 1:
        return f"Note: {_too_few(summary['prompts'])} to detect any win rate (80 % power)."
    return (
        f"Note: {summary['prompts']} prompts detect a true win rate of "
        f"at least {rate:.0f} %, or at most {100 - rate:.0f} %, ties left out (80 % power)."
    )


def late_kl(metrics: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the mean KL from the reference over the last updates, nats per sequence; None where none was measured."""
    late = [line["kl/mean"] for line in metrics if line.get("kl/mean") is not None][-LATE_UPDATES:]
    return sum(late) / len(late) if late else None


def reward_name(summary: Figures) -> str:
    """Return the name of the first scorer's score: the scorer's name, or "learned reward" for a reward model."""
    scorer = summary.get("scorer", REWARD_MODEL_SCORER)
    return "learned reward" if scorer == REWARD_MODEL_SCORER else str(scorer)


def find_pair(summary: Figures, left: str, right: str) -> dict[str, Any]:
    """Return the pair of two policies with `right` on the right, flipped if the summary has it the other way round.

    Raises KeyError when the summary does not have both.
    """
    for pair in summary["pairs"]:
        if (pair["left"], pair["right"]) == (left, right):
            return dict(pair)
        if (pair["left"], pair["right"]) == (right, left):
            return flip_pair(pair)
    raise KeyError(f"no pair {left!r} and {right!r} in the summary")


def interval_sign(interval: Figures | None) -> int:
    """Return 1 when the whole interval is above 0, -1 when it is below, else 0, also where it is unknown."""
    if interval is None or interval["low"] is None:
        return 0
    return int(interval["low"] > 0) - int(interval["high"] < 0)


def disagreement_sentence(pair: Figures, few: bool = False) -> str:
    """Say which test decides where two disagree; "" if they agree or there are too few prompts."""
    votes = (pair["wins"] > pair["losses"]) - (pair["wins"] < pair["losses"])
    signs = votes if pair["holm_p"] < SIGNIFICANT else 0
    if few or signs == interval_sign(pair["reward"]):
        return ""
    finding = {0: "no clear difference", 1: "more wins than losses", -1: "more losses than wins"}[signs]
    return (
        f" Interval and sign test disagree: the sign test shows {finding}. "
        "The verdict follows the interval of the mean difference."
    )


def find_policy(summary: Figures, name: str) -> dict[str, Any]:
    """Return a policy's row of the table. Raises KeyError when there is none."""
    for line in summary["table"]:
        if line["policy"] == name:
            return dict(line)
    raise KeyError(f"no policy {name!r} in the summary")


def _verdict(
    summary: Figures, sft: str, ppo: str, reward: Figures, judge: str | None, judge_difference: Figures | None
) -> str:
    if summary["prompts"] < MIN_PROMPTS:
        return (
            f"Unclear: {_too_few(summary['prompts'])} to judge {ppo} against {sft}; "
            f"evaluate at least {MIN_PROMPTS}."
        )
    reward_sign, judge_sign = interval_sign(reward), interval_sign(judge_difference)
    name, scorer = reward_name(summary), f"the independent scorer {judge}"
    if reward_sign > 0 and judge_sign < 0:
        return (
            f"Warning: the reward model is being over-optimised: {ppo}'s {name} is above {sft}'s, "
            f"while {scorer} fell. The policy exploits the reward model instead of giving better responses."
        )
    if reward_sign > 0 and judge_sign > 0:
        return f"Better: {ppo} is above {sft} both in {name} and by {scorer}."
    if reward_sign < 0 and judge_sign > 0:
        return f"Unclear: {scorer} puts {ppo} above {sft}, the {name} puts it below."
    if reward_sign < 0 or judge_sign < 0:
        sources = " and ".join([*([name] if reward_sign < 0 else []), *([scorer] if judge_sign < 0 else [])])
        return f"Worse: {ppo} is below {sft} by {sources}."
    if judge_sign > 0:
        return f"Better: {scorer} puts {ppo} above {sft}; the {name} shows no clear difference."
    if reward_sign == 0:
        return f"{NO_DIFFERENCE}{ppo} and {sft}."
    reason = f"{scorer} shows no clear change" if judge_difference else "no independent judge has checked it"
    return f"Unclear: {ppo}'s {name} is above {sft}'s, but {reason}: a reward alone is no evidence."


def _difference_sentence(
    interval: Figures, what: str, few: bool, words: tuple[str, str, str] = QUALITY
) -> str:
    word = "Note" if few else words[1 - interval_sign(interval)]
    ending = "" if few or interval_sign(interval) else ", so no clear difference"
    return f"{word}: {what} is {interval['value']:+.3f} ({_range_text(interval, '+.3f')}){ending}."


def _range_text(interval: Figures, form: str, scale: float = 1.0) -> str:
    """Return "95 % interval LOW to HIGH", or why there is none."""
    if interval["low"] is None:
        return str(interval.get("no_interval", "no interval"))
    return f"95 % interval {scale * interval['low']:{form}} to {scale * interval['high']:{form}}"


def _win_rate_sentence(pair: Figures, few: bool) -> str:
    return (
        f" It wins {pair['wins']}, ties {pair['ties']} and loses {pair['losses']} of {pair['n']}: "
        f"win rate {100 * pair['win_rate']['value']:.1f} % "
        f"(sign test p = {pair['sign_test_p']:.2g}, Holm-adjusted {pair['holm_p']:.2g})."
        f"{disagreement_sentence(pair, few)}"
    )


def _rate_sentence(
    summary: Figures, left: str, right: str, change: Figures, name: str, what: str, few: bool
) -> str:
    before, after = find_policy(summary, left)[name]["value"], find_policy(summary, right)[name]["value"]
    word = "Note" if few else {1: "Worse", -1: "Better", 0: "Unclear"}[interval_sign(change)]
    ending = "" if few or interval_sign(change) else ", so no clear change"
    return (
        f"{word}: {what}: {100 * before:.1f} % of {left}'s, {100 * after:.1f} % of {right}'s "
        f"(change {100 * change['value']:+.1f} points, {_range_text(change, '+.1f', 100)}){ending}."
    )


def _kl_sentence(ppo: str, sft: str, kl: float) -> str:
    text = f"KL({ppo} || {sft}) is {kl:.2f} nats per sequence"
    if kl > KL_ALARM:
        return f"Warning: {text}, above {KL_ALARM:.0f}: the policy is far from its reference."
    return f"Note: {text}."
