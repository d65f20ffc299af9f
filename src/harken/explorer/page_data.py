"""Build the page's data: one JSON value with the format of `schema.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from harken.explorer.charts import chart_data
from harken.run.manifest import redact

VERSION = 2
WORDS = ("Better", "Worse", "Unclear", "Warning", "Higher", "Lower", "Note")
"""Labels that may open a sentence of the verdict. Any other sentence is a note."""
TITLES = {
    "sft": "Supervised fine-tuning",
    "reward": "Reward model",
    "dpo": "Preference optimisation (DPO)",
    "online_dpo": "Online DPO",
    "ppo": "PPO",
}

Rows = Sequence[Mapping[str, Any]]
Audited = Mapping[tuple[str, int, str], Mapping[str, Any]]
"""Audit results of responses by (prompt_id, sample, policy): "flags" and "loop"."""


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
    accounts: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Build the page's data from the files of a run; see `build.build_report` for the arguments."""
    return {
        "version": VERSION,
        "title": title,
        "notice": notice,
        "verdict": [_sentence(line, summary["policies"] if summary else ()) for line in headline],
        "summary": None if summary is None else dict(summary),
        "flags": dict(flags),
        "accounts": redact([dict(account) for account in accounts]),
        "examples": [] if summary is None else _examples(responses, summary, audited),
        "stages": [
            _stage(name, stage_metrics.get(name, []), stage_info.get(name, {}))
            for name in dict.fromkeys([*stage_info, *stage_metrics])
        ],
    }


def _sentence(line: str, policies: Sequence[str] = ()) -> dict[str, str]:
    word, colon, rest = line.partition(": ")
    if colon and word in WORDS:
        named = any(rest.startswith(policy) for policy in policies)  # a policy's name stays as it is written
        return {"word": word, "text": rest if named else rest[:1].upper() + rest[1:]}
    return {"word": "Note", "text": line}


def _examples(responses: Rows, summary: Mapping[str, Any], audited: Audited) -> list[dict[str, Any]]:
    """Return one entry per prompt and sample, with responses in the order of the summary's policies."""
    groups: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
    for row in responses:
        groups.setdefault((row["prompt_id"], row["sample"]), {})[row["policy"]] = row
    examples = []
    for (prompt, sample), group in groups.items():
        rows = [group[policy] for policy in summary["policies"]]
        examples.append(
            {
                "id": prompt if summary["samples"] == 1 else f"{prompt}/{sample}",
                "domain": rows[0]["domain"] or "",
                "language": rows[0]["language"] or "",
                "messages": json.loads(rows[0]["messages"]),
                "winner": _winner(rows, summary["tie_epsilon"]),
                "responses": [
                    _response(row, audited.get((prompt, sample, row["policy"]), {}), summary["judges"])
                    for row in rows
                ],
            }
        )
    return examples


def _response(row: Mapping[str, Any], found: Mapping[str, Any], judges: Sequence[str]) -> dict[str, Any]:
    return {
        "policy": row["policy"],
        "text": row["response"],
        "tokens": row["response_tokens"],
        "stop": row["stop"],
        "reward": row["reward"],
        "scores": {judge: row[f"score_{judge}"] for judge in judges},
        "repeated_4grams": row["repeated_4grams"],
        "loop": found["loop"].times if found.get("loop") else None,
        "flags": found.get("flags", []),
    }


def _winner(rows: Rows, epsilon: float) -> str | None:
    """Return the policy whose reward exceeds all others by more than epsilon."""
    best = max(rows, key=lambda row: float(row["reward"]))
    near = [row for row in rows if row["reward"] >= best["reward"] - epsilon]
    return str(best["policy"]) if len(near) == 1 else None


def _stage(name: str, metrics: Rows, info: Mapping[str, Any]) -> dict[str, Any]:
    kind = info.get("config", {}).get("training", {}).get("type", name)
    facts = {key: value for key, value in info.items() if key not in ("title", "data", "charts")}
    return {
        "name": name,
        "title": info.get("title") or TITLES.get(kind, name),
        "steps": max((line["step"] for line in metrics), default=0),
        "charts": [*chart_data(kind, metrics), *info.get("charts", [])],
        "data": redact(list(info.get("data", []))),
        "facts": redact(facts),
    }
