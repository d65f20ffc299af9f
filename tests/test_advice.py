"""What an error advises exists: keys, options and commands that the source names, found mechanically."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import BaseModel

import harken
from harken.cli.main import app
from harken.config import EvaluationConfig, PipelineConfig, RunConfig
from harken.config.errors import FOREIGN_NAMES, _models
from harken.errors import UserError
from harken.run import config_lock
from harken.run.resume_check import AcceptedChanges

SOURCE = Path(harken.__file__).parent  # the copy with a planted mistake, where there is one
SECTIONS = "data|training|lora|health|checkpoints|evaluation|sft|reward|ppo"
KEY = re.compile(rf"(?<![\w./{{}}-])(?:{SECTIONS})\.[a-z][a-z0-9_]*(?:\[\d+\])?(?:\.[a-z][a-z0-9_]*)*")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
VERB = re.compile(r"(?<![\w./-])harken ([a-z]+)((?: [^.;:`]*)?)")
NO_KEYS = ("data.parquet", "data.jsonl", "data.csv")


def sentences() -> Iterator[tuple[str, str]]:
    """Every text of the source that is no docstring and has a space in it, with its place; what is filled in is {}."""
    for file in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(file.read_text())
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        inside = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)
        }
        for node in ast.walk(tree):
            place = f"{file.relative_to(SOURCE)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                inside.discard(id(node))
                text = "".join(
                    str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
                )
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
                text = node.value
            else:
                continue
            if id(node) not in docs and " " in text and ":root" not in text:
                yield place, text


@cache
def keys() -> frozenset[str]:
    """Every dotted key of a run, a pipeline and an evaluation, sections included."""
    return frozenset(
        path for model in (RunConfig, PipelineConfig, EvaluationConfig) for path in _paths(model, 0)
    ) | frozenset(f"stages.{stage}.{path}" for stage in ("sft", "rm", "ppo") for path in _paths(RunConfig, 0))


def _paths(model: type[BaseModel], depth: int) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield name
        for inner in _models(field.annotation) if depth < 8 else ():
            yield from (f"{name}.{path}" for path in _paths(inner, depth + 1))


@cache
def options() -> dict[str, set[str]]:
    """The options of each command, "presets list" included."""
    found: dict[str, set[str]] = {"": {"--version", "--help"}}

    def walk(command: Any, name: str) -> None:
        found[name] = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        for verb, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{name} {verb}".strip())

    walk(typer.main.get_command(app), "")
    return found


def wrong(place: str, text: str) -> list[str]:
    """What a sentence names and nothing has."""
    found = []
    for key in KEY.findall(text):
        if re.sub(r"\[\d+\]", "", key) not in keys() and key not in NO_KEYS:
            found.append(f"{place}: no key {key}: {text[:120]!r}")
    known = set().union(*options().values())
    if "pip " not in text and "git " not in text:
        found += [f"{place}: no option {o}: {text[:120]!r}" for o in OPTION.findall(text) if o not in known]
    for verb, rest in VERB.findall(text):
        commands = [name for name in options() if name.split()[:1] == [verb]]
        if not commands:
            found.append(f"{place}: no command harken {verb}: {text[:120]!r}")
            continue
        allowed = set().union(*(options()[name] for name in commands))
        found += [
            f"{place}: harken {verb} has no {o}: {text[:120]!r}"
            for o in OPTION.findall(rest)
            if o not in allowed
        ]
    return found


def test_every_key_option_and_command_in_the_source_exists():
    errors = [error for place, text in sentences() for error in wrong(place, text)]
    assert not errors, "\n".join(errors)


@pytest.mark.parametrize(
    "text",
    [
        "Raise data.max_lenght",
        "set training.ppo.clip or so",
        "lower lora.r to 4",
        "Run: harken evaluate my.yml",
        "Run: harken eval --config x --accept-changes",
        "give --accept-change to go on",
        "Set evaluation.data.eval_everything",
    ],
)
def test_advice_that_leads_nowhere_is_found(text: str):
    assert wrong("here", text)


def test_an_evaluation_gets_no_advice_to_accept_changes(tmp_path: Path):
    """`harken eval` has no such option; the stages of a run, which have, are told whose it is."""
    config, made = tmp_path / "config.yml", tmp_path / "summary.json"
    config_lock.lock_config(config, {"seed": 1})
    made.touch()
    with pytest.raises(UserError) as caught:
        config_lock.lock_config(config, {"seed": 2}, made)
    assert "seed: 1 → 2" in str(caught.value) and "--accept-changes" not in str(caught.value)
    with pytest.raises(UserError, match="--accept-changes of `harken train` or `harken pipeline`"):
        config_lock.lock_config(config, {"seed": 2}, made, changes=AcceptedChanges())


def test_hints_for_foreign_names_are_keys():
    """A name of another tool leads to a key that there is, whole or as the end of one."""
    for foreign, ours in FOREIGN_NAMES.items():
        assert any(f".{key}".endswith(f".{ours.key}") for key in keys()), (foreign, ours)
