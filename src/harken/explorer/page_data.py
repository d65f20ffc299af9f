"""Build the page's data: one JSON value with the format of `schema.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.explorer.page_examples import Rows, example_data, first_example
from harken.explorer.page_headline import headline_data
from harken.explorer.page_inputs import PageInputs
from harken.explorer.page_training import stage_data
from harken.run.manifest import redact, redact_text
from harken.run.terminal import escape_invisible

VERSION = 3
WORDS = ("Better", "Worse", "Unclear", "Warning", "Higher", "Lower", "Note")
"""Labels that may open a sentence of the verdict. Any other sentence is a note."""
NO_TOKENS: Mapping[str, Any] = {"shards": False, "rule": "", "steps": []}


def page_data(inputs: PageInputs) -> dict[str, Any]:
    """Build the page's data, as `schema.json` describes them. Probable secrets are redacted."""
    summary, responses = inputs.summary, inputs.responses
    policies = (
        list(summary["policies"]) if summary else list(dict.fromkeys(row["policy"] for row in responses))
    )
    judges = list(summary["judges"]) if summary else _score_columns(responses)
    verdict = [_sentence(line, policies) for line in inputs.headline]
    queues = dict(inputs.queues)
    epsilon = float(summary["tie_epsilon"]) if summary else 0.0
    examples = example_data(responses, policies, judges, inputs.audited, list(queues), epsilon)
    stages = [
        stage_data(name, inputs.stage_metrics.get(name, []), inputs.stage_info.get(name, {}))
        for name in dict.fromkeys([*inputs.stage_info, *inputs.stage_metrics])
    ]
    return {
        "version": VERSION,
        "title": redact_text(escape_invisible(inputs.title)),
        "notice": redact_text(escape_invisible(inputs.notice)),
        "made": redact(dict(inputs.made)),
        "headline": headline_data(verdict, inputs.numbers, stages, first_example(examples)),
        "verdict": verdict,
        "summary": None if summary is None else dict(summary),
        "policies": policies,
        "reward": inputs.reward or _reward_name(summary, responses),
        "judges": judges,
        "flags": dict(inputs.flags),
        "queues": queues,
        "sections": redact([dict(section) for section in inputs.sections]),
        "examples": examples,
        "parts": [],
        "stages": stages,
        "trials": redact(None if inputs.trials is None else dict(inputs.trials)),
        "overlays": [dict(overlay) for overlay in inputs.overlays],
        "tokens": dict(NO_TOKENS if inputs.tokens is None else inputs.tokens),
        "checkpoints": [dict(checkpoint) for checkpoint in inputs.checkpoints],
    }


def _sentence(line: str, policies: Sequence[str] = ()) -> dict[str, str]:
    word, colon, remainder = line.partition(": ")
    if colon and word in WORDS:
        named = any(
            remainder.startswith(policy) for policy in policies
        )  # do not change the case of a policy's name
        return {"word": word, "text": remainder if named else remainder[:1].upper() + remainder[1:]}
    return {"word": "Note", "text": line}


def _score_columns(responses: Rows) -> list[str]:
    names = dict.fromkeys(name for row in responses for name, value in row.items() if value is not None)
    return [name.removeprefix("score_") for name in names if name.startswith("score_")]


def _reward_name(summary: Mapping[str, Any] | None, responses: Rows) -> str | None:
    """Return the name of the reward; None if no response has one."""
    if all(row["reward"] is None for row in responses):
        return None
    scorer = "reward" if summary is None else str(summary.get("scorer", "reward_model"))
    return "learned reward" if scorer == "reward_model" else scorer
