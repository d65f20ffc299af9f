"""Collect what a reader needs to judge a page without its author: when, where, on what, how long, by which command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from harken.run import manifest
from harken.run.config_lock import read_locked_config
from harken.run.folder import EvaluationFolder, ResponsesFolder, RunFolder

_HASHES = ("fingerprints", "directions", "probes", "prompts", "batch_shape")
"""Keys of an evaluation's config.yml that identify its inputs; they are not settings."""


def made_facts(
    runs: Iterable[RunFolder],
    evaluation: EvaluationFolder | ResponsesFolder | None,
    metrics: Iterable[Sequence[Mapping[str, Any]]],
    path: str,
) -> dict[str, Any]:
    """Return the page's `made`; see `schema.json`. Parts that no manifest recorded are absent.

    The duration is that of all steps of the runs, and of the evaluation from its start to its end.
    """
    records = [manifest.read_manifest(run.manifest) for run in runs if run.manifest.is_file()]
    seconds = sum(float(line.get("seconds") or 0.0) for lines in metrics for line in lines)
    facts: dict[str, Any] = {"path": path}
    if evaluation is not None:
        facts["settings"] = evaluation_settings(read_locked_config(evaluation.config))
        if evaluation.manifest.is_file():
            record = manifest.read_manifest(evaluation.manifest)
            records.append(record)
            if "finished" in record:
                facts["finished"] = str(record["finished"])
                seconds += _seconds_between(record["created"], record["finished"])
    if not records:
        return facts
    named = {
        "when": min(str(record["created"]) for record in records),
        "harken": _distinct(record.get("harken") for record in records),
        "hardware": _distinct(record.get("hardware") for record in records),
        "device": _distinct(record.get("device_kind") or record.get("device") for record in records),
        "command": _command(records[-1].get("command")),
    }
    facts |= {key: value for key, value in named.items() if value}
    return facts | ({"duration": round(seconds, 1)} if seconds else {})


def evaluation_settings(config: Mapping[str, Any]) -> list[list[str]]:
    """Return [name, value] of every setting that is not empty, secrets removed."""
    settings = {key: config[key] for key in config if key not in _HASHES}
    return [
        [name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)]
        for name, value in manifest.flatten_config(manifest.redact(settings)).items()
        if value not in (None, "", [], {})
    ]


def _distinct(values: Iterable[object]) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value))


def _command(words: object) -> str:
    return shlex.join(map(str, words)) if isinstance(words, list) else ""


def _seconds_between(start: object, end: object) -> float:
    try:
        return (datetime.fromisoformat(str(end)) - datetime.fromisoformat(str(start))).total_seconds()
    except (ValueError, TypeError):  # edited by hand; the page shows the texts
        return 0.0
