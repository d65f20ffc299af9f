"""Define the thresholds of the audit of responses."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from harken.config.base import Count, Fraction, NonNegative, Positive, PositiveInt, Seed, Signed, Strict

Repeats = Annotated[int, Field(ge=2, le=10**6)]


class AuditSettings(Strict):
    """Thresholds of the audit. Shares are of one response; `docs/audit.md` says how each measure is defined."""

    repetition: Fraction = 0.25
    """Share of repeated word 4-grams above which a response is repetitive."""
    same_4gram: Repeats = 5
    """Occurrences of one word 4-gram from which a high reward is a mismatch."""
    character_repetition: Fraction = 0.3
    """Share of repeated character 16-grams above which a response repeats characters."""
    loop_times: Repeats = 3
    """Repetitions of one piece of text at the end that count as a loop …"""
    loop_characters: PositiveInt = 30
    """… and the characters that they cover at least."""
    restatement: Fraction = 0.5
    """Share of the response that is one run copied from the prompt, above which it restates."""
    restated_words: PositiveInt = 8
    """A shorter run is not a restatement, however short the response."""
    repeated_items: Fraction = 0.25
    """Share of list items that occurred before in the list, above which the items repeat."""
    duplicate_similarity: Positive = 0.8
    """Jaccard similarity of word 5-grams from which two responses of one policy are near-duplicates."""
    duplicate_words: PositiveInt = 20
    """Shorter responses are never near-duplicates: "Yes." may be right for many prompts."""
    language_words: PositiveInt = 8
    """Number of function words of a language that a text needs for its language to be identified."""
    language_margin: Fraction = 0.3
    """Lead over the next language, as a share of the best score, below which no language is identified."""
    stray_letters: PositiveInt = 2
    """Letters of a script that neither the prompt nor the text's language has, from which scripts are mixed."""
    opening_characters: PositiveInt = 200
    """Number of first characters that are searched for refusals and flattery."""
    overlong_ratio: Positive = 3.0
    """Words of a response ÷ median words of the other policies' on the same prompt, above which it is overlong …"""
    overlong_words: PositiveInt = 150
    """… if it has at least this many words."""
    own_relevance: Fraction = 0.08
    """Relevance to the own prompt (a cosine of content words) at or below which a response may be off topic …"""
    relevance_margin: Fraction = 0.15
    """… if its relevance to another prompt of the evaluation is higher by at least this …"""
    relevance_margin_alone: Fraction = 0.25
    """… or by this where its prompt has no other response to compare with …"""
    relevance_terms: PositiveInt = 8
    """… and it has at least this many content words, each counted once."""
    reward_thresholds: Literal["own", "published"] = "own"
    """Thresholds in units of the reward that are not set below: quantiles of the evaluation's own rewards, or
    the published audit's values (2.0, 2.0, 1.0 and 5.0), which fit its reward model's scale."""
    mismatch_reward: Signed | None = None
    """Reward above which a repetitive response is a mismatch. Default: `high_reward_quantile`."""
    win_baseline_margin: NonNegative | None = None
    """A qualified win beats the baseline by more than this. Default: `win_quantile` of |reward − baseline's|."""
    win_other_margin: NonNegative | None = None
    """A qualified win beats every other policy by more than this. Default: `other_quantile`."""
    loss_margin: NonNegative | None = None
    """A strong loss is further than this below the baseline. Default: `loss_quantile`."""
    high_reward_quantile: Fraction = 0.9
    """Quantile of all rewards above which a reward is high."""
    low_reward_quantile: Fraction = 0.25
    """Quantile of all rewards below which a reward is low."""
    win_quantile: Fraction = 0.75
    """Quantile of |reward − baseline's| that a qualified win exceeds against the baseline."""
    other_quantile: Fraction = 0.5
    """Quantile of |reward − baseline's| that a qualified win exceeds against the other policies."""
    loss_quantile: Fraction = 0.95
    """Quantile of |reward − baseline's| that a strong loss exceeds."""
    win_repetition: Fraction = 0.15
    """A qualified win has a smaller share of repeated word 4-grams than this."""
    disagreement: Fraction = 0.6
    """Difference of a response's percentile ranks by two scorers from which they disagree."""
    review_rows: Count = 20
    """Responses drawn at random for a person, besides the extremes."""
    review_seed: Seed = 839
    """Seed of that draw."""


PUBLISHED = AuditSettings(reward_thresholds="published")
"""The thresholds of the published Qwen2.5-0.5B audit."""
