"""Convert a judge named on the command line into keys of a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harken.config import yaml as config_yaml
from harken.config.files import read_config_text
from harken.errors import UserError


def judge_from(text: str, where: str = "--judge") -> dict[str, Any]:
    """Return the keys of a judge. `where` is the option or argument that names it.

    `my_judge.yml` is a file with the keys of a judge, `http://127.0.0.1:8000/v1#MODEL` an endpoint, `local:MODEL` a
    local language model, `my_judge.py:score` a Python function, `rule:NAME` or a plain name a rule, and any other path
    a reward model. Raises UserError for an address without a model and a file that is no mapping of keys.
    """
    kind, colon, argument = text.partition(":")
    if text.endswith((".yml", ".yaml")):
        return _from_file(text)
    if kind in ("http", "https"):
        url, _, model = text.partition("#")
        if not model:
            raise UserError("the address names no model", where=where, fix=f"write {url}#MODEL")
        return {"type": "endpoint", "url": url, "model": model}
    if colon and kind in ("local", "rule"):
        return {"type": kind, {"local": "model_name", "rule": "rule"}[kind]: argument}
    if ".py:" in text:
        return {"type": "python", "path": text}
    if text.isidentifier() and not Path(text).exists():
        return {"type": "rule", "rule": text}
    return {"type": "reward_model", "checkpoint_path": text}


def writer_from(text: str) -> dict[str, Any]:
    """Return the keys of a writer: `URL#MODEL` is an endpoint, anything else a local policy."""
    if text.partition(":")[0] in ("http", "https"):
        return judge_from(text, "MODEL")
    return {"type": "local", "model_name": text}


def _from_file(name: str) -> dict[str, Any]:
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(
            "no such file", where=name, fix="write a file with the keys of a judge (docs/judges.md)"
        )
    data = config_yaml.parse_yaml(read_config_text(path, name), name, "the file in docs/judges.md").data
    judge = data.get("judge", data)
    if not isinstance(judge, dict):
        raise UserError(
            "it has no keys of a judge", where=name, fix="write type: endpoint, url: … and model: …"
        )
    return judge
