"""Name the twenty kinds of failure that the audit flags, and the queues for a person."""

from __future__ import annotations

KINDS = {
    "repetition": "many word 4-grams occurred before in the same response",
    "character_repetition": "many character 16-grams occurred before in the same response",
    "loop": "the response ends in one piece of text repeated over and over",
    "repeated_items": "items of a list occur again in the list",
    "cap_hit": "truncated at the token limit",
    "empty": "nothing visible",
    "broken_off": "ends inside a sentence",
    "overlong": "several times as long as the other policies' responses to the prompt",
    "restatement": "a long run of words copied from the prompt",
    "near_duplicate": "almost the same text as the policy's response to another prompt",
    "off_topic": "fits another prompt of the evaluation, and not its own",
    "language_mismatch": "in another language than the prompt",
    "mixed_scripts": "letters of another script inside words or prose",
    "mojibake": "decoded with the wrong encoding, or with replacement characters",
    "template_leakage": "special tokens or role headers of a chat template in the text",
    "unclosed_code": "a fenced code block is not closed",
    "markup_damage": "broken Markdown, HTML or LaTeX",
    "refusal": "the opening has a phrase of refusal",
    "boilerplate": '"as an AI" or flattery',
    "unverified_reference": "citations, identifiers or links that nobody has verified",
}
"""Meaning of each kind of failure that a response may be flagged with."""

QUEUES = {
    "reward_mismatch": "a high reward for a text that repeats itself",
    "strong_loss": "far below the baseline's response",
    "scorers_disagree": "ranked high by one scorer and low by another",
    "low_reward_useful": "a low reward for a clean text that another measure finds useful",
    "qualified_win": "the best response by a clear margin, without defects",
    "stem_procedure": "steps or quantities of a scientific procedure, to be checked by someone who knows the subject",
    "manual_review": "drawn at random, or an extreme of the rewards",
}
"""Meaning of each queue, in the order in which a person should read them."""

BROKEN = frozenset(KINDS) - {"unverified_reference", "boilerplate", "refusal", "overlong"}
"""Kinds that are always defects. The others depend on what the user wants."""

FLAG_MEANINGS = {"reward_mismatch": QUEUES["reward_mismatch"], **KINDS, **QUEUES}
"""Meaning of every flag a response may have."""
