"""Measure defects of responses without a model, and list the responses that a person should read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

from harken.maths.repetition import repeated_ngram_fraction

# Thai, Lao, Myanmar, Khmer, kana and Han put no spaces between words. Korean does.
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[\w'])+")

Key = tuple[str, int, str]
"""Identify a response by (prompt_id, sample, policy)."""

FLAG_MEANINGS = {
    "reward_mismatch": "a high reward for a text that repeats itself",
    "repetition": "many word 4-grams occurred before in the same response",
    "loop": "the response ends in one piece of text repeated over and over",
    "restatement": "a long run of words copied from the prompt",
    "cap_hit": "truncated at the token limit",
    "empty": "only whitespace",
    "qualified_win": "the best response by a clear margin, without defects",
    "strong_loss": "far below the baseline's response",
}
"""Meaning of every flag a response may have."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Hold the thresholds of the flags. The defaults are those of the published Qwen2.5-0.5B audit.

    `mismatch_reward`, `win_*_margin` and `loss_margin` are in units of that run's reward model: another
    reward model has another scale, so set them from its own spread.
    """

    repetition: float = 0.25
    """Share of repeated word 4-grams above which a response is repetitive."""
    same_4gram: int = 5
    """Occurrences of one word 4-gram from which a high reward is a mismatch."""
    mismatch_reward: float = 2.0
    """Reward above which a repetitive response is a mismatch."""
    win_baseline_margin: float = 2.0
    """A qualified win beats the baseline by more than this …"""
    win_other_margin: float = 1.0
    """… and every other policy by more than this …"""
    win_repetition: float = 0.15
    """… with fewer repeated 4-grams than this."""
    loss_margin: float = 5.0
    """A strong loss is further than this below the baseline."""
    restatement: float = 0.5
    """Share of the response that is one run copied from the prompt, above which it restates."""
    restated_words: int = 8
    """A shorter run is no restatement, however short the response."""


DEFAULT = Thresholds()


@dataclass(frozen=True, slots=True)
class TrailingRepetition:
    """Describe a repetition at the end of a text: `unit` repeated `times` times, `length` characters in all."""

    unit: str
    times: int
    length: int


def words(text: str) -> list[str]:
    """Split a text into lower-case words, ``[\\w']+``; in scripts without spaces every character is a word."""
    return _WORD.findall(text.lower())


def repetition(text: str) -> float:
    """Compute the share of word 4-grams that occurred before in the text: 1 - unique / all."""
    return repeated_ngram_fraction(words(text), 4)


def max_ngram_count(text: str, n: int = 4) -> int:
    """Count the most frequent word n-gram; 0 when the text is shorter than n words."""
    items = words(text)
    grams = Counter(tuple(items[i : i + n]) for i in range(len(items) - n + 1))
    return max(grams.values(), default=0)


def find_trailing_repetition(text: str, times: int = 3, length: int = 30) -> TrailingRepetition | None:
    """Find the longest loop that the text ends in, of at least `times` repetitions and `length` characters.

    It finds what word 4-grams miss: one word or one character repeated. A loop may end inside its unit; the unit is
    then rotated to end where the text ends. Trailing whitespace is ignored. O(len(text)).
    Method: the failure function of Knuth, Morris and Pratt on the reversed text; a prefix of length L
    has the smallest period L - failure(L).
    """
    reverse = text.rstrip()[::-1]
    failure = [0] * (len(reverse) + 1)
    best = (0, 0)
    match = 0
    for i in range(1, len(reverse)):
        while match and reverse[i] != reverse[match]:
            match = failure[match]
        if reverse[i] == reverse[match]:
            match += 1
        failure[i + 1] = match
        period = i + 1 - match
        covered = (i + 1) // period * period
        if covered >= max(times * period, length) and covered > best[0]:
            best = (covered, period)
    covered, period = best
    return TrailingRepetition(reverse[:period][::-1], covered // period, covered) if covered else None


def longest_copied_run(prompt: str, response: str) -> int:
    """Count the words of the longest run that occurs in both."""
    ours, theirs = words(prompt), words(response)
    return SequenceMatcher(None, ours, theirs, autojunk=False).find_longest_match().size


def audit_response(row: Mapping[str, Any]) -> dict[str, Any]:
    """Compute every measure of one row of `responses.parquet`.

    `cap_hit` is the sampler's stop reason (stop == "length"), not inferred from the length.
    `copied_words` counts the longest run of words copied from the prompt; `restatement` is that ÷ the response's words.
    """
    text = str(row["response"])
    count, run = len(words(text)), longest_copied_run(str(row["prompt"]), text)
    return {
        "repeated_4grams": repetition(text),
        "most_repeated": max_ngram_count(text),
        "loop": find_trailing_repetition(text),
        "restatement": run / count if count else 0.0,
        "copied_words": run,
        "empty": not text.strip(),
        "cap_hit": row["stop"] == "length",
    }


def flags(row: Mapping[str, Any], measured: Mapping[str, Any], thresholds: Thresholds = DEFAULT) -> list[str]:
    """Return the flags of a response that do not depend on other policies."""
    repetitive = measured["repeated_4grams"] > thresholds.repetition
    looping = measured["most_repeated"] >= thresholds.same_4gram
    copied = (
        measured["restatement"] > thresholds.restatement
        and measured["copied_words"] >= thresholds.restated_words
    )
    found = {
        "reward_mismatch": row["reward"] > thresholds.mismatch_reward and (repetitive or looping),
        "repetition": repetitive,
        "loop": measured["loop"] is not None,
        "restatement": copied,
        "cap_hit": measured["cap_hit"],
        "empty": measured["empty"],
    }
    return [name for name, holds in found.items() if holds]


def audit(
    rows: Sequence[Mapping[str, Any]], baseline: str, thresholds: Thresholds = DEFAULT
) -> dict[Key, dict[str, Any]]:
    """Return every response's measures and, under "flags", its flags; wins and losses are against `baseline`.

    Raises KeyError when the baseline has no response to a prompt that another policy has.
    """
    rewards: dict[tuple[str, int], dict[str, float]] = {}
    for row in rows:
        rewards.setdefault((row["prompt_id"], row["sample"]), {})[row["policy"]] = row["reward"]
    audited: dict[Key, dict[str, Any]] = {}
    for row in rows:
        found = audit_response(row)
        found["flags"] = flags(row, found, thresholds)
        if row["policy"] != baseline:
            others = rewards[row["prompt_id"], row["sample"]]
            margins = {p: row["reward"] - r for p, r in others.items() if p != row["policy"]}
            found["flags"] += _baseline_flags(margins, baseline, found, thresholds)
        audited[row["prompt_id"], row["sample"], row["policy"]] = found
    return audited


def responses_by_flag(audited: Mapping[Key, Mapping[str, Any]]) -> dict[str, list[Key]]:
    """List the responses with each flag of `FLAG_MEANINGS`, in the order of the rows."""
    return {flag: [key for key, found in audited.items() if flag in found["flags"]] for flag in FLAG_MEANINGS}


def _baseline_flags(
    margins: Mapping[str, float], baseline: str, measured: Mapping[str, Any], thresholds: Thresholds
) -> list[str]:
    clean = not measured["cap_hit"] and measured["repeated_4grams"] < thresholds.win_repetition
    wins = all(
        margin > (thresholds.win_baseline_margin if policy == baseline else thresholds.win_other_margin)
        for policy, margin in margins.items()
    )
    found = {"qualified_win": wins and clean, "strong_loss": margins[baseline] < -thresholds.loss_margin}
    return [name for name, holds in found.items() if holds]
