"""Measure one response, and set the flags that depend on its text alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harken.config.audit import AuditSettings
from harken.evaluation.audit.encoding import find_mojibake
from harken.evaluation.audit.language import detect_language, find_language_mismatch, names_a_language
from harken.evaluation.audit.markup import find_markup_damage
from harken.evaluation.audit.phrases import find_boilerplate, find_refusal
from harken.evaluation.audit.references import find_references
from harken.evaluation.audit.repeated_items import repeated_item_fraction
from harken.evaluation.audit.scripts import (
    count_letters,
    dominant_script,
    find_homoglyphs,
    find_stray_letters,
)
from harken.evaluation.audit.sentence_end import find_broken_off
from harken.evaluation.audit.template_leakage import find_template_leakage
from harken.evaluation.audit.words import ResponseText, words
from harken.maths.repetition import (
    TrailingRepetition,
    find_trailing_repetition,
    longest_common_run,
    most_frequent_ngram_count,
    repeated_ngram_fraction,
)

DEFAULT = AuditSettings()
CHARACTER_NGRAM = 16
"""Characters of an n-gram that rarely occurs twice in a natural text."""
RULE_LENGTH = 100
"""Characters of the longest line of dashes that is a horizontal rule."""
_INVISIBLE = dict.fromkeys(
    [*range(32), 0x7F, 0xAD, *range(0x200B, 0x2010), 0x2060, 0x2800, 0x3164, 0xFEFF], " "
)


def repetition(text: str) -> float:
    """Compute the share of word 4-grams that occurred before in the text: 1 - unique / all."""
    return repeated_ngram_fraction(words(text), 4)


def character_repetition(text: str) -> float:
    """Compute the share of character 16-grams that occurred before in the text without its whitespace.

    Finds repetition inside words and of punctuation, in any script. 0 for a text of fewer than 64 such characters.
    """
    dense = "".join(text.split())
    return repeated_ngram_fraction(dense, CHARACTER_NGRAM) if len(dense) >= 4 * CHARACTER_NGRAM else 0.0


def max_ngram_count(text: str, n: int = 4) -> int:
    """Count the most frequent word n-gram; 0 when the text is shorter than n words."""
    return most_frequent_ngram_count(words(text), n)


def longest_copied_run(prompt: str, response: str) -> int:
    """Count the words of the longest run that occurs in both."""
    return longest_common_run(words(prompt), words(response))


def is_empty(text: str) -> bool:
    """Return whether a text is invisible: it consists of whitespace, control and zero-width characters."""
    return not text.translate(_INVISIBLE).strip()


def audit_response(
    row: Mapping[str, Any], thresholds: AuditSettings = DEFAULT, text: ResponseText | None = None
) -> dict[str, Any]:
    """Compute every measure of one row of `responses.parquet`.

    `cap_hit` is the sampler's stop reason (stop == "length"), not inferred from the length.
    `copied_words` counts the longest run of words copied from the prompt; `restatement` is that ÷ the response's words.
    Measures that find a passage contain its text, or None. `text` is the row's text if it was already read.
    """
    text = text or ResponseText.from_row(row)
    response, response_words = text.response, text.words
    run = longest_common_run(text.prompt_words, response_words)
    language = detect_language(text.prose, thresholds.language_words, thresholds.language_margin)
    truncated = row["stop"] == "length"
    loop = find_trailing_repetition(response, thresholds.loop_times, thresholds.loop_characters)
    loop = None if loop and _is_rule(loop) else loop
    leakage = find_template_leakage(text)
    empty = is_empty(response)
    mismatch = find_language_mismatch(text, row.get("language"), language)
    return {
        "words": len(response_words),
        "repeated_4grams": repeated_ngram_fraction(response_words, 4),
        "most_repeated": most_frequent_ngram_count(response_words, 4),
        "repeated_characters": character_repetition(text.outside_code),
        "repeated_items": repeated_item_fraction(text.outside_code),
        "loop": loop,
        "restatement": run / len(response_words) if response_words else 0.0,
        "copied_words": run,
        "empty": empty,
        "cap_hit": truncated,
        "broken_off": None if loop or leakage else find_broken_off(text, language, truncated),
        "language": language,
        "language_mismatch": f"{mismatch[1]}, not {mismatch[0]}" if mismatch else None,
        "mixed_scripts": None if mismatch else _mixed_scripts(text, thresholds.stray_letters),
        "mojibake": None if empty else find_mojibake(text.prose, text.context),
        "template_leakage": leakage,
        "unclosed_code": text.fences.unclosed,
        "markup_damage": find_markup_damage(text),
        "refusal": find_refusal(response, thresholds.opening_characters),
        "boilerplate": find_boilerplate(text.prose, text.context, thresholds.opening_characters),
        "references": find_references(text),
    }


def flags(
    row: Mapping[str, Any],
    measured: Mapping[str, Any],
    thresholds: AuditSettings = DEFAULT,
    mismatch_reward: float | None = None,
) -> list[str]:
    """Return the flags of a response that do not depend on other responses.

    `mismatch_reward` is the reward above which a repetitive response is a mismatch; None: no response is.
    """
    repetitive = measured["repeated_4grams"] > thresholds.repetition
    looping = measured["most_repeated"] >= thresholds.same_4gram
    copied = (
        measured["restatement"] > thresholds.restatement
        and measured["copied_words"] >= thresholds.restated_words
    )
    high = None not in (mismatch_reward, row["reward"]) and row["reward"] > mismatch_reward
    has_flag = {
        "reward_mismatch": high and (repetitive or looping),
        "repetition": repetitive,
        "character_repetition": measured["repeated_characters"] > thresholds.character_repetition,
        "loop": measured["loop"] is not None,
        "repeated_items": measured["repeated_items"] > thresholds.repeated_items,
        "cap_hit": measured["cap_hit"],
        "empty": measured["empty"],
        "restatement": copied,
        "unverified_reference": bool(measured["references"]),
        **{name: measured[name] is not None for name in _PLACES},
    }
    return [name for name, holds in has_flag.items() if holds]


_PLACES = (
    "broken_off",
    "language_mismatch",
    "mixed_scripts",
    "mojibake",
    "template_leakage",
    "unclosed_code",
    "markup_damage",
    "refusal",
    "boilerplate",
)


def _is_rule(loop: TrailingRepetition) -> bool:
    """Return whether a loop is a horizontal rule of at most one line."""
    return loop.length <= RULE_LENGTH and not loop.unit.strip("-=_*~#")


def _mixed_scripts(text: ResponseText, stray_letters: int) -> str | None:
    """Return the first word of two scripts, or the first letters of a script that is foreign to prompt and text."""
    prose = text.prose
    if prose.isascii():
        return None
    mixed = [word for word in find_homoglyphs(prose) if word not in text.context]
    if mixed:
        return None if names_a_language(text.context) else mixed[0]
    scripts = set(count_letters(text.context))
    stray = find_stray_letters(prose, scripts, dominant_script(count_letters(prose)))
    has_enough_letters = sum(map(len, stray)) >= stray_letters
    return stray[0] if has_enough_letters and not names_a_language(text.context) else None
