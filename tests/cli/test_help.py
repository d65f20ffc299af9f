"""The help of all commands has one style: it fits 80 columns, begins with an imperative, and its examples parse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from harken.cli import main as cli

FOLDER_ONLY = {"review serve", "review plan", "data pack"}
"""Commands without the name --out for their folder, because `harken review --out` is the file of an offline pack."""
IMPERATIVES = {
    *(
        "add",
        "build",
        "check",
        "compare",
        "detect",
        "evaluate",
        "find",
        "fit",
        "label",
        "let",
        "list",
        "lock",
        "make",
    ),
    *(
        "measure",
        "predict",
        "print",
        "recompute",
        "report",
        "rlhf",
        "run",
        "sample",
        "say",
        "score",
        "serve",
        "show",
    ),
    *("talk", "train", "write"),
}


def commands() -> Iterator[tuple[str, Any]]:
    """Yield the words and the command of every command and group, the root first."""

    def visit(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        yield words, command
        for name, child in getattr(command, "commands", {}).items():
            yield from visit(f"{words} {name}".strip(), child)

    yield from visit("", get_command(cli.app))


NAMES = [words for words, _ in commands()]


def help_of(words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main([*words.split(), "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", NAMES, ids=lambda words: words or "harken")
def test_help_fits_80_columns_and_no_summary_is_shortened(
    words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = help_of(words, capsys, monkeypatch)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "..." not in text.partition("Commands:\n")[2]


@pytest.mark.parametrize("words", NAMES, ids=lambda words: words or "harken")
def test_help_begins_with_an_imperative_and_has_examples(words: str) -> None:
    text = dict(commands())[words].help
    assert "Examples:" in text
    if words:  # the root begins with the project's motto
        assert text.split()[0].lower() in IMPERATIVES


def examples() -> list[str]:
    """Return the commands under "Examples:", continued lines joined, without the words that explain them."""
    found = []
    for _, command in commands():
        block = (command.help or "").partition("Examples:\n")[2].partition("\n\n")[0]
        for line in re.sub(r" *\\\n *", " ", block).splitlines():
            found.append(re.split(r"  +", line.strip())[0].partition(" > ")[0].rpartition("| ")[2])
    return found


@pytest.mark.parametrize("example", examples())
def test_an_example_parses(example: str) -> None:
    """Options, choices and the number of arguments are right; the files that it names belong to the user."""
    name, *arguments = shlex.split(example)
    assert name == "harken"
    root = get_command(cli.app)
    command, context = root, root.make_context("harken", [], resilient_parsing=True)
    while hasattr(command, "commands"):
        default = getattr(command, "default", None)
        verb = arguments.pop(0) if default is None or arguments[0] in command.commands else default
        command = command.commands[verb]
    command.make_context(command.name, arguments, parent=context)


@pytest.mark.parametrize("words", NAMES, ids=lambda words: words or "harken")
def test_one_thing_has_one_option(words: str) -> None:
    """A folder is --output-dir and --out, a written file --out, a number of rows --limit, a scorer --scorer."""
    for parameter in dict(commands())[words].params:
        options = set(parameter.opts)
        if parameter.param_type_name != "option":
            continue
        if "--output-dir" in options:
            assert ("--out" in options) == (words not in FOLDER_ONLY)
        if options & {"--output", "--outputs", "-o"}:
            assert "--out" in options
        if parameter.metavar == "N" and options & {"--pairs", "--prompts", "--rows-limit", "--max-rows"}:
            assert "--limit" in options
        if parameter.metavar == "SCORER":
            assert "--scorer" in options


def test_there_are_examples_to_check() -> None:
    assert len(examples()) > 90 and len(NAMES) > 35
