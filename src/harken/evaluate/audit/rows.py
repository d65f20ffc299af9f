"""Audit every response of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from harken.config.audit import AuditSettings
from harken.evaluate.audit.duplicates import find_near_duplicates
from harken.evaluate.audit.evidence import evidence
from harken.evaluate.audit.function_words import ALL_FUNCTION_WORDS
from harken.evaluate.audit.keys import Key, ResponseRows, key_of
from harken.evaluate.audit.kinds import FLAG_MEANINGS
from harken.evaluate.audit.queues import queues, reward_limits
from harken.evaluate.audit.relevance import relevances
from harken.evaluate.audit.response import DEFAULT, audit_response, flags
from harken.evaluate.audit.words import words

SHORT_RESPONSE = 30
"""Words that count as the median length of the other policies where it is less: "Yes." is no yardstick."""
SAME_PROMPT = 0.8
"""Jaccard similarity of their words from which two prompts ask the same, so that like responses are no collapse."""


def audit(
    rows: ResponseRows, baseline: str, thresholds: AuditSettings = DEFAULT
) -> dict[Key, dict[str, Any]]:
    """Return every response's measures and, under "flags", its flags; "evidence" says why, flag by flag.

    Wins and losses are against `baseline`; a response whose prompt the baseline lacks has none. Thresholds in units of
    the reward are quantiles of `rows` unless `thresholds` sets them (`queues.reward_limits`).
    """
    limits = reward_limits(rows, baseline, thresholds)
    audited = {key_of(row): audit_response(row, thresholds) for row in rows}
    _add_relevance(rows, audited)
    _add_duplicates(rows, audited, thresholds)
    _add_length_ratio(rows, audited)
    for row in rows:
        found = audited[key_of(row)]
        found["flags"] = flags(row, found, thresholds, limits.mismatch_reward) + _flags_among_rows(
            found, thresholds
        )
    for name, keys in queues(rows, audited, baseline, thresholds, limits).items():
        for key in keys:
            if name not in audited[key]["flags"]:
                audited[key]["flags"].append(name)
    for row in rows:
        found = audited[key_of(row)]
        found["evidence"] = evidence(found)
    return audited


def responses_by_flag(audited: Mapping[Key, Mapping[str, Any]]) -> dict[str, list[Key]]:
    """List the responses with each flag of `FLAG_MEANINGS`, in the order of the rows."""
    return {flag: [key for key, found in audited.items() if flag in found["flags"]] for flag in FLAG_MEANINGS}


def _flags_among_rows(found: Mapping[str, Any], thresholds: AuditSettings) -> list[str]:
    relevance = found["relevance"]
    off_topic = (
        relevance.terms >= thresholds.relevance_terms
        and relevance.own <= thresholds.own_relevance
        and relevance.best_other - relevance.own >= thresholds.relevance_margin
    )
    overlong = found["length_ratio"] is not None and (
        found["length_ratio"] > thresholds.overlong_ratio and found["words"] >= thresholds.overlong_words
    )
    holds = {
        "off_topic": off_topic,
        "near_duplicate": found["near_duplicate_of"] is not None,
        "overlong": overlong,
    }
    return [name for name, held in holds.items() if held]


def _add_relevance(rows: ResponseRows, audited: Mapping[Key, dict[str, Any]]) -> None:
    """Add the relevance to the own prompt and to the best of the other prompts."""
    position: dict[str, int] = {}
    prompt_of = [position.setdefault(str(row["prompt"] or ""), len(position)) for row in rows]
    prompts = list(position)
    for row, found in zip(
        rows, relevances(prompts, [str(row["response"]) for row in rows], prompt_of), strict=True
    ):
        audited[key_of(row)]["relevance"] = found
        audited[key_of(row)]["fits_prompt"] = None if found.other is None else prompts[found.other]


def _add_duplicates(
    rows: ResponseRows, audited: Mapping[Key, dict[str, Any]], thresholds: AuditSettings
) -> None:
    """Add the key of a response to another prompt that is nearly the same text, within each policy."""
    for policy in dict.fromkeys(row["policy"] for row in rows):
        chosen = {key_of(row): row for row in rows if row["policy"] == policy}
        texts = {
            key: _without_topic(words(str(row["prompt"] or "")), words(str(row["response"])))
            for key, row in chosen.items()
        }
        texts = {key: spoken for key, spoken in texts.items() if len(spoken) >= thresholds.duplicate_words}
        groups = {key: " ".join(words(str(chosen[key]["prompt"] or ""))) or key[0] for key in texts}
        pairs = find_near_duplicates(texts, groups, thresholds.duplicate_similarity)
        for key in chosen:
            other = pairs.get(key)
            alike = other is not None and _ask_the_same(groups[key], groups[other])
            audited[key]["near_duplicate_of"] = None if alike else other


def _without_topic(prompt: list[str], response: list[str]) -> list[str]:
    """Leave out the content words of the prompt: a collapsed template differs in them alone."""
    topic = {word for word in prompt if len(word) > 1 and word not in ALL_FUNCTION_WORDS}
    return [word for word in response if word not in topic]


def _ask_the_same(left: str, right: str) -> bool:
    one, two = set(left.split()), set(right.split())
    return len(one & two) >= SAME_PROMPT * len(one | two)


def _add_length_ratio(rows: ResponseRows, audited: Mapping[Key, dict[str, Any]]) -> None:
    """Add words ÷ the median words of the other policies on the same prompt and sample; None without others."""
    lengths: dict[tuple[str, int], dict[str, int]] = {}
    for prompt, sample, policy in audited:
        lengths.setdefault((prompt, sample), {})[policy] = audited[prompt, sample, policy]["words"]
    for (prompt, sample, policy), found in audited.items():
        others = [n for other, n in lengths[prompt, sample].items() if other != policy]
        found["length_ratio"] = found["words"] / max(median(others), SHORT_RESPONSE) if others else None
