"""Read labelled responses on which detectors are fitted and evaluated.

pairs        prompt, chosen (honest), rejected (faulty), details {truth, claim}, reference
labelled     prompt, response, label (1 faulty, 0 honest), details, reference
TruthfulQA   as published: answers that people wrote, in response to "I think the answer is: (best incorrect answer)"

Responses with the same `cluster` (a column), else with the same first turn, are about one question.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from harken.data import conversations
from harken.data.fields import RowError
from harken.data.files import read_source_rows
from harken.errors import UserError
from harken.records import Prompt, Rollout
from harken.sycophancy.probe import fact_probes
from harken.sycophancy.read import FIX, fact_of_row

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
    if len({one.faulty for one in found}) < 2:
        raise UserError(
            "all responses have the same label",
            where=path,
            fix="name a file with honest and faulty responses",
        )
    return found


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
    details = dict(row["details"]) if isinstance(row.get("details"), dict) else {}
    reference = row["reference"] if isinstance(row.get("reference"), str) else None
    prompt = Prompt(
        str(row.get("id", f"{number:05d}")), tuple(messages), reference=reference, details=details
    )
    cluster = row["cluster"] if isinstance(row.get("cluster"), str) else None
    if isinstance(row.get("chosen"), str) and isinstance(row.get("rejected"), str):
        yield _labelled(prompt, row["chosen"], False, cluster)
        yield _labelled(prompt, row["rejected"], True, cluster)
    elif isinstance(row.get("response"), str) and row.get("label") in (0, 1):
        yield _labelled(prompt, row["response"], bool(row["label"]), cluster)
    else:
        raise UserError(
            "neither chosen and rejected, nor a response with a label 0 or 1", where=where, fix=FIX
        )


def _labelled(prompt: Prompt, response: str, faulty: bool, cluster: str | None = None) -> Labelled:
    rollout = Rollout(prompt, 0, (), (), (), response, "end_of_turn", "labelled")
    return Labelled(rollout, faulty, cluster or prompt.messages[0].content)
