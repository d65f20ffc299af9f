"""Measure defects of responses without a model, and list the responses that a person should read."""

from harken.evaluate.audit.description import describe, kind_rates
from harken.evaluate.audit.keys import Key, key_of
from harken.evaluate.audit.kinds import BROKEN, FLAG_MEANINGS, KINDS, QUEUES
from harken.evaluate.audit.queues import queues, reward_limits
from harken.evaluate.audit.response import (
    audit_response,
    flags,
    longest_copied_run,
    max_ngram_count,
    repetition,
)
from harken.evaluate.audit.rows import audit, responses_by_flag
from harken.evaluate.audit.words import words

__all__ = [
    "BROKEN",
    "FLAG_MEANINGS",
    "KINDS",
    "QUEUES",
    "Key",
    "audit",
    "audit_response",
    "describe",
    "flags",
    "key_of",
    "kind_rates",
    "longest_copied_run",
    "max_ngram_count",
    "queues",
    "repetition",
    "responses_by_flag",
    "reward_limits",
    "words",
]
