"""Convert policies and scorers named on the command line into keys of an evaluation's configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harken.config.evaluation import COMPRESSED_ENDINGS, FILE_ENDINGS
from harken.errors import UserError

_NAMED = re.compile(r"([^=/\\.~:]+)=(.+)", re.DOTALL)
_UNNAMED_FOLDERS = ("final", "checkpoints", "best")
"""Folder names that do not distinguish models."""
RESPONSE_TABLE_FILE = "responses.parquet"
"""The table in a folder of generated or scored responses and of an evaluation."""


def response_file(path: str) -> str:
    """Return the table of a folder of responses or of an evaluation; any other path unchanged."""
    table = Path(path).expanduser() / RESPONSE_TABLE_FILE
    return str(table) if table.is_file() else path


def policies_from(arguments: Sequence[str]) -> dict[str, str]:
    """Return name → model or file of policies written `name=path` or just `path`, in order.

    A path without a name is called by its last parts, as many as distinguish it from the others. A folder of responses
    means its table.
    Raises UserError for two policies with the same name.
    """
    policies: dict[str, str] = {}
    entries = [match.groups() if (match := _NAMED.fullmatch(text)) else (None, text) for text in arguments]
    parts = [_name_parts(path) for name, path in entries if name is None]
    for name, path in entries:
        name = name if name is not None else _shortest_name(_name_parts(path), parts)
        if name in policies:
            raise UserError(
                f"two policies are called {name!r}", where=path, fix=f"name them: a={policies[name]} b={path}"
            )
        policies[name] = response_file(path)
    return policies


def scorers_from(arguments: Sequence[str]) -> dict[str, Any]:
    """Return `reward_model` and `judges` for scorers written as a folder, a rule, a function or a column.

    `outputs/02_rm` is a reward model, `my_reward.py:score` a Python function, `column:reward` a column of the response
    files, `classifier:org/name` a classifier, and any other name a rule. A reward model that comes first is
    `reward_model`.
    """
    parts = judges_from(arguments)
    first = parts[0] if parts else None
    if isinstance(first, dict) and first["type"] == "model":
        return {"reward_model": first["checkpoint_path"], "judges": parts[1:]}
    return {"judges": parts}


def judges_from(arguments: Sequence[str]) -> list[str | dict[str, Any]]:
    """Return the entries of `judges` for scorers written as in `scorers_from`, reward models too."""
    return [_scorer(text) for text in arguments]


def _scorer(text: str) -> str | dict[str, Any]:
    kind, colon, argument = text.partition(":")
    if colon and kind == "column":
        return {"type": "column", "path": argument}
    if colon and kind == "classifier":
        return {"type": "classifier", "model_name": argument, "name": _identifier(argument)}
    if ".py:" in text:
        return {"type": "python", "path": text}
    if text.isidentifier() and not Path(text).exists():
        return text
    return {"type": "model", "checkpoint_path": text, "name": _identifier(text)}


def _identifier(path: str) -> str:
    """Return a name of letters, digits and underscores for a scorer that is a path."""
    name = re.sub(r"\W+", "_", _shortest_name(_name_parts(path), []))
    return name if name.isidentifier() else f"rm_{name}"


def _name_parts(path: str) -> list[str]:
    """Return the parts of a path that distinguish models, without the ending of a file."""
    unnamed = (*_UNNAMED_FOLDERS, Path(path).anchor)
    parts = [part for part in Path(path).parts if part not in unnamed] or [path]
    lower = parts[-1].lower()
    endings = [f + c for f in FILE_ENDINGS for c in COMPRESSED_ENDINGS if lower.endswith(f + c)]
    parts[-1] = parts[-1][: len(parts[-1]) - max(map(len, endings), default=0)]
    return parts


def _shortest_name(parts: Sequence[str], all_parts: Sequence[Sequence[str]]) -> str:
    """Return the shortest end of a path that no other path has; a step of a run is named with its run."""
    shortest = 2 if parts[-1].startswith("step-") and len(parts) > 1 else 1
    for length in range(shortest, len(parts) + 1):
        name = list(parts[-length:])
        if sum(list(other[-length:]) == name for other in all_parts) <= 1:
            return "/".join(name)
    return "/".join(parts)
