"""Audit every response of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from harken.config.audit import AuditSettings
from harken.evaluation.audit.duplicates import find_near_duplicates
from harken.evaluation.audit.evidence import evidence
from harken.evaluation.audit.function_words import ALL_FUNCTION_WORDS
from harken.evaluation.audit.keys import Key, ResponseRows, key_of
from harken.evaluation.audit.kinds import FLAG_MEANINGS
from harken.evaluation.audit.queues import queues, reward_limits
from harken.evaluation.audit.relevance import relevances
from harken.evaluation.audit.response import DEFAULT, audit_response, flags
from harken.evaluation.audit.words import ResponseText

SHORT_RESPONSE = 30
"""Minimum for the median length of the other policies, in words: compared with "Yes." any response is overlong."""
SAME_PROMPT = 0.8
"""Jaccard similarity of words from which two prompts ask the same, so similar responses are not a collapse."""


def audit(
    rows: ResponseRows, baseline: str, thresholds: AuditSettings = DEFAULT
) -> dict[Key, dict[str, Any]]:
    """Return every response's measures and, under "flags", its flags; "evidence" says why, flag by flag.

    Wins and losses are against `baseline`; a response to a prompt that the baseline lacks has neither. Thresholds in
    units of the reward are quantiles of `rows` unless `thresholds` sets them (`queues.reward_limits`).
    """
    limits = reward_limits(rows, baseline, thresholds)
    texts = {key_of(row): ResponseText.from_row(row) for row in rows}
    audited = {key_of(row): audit_response(row, thresholds, texts[key_of(row)]) for row in rows}
    _add_relevance(texts, audited)
    _add_duplicates(texts, audited, thresholds)
    _add_length_ratio(rows, audited)
    for row in rows:
        measures = audited[key_of(row)]
        measures["flags"] = flags(row, measures, thresholds, limits.mismatch_reward) + _flags_among_rows(
            measures, thresholds
        )
    for name, keys in queues(rows, audited, baseline, thresholds, limits).items():
        for key in keys:
            if name not in audited[key]["flags"]:
                audited[key]["flags"].append(name)
    for row in rows:
        measures = audited[key_of(row)]
        measures["evidence"] = evidence(measures)
    return audited


def responses_by_flag(audited: Mapping[Key, Mapping[str, Any]]) -> dict[str, list[Key]]:
    """List the responses with each flag of `FLAG_MEANINGS`, in the order of the rows."""
    return {
        flag: [key for key, measures in audited.items() if flag in measures["flags"]]
        for flag in FLAG_MEANINGS
    }


def _flags_among_rows(measures: Mapping[str, Any], thresholds: AuditSettings) -> list[str]:
    relevance = measures["relevance"]
    margin = thresholds.relevance_margin if relevance.peers else thresholds.relevance_margin_alone
    off_topic = (
        relevance.terms >= thresholds.relevance_terms
        and relevance.own <= thresholds.own_relevance
        and relevance.best_other - relevance.own >= margin
    )
    overlong = measures["length_ratio"] is not None and (
        measures["length_ratio"] > thresholds.overlong_ratio
        and measures["words"] >= thresholds.overlong_words
    )
    has_flag = {
        "off_topic": off_topic,
        "near_duplicate": measures["near_duplicate_of"] is not None,
        "overlong": overlong,
    }
    return [name for name, is_set in has_flag.items() if is_set]


def _add_relevance(texts: Mapping[Key, ResponseText], audited: Mapping[Key, dict[str, Any]]) -> None:
    """Add the relevance to the response's own conversation and to the best of the other conversations."""
    position: dict[str, int] = {}
    prompt_of = [position.setdefault(text.context, len(position)) for text in texts.values()]
    last = dict(zip(prompt_of, (text.prompt for text in texts.values()), strict=True))
    responses = [text.response for text in texts.values()]
    for key, relevance in zip(texts, relevances(list(position), responses, prompt_of), strict=True):
        audited[key]["relevance"] = relevance
        audited[key]["fits_prompt"] = None if relevance.other is None else last[relevance.other]


def _add_duplicates(
    texts: Mapping[Key, ResponseText], audited: Mapping[Key, dict[str, Any]], thresholds: AuditSettings
) -> None:
    """Add the key of a response to another prompt that is nearly the same text, within each policy."""
    for policy in dict.fromkeys(key[2] for key in texts):
        chosen = {key: text for key, text in texts.items() if key[2] == policy}
        own_words = {key: _without_topic(text) for key, text in chosen.items()}
        own_words = {
            key: words_found
            for key, words_found in own_words.items()
            if len(words_found) >= thresholds.duplicate_words
        }
        groups = {key: " ".join(chosen[key].prompt_words) or key[0] for key in own_words}
        pairs = find_near_duplicates(own_words, groups, thresholds.duplicate_similarity)
        for key in chosen:
            duplicate = pairs.get(key)
            same_question = duplicate is not None and _ask_the_same(groups[key], groups[duplicate])
            audited[key]["near_duplicate_of"] = None if same_question else duplicate


def _without_topic(text: ResponseText) -> list[str]:
    """Return the response's words without content words of the prompt: a collapsed template differs only in them."""
    topic_words = {word for word in text.prompt_words if len(word) > 1 and word not in ALL_FUNCTION_WORDS}
    return [word for word in text.words if word not in topic_words]


def _ask_the_same(left: str, right: str) -> bool:
    left_words, right_words = set(left.split()), set(right.split())
    return len(left_words & right_words) >= SAME_PROMPT * len(left_words | right_words)


def _add_length_ratio(rows: ResponseRows, audited: Mapping[Key, dict[str, Any]]) -> None:
    """Add words ÷ the median words of the other policies on the same prompt and sample; None without others."""
    lengths: dict[tuple[str, int], dict[str, int]] = {}
    for prompt, sample, policy in audited:
        lengths.setdefault((prompt, sample), {})[policy] = audited[prompt, sample, policy]["words"]
    for (prompt, sample, policy), measures in audited.items():
        others = [n for other, n in lengths[prompt, sample].items() if other != policy]
        measures["length_ratio"] = measures["words"] / max(median(others), SHORT_RESPONSE) if others else None
