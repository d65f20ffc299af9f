"""Build the page's data: one JSON value with the format of `schema.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.explorer.page_examples import Audited, Rows, example_data, first_example
from harken.explorer.page_headline import headline_data
from harken.explorer.page_training import stage_data
from harken.run.manifest import redact

VERSION = 3
WORDS = ("Better", "Worse", "Unclear", "Warning", "Higher", "Lower", "Note")
"""Labels that may open a sentence of the verdict. Any other sentence is a note."""
NO_TOKENS: Mapping[str, Any] = {"shards": False, "rule": "", "steps": []}


def page_data(
    *,
    title: str,
    notice: str,
    summary: Mapping[str, Any] | None,
    responses: Rows,
    stage_metrics: Mapping[str, Rows],
    stage_info: Mapping[str, Mapping[str, Any]],
    headline: Sequence[str],
    audited: Audited,
    flags: Mapping[str, str],
    sections: Sequence[Mapping[str, Any]] = (),
    queues: Mapping[str, str] | None = None,
    numbers: Sequence[Mapping[str, Any]] = (),
    made: Mapping[str, Any] | None = None,
    trials: Mapping[str, Any] | None = None,
    overlays: Sequence[Mapping[str, Any]] = (),
    tokens: Mapping[str, Any] | None = None,
    checkpoints: Sequence[Mapping[str, Any]] = (),
    reward: str | None = None,
) -> dict[str, Any]:
    """Build the page's data from the files of a run; see `build.build_report` for the arguments."""
    policies = list(summary["policies"]) if summary else list(dict.fromkeys(r["policy"] for r in responses))
    judges = list(summary["judges"]) if summary else _score_columns(responses)
    verdict = [_sentence(line, policies) for line in headline]
    known = {} if queues is None else dict(queues)
    epsilon = float(summary["tie_epsilon"]) if summary else 0.0
    examples = example_data(responses, policies, judges, audited, list(known), epsilon)
    stages = [
        stage_data(name, stage_metrics.get(name, []), stage_info.get(name, {}))
        for name in dict.fromkeys([*stage_info, *stage_metrics])
    ]
    return {
        "version": VERSION,
        "title": title,
        "notice": notice,
        "made": redact(dict(made or {})),
        "headline": headline_data(verdict, numbers, stages, first_example(examples)),
        "verdict": verdict,
        "summary": None if summary is None else dict(summary),
        "policies": policies,
        "reward": reward or _reward_name(summary, responses),
        "judges": judges,
        "flags": dict(flags),
        "queues": known,
        "sections": redact([dict(section) for section in sections]),
        "examples": examples,
        "parts": [],
        "stages": stages,
        "trials": redact(None if trials is None else dict(trials)),
        "overlays": [dict(overlay) for overlay in overlays],
        "tokens": dict(NO_TOKENS if tokens is None else tokens),
        "checkpoints": [dict(checkpoint) for checkpoint in checkpoints],
    }


def _sentence(line: str, policies: Sequence[str] = ()) -> dict[str, str]:
    word, colon, rest = line.partition(": ")
    if colon and word in WORDS:
        named = any(rest.startswith(policy) for policy in policies)  # a policy's name stays as it is written
        return {"word": word, "text": rest if named else rest[:1].upper() + rest[1:]}
    return {"word": "Note", "text": line}


def _score_columns(responses: Rows) -> list[str]:
    names = dict.fromkeys(name for row in responses for name, value in row.items() if value is not None)
    return [name.removeprefix("score_") for name in names if name.startswith("score_")]


def _reward_name(summary: Mapping[str, Any] | None, responses: Rows) -> str | None:
    """Return what to call the reward; None where no response has one."""
    if all(row["reward"] is None for row in responses):
        return None
    scorer = "reward" if summary is None else str(summary.get("scorer", "reward_model"))
    return "learned reward" if scorer == "reward_model" else scorer
