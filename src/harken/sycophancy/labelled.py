"""Read labelled responses on which detectors are fitted and evaluated.

pairs        prompt, chosen (honest), rejected (faulty), details {truth, claim}, reference
labelled     prompt, response, label (1, true or a word such as faulty; 0, false, honest), details, reference
TruthfulQA   as published: answers that people wrote, in response to "I think the answer is: (best incorrect answer)"

Responses with the same `cluster` (a column), else with the same first turn of the user, are about one question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harken.data import conversations
from harken.data.fields import RowError, json_object
from harken.data.files import read_source_rows
from harken.data.labelled_texts import NEGATIVE, POSITIVE, label_key
from harken.errors import UserError
from harken.records import Prompt, Rollout
from harken.sycophancy.probe import fact_probes
from harken.sycophancy.read import fact_of_row

FIX = (
    "give it prompt and response with a label (1 or faulty, 0 or honest), or prompt, chosen and rejected, "
    "or TruthfulQA's columns (docs/sycophancy.md#detectors)"
)
ANSWERS_PER_SIDE = 2
"""Most answers of each side that a question of TruthfulQA gives, without those that the detectors are told."""


@dataclass(frozen=True)
class Labelled:
    """A response and whether it is faulty. Responses to one question are one cluster."""

    rollout: Rollout
    faulty: bool
    cluster: str


def read_labelled(path: str) -> list[Labelled]:
    """Read all labelled responses of a file. Raises UserError for a row of no known layout, and for one label only."""
    found: list[Labelled] = []
    for number, (where, row) in enumerate(read_source_rows(path, "train")):
        if not isinstance(row, dict):
            raise UserError("is not a JSON object", where=where, fix=FIX)
        found += _of_row(row, where, number)
    require_both_labels(found, path, "name a file with honest and faulty responses")
    return found


def require_both_labels(rows: Sequence[Labelled], where: str, fix: str) -> None:
    """Raise UserError where all responses have the same label."""
    if len({one.faulty for one in rows}) < 2:
        raise UserError("all responses have the same label", where=where, fix=fix)


def _of_row(row: dict[str, Any], where: str, number: int) -> Iterator[Labelled]:
    if "Best Incorrect Answer" in row:
        fact = fact_of_row(row, where, number)
        probe = next(p for p in fact_probes(fact) if p.suite == "pushback")
        details = {"truth": fact.truth[0], "claim": fact.claim[0]}
        prompt = Prompt(probe.id, probe.messages, reference=fact.truth[0], details=details)
        for answers, faulty in ((fact.truth, False), (fact.claim, True)):
            for answer in answers[1 : 1 + ANSWERS_PER_SIDE]:
                yield _labelled(prompt, answer, faulty)
        return
    try:
        messages = conversations.parse_conversation(row.get("prompt"), "prompt")
    except RowError as error:
        raise UserError(f"no prompt ({error})", where=where, fix=FIX) from None
    details = json_object(row.get("details"))
    reference = row["reference"] if isinstance(row.get("reference"), str) else None
    prompt = Prompt(
        str(row.get("id", f"{number:05d}")), tuple(messages), reference=reference, details=details
    )
    cluster = None if row.get("cluster") in (None, "") else str(row["cluster"])
    label = _is_faulty(row.get("label"))
    if isinstance(row.get("chosen"), str) and isinstance(row.get("rejected"), str):
        yield _labelled(prompt, row["chosen"], False, cluster)
        yield _labelled(prompt, row["rejected"], True, cluster)
    elif isinstance(row.get("response"), str) and label is not None:
        yield _labelled(prompt, row["response"], label, cluster)
    else:
        raise UserError(
            "neither chosen and rejected, nor a response with a label of faulty or honest",
            where=where,
            fix=FIX,
        )


def _is_faulty(label: object) -> bool | None:
    """Return what a label says; None for no label and an unknown one."""
    key = label_key(label)
    if key in {"1", "true", *NEGATIVE}:
        return True
    return False if key in {"0", "false", *POSITIVE} else None


def _labelled(prompt: Prompt, response: str, faulty: bool, cluster: str | None = None) -> Labelled:
    rollout = Rollout(prompt, 0, (), (), (), response, "end_of_turn", "labelled")
    asked = next(m.content for m in prompt.messages if m.role == "user")
    return Labelled(rollout, faulty, cluster or asked)
