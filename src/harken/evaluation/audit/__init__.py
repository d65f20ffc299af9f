"""Measure defects of responses without a model, and list the responses that a person should read."""

from harken.evaluation.audit.description import describe, kind_rates
from harken.evaluation.audit.keys import Key, key_of
from harken.evaluation.audit.kinds import BROKEN, FLAG_MEANINGS, KINDS, QUEUES
from harken.evaluation.audit.queues import queues, reward_limits
from harken.evaluation.audit.response import (
    audit_response,
    flags,
    longest_copied_run,
    max_ngram_count,
    repetition,
)
from harken.evaluation.audit.rows import audit, responses_by_flag
from harken.evaluation.audit.words import words

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
