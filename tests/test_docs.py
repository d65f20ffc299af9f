"""Every path, link, command, option and make target that a document names exists, and diagrams are up to date."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from harken.cli.main import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
        *(ROOT / "src").rglob("*.md"),
    ]
)
# A path is written relative to one of these.
BASES = ("", "src", "src/harken", "tests", "docs", "src/harken/presets", "benchmarks", "examples")
# Files that an example asks its reader to write.
YOURS = re.compile(r"(?:^|/)my_\w+\.py$|^benchmarks/NAME\.py$|^outputs/")
FOLDERS = ("src", "harken", "tests", "docs", "examples", "benchmarks", "scripts", "presets")
# History: entries name files as they were called at the time.
HISTORY = re.compile(r"CHANGELOG\.md$|docs/log/")


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def read(document: Path) -> str:
    return document.read_text(encoding="utf-8")


@cache
def rooms() -> frozenset[str]:
    """The folders a path may begin with: those of the root, of the package and of the tests."""
    inside = {
        p.name for base in (ROOT / "src" / "harken", ROOT / "tests") for p in base.iterdir() if p.is_dir()
    }
    return frozenset({*FOLDERS, *inside} - {"__pycache__"})


def exists(path: str, document: Path) -> bool:
    """Whether a path written in a document names a file or folder of the project."""
    bases = [*(ROOT / base for base in BASES), document.parent]
    return any((base / path).exists() for base in bases)


def named_paths(text: str) -> set[str]:
    """Paths of Python modules and tests, and of files under the project's own folders."""
    words = re.findall(r"(?<![\w./{}<>*-])((?:[\w.-]+/)*[\w-]+\.(?:py|js|md|yml|toml))(?![\w/*])", text)
    words = [word for word in words if not YOURS.search(word)]
    return {word for word in words if word.endswith(".py") or word.split("/")[0] in rooms()}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_path_of_a_module_or_a_test_exists(document: Path) -> None:
    if HISTORY.search(name(document)):
        pytest.skip("history names files as they were called")
    missing = sorted(path for path in named_paths(read(document)) if not exists(path, document))
    assert not missing


def test_paths_are_found_in_text() -> None:
    """The check above would pass on a pattern that finds nothing."""
    text = "see `train/ppo/stage.py`, tests/kill/harness.py and [this](docs/plan.md), not my_reward.pyc"
    assert named_paths(text) == {"train/ppo/stage.py", "tests/kill/harness.py", "docs/plan.md"}
    assert sum(len(named_paths(read(document))) for document in DOCUMENTS) > 200


def test_the_diagram_of_layers_is_that_of_the_import_contract() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "layers.py"), "--check"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_diagram_that_is_not_up_to_date_is_found() -> None:
    spec = importlib.util.spec_from_file_location("layers", ROOT / "scripts" / "layers.py")
    assert spec and spec.loader
    layers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layers)
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    page = read(ROOT / "docs" / "architecture.md")
    assert layers.insert(page, layers.diagram(pyproject)) == page
    assert (
        layers.insert(page, layers.diagram(pyproject.replace('"health | judging",\n  "reward"', '"reward"')))
        != page
    )


def test_the_table_of_packages_names_packages() -> None:
    """A package that was renamed leaves no row behind, and every package has a row."""
    table = read(ROOT / "docs" / "architecture.md").split("| package |")[1].split("\n\n")[0]
    rows = [re.findall(r"`([\w.]+)`", line.split("|")[1]) for line in table.splitlines()[2:]]
    named = {name for row in rows for name in row}
    package = ROOT / "src" / "harken"
    assert not [name for name in named if not (package / name).exists()]
    folders = {p.parent.name for p in package.glob("*/__init__.py")} - {"presets"}
    assert not sorted(folders - named)


def tree_of_readme() -> list[str]:
    """The paths in the README's tree of files, relative to the root."""
    block = read(ROOT / "README.md").split("## The files\n")[1].split("```")[1]
    paths = []
    for line in block.strip().splitlines():
        path = line.split()[0]
        paths.append(f"src/harken/{path}" if line.startswith("  ") else path)
    return paths


def test_the_tree_of_the_readme_is_that_of_the_project() -> None:
    named = tree_of_readme()
    missing = [path for path in named if not (ROOT / path).exists()]
    assert not missing
    package = ROOT / "src" / "harken"
    there = {
        f"{p.relative_to(ROOT).as_posix()}{'/' if p.is_dir() else ''}"
        for p in package.iterdir()
        if p.name not in ("__pycache__", "__init__.py", "py.typed")
    }
    unnamed = sorted(there - set(named))
    assert not unnamed


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_link_within_the_project_leads_somewhere(document: Path) -> None:
    """Links to files, and to the headings of Markdown files."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(read(document))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, heading = target.partition("#")
        file = document.parent / path if path else document
        if not file.exists() or (heading and heading not in anchors(file)):
            broken.append(target)
    assert not broken


def _without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


@cache
def anchors(file: Path) -> frozenset[str]:
    """The anchors that GitHub gives the headings of a Markdown file."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", read(file), flags=re.DOTALL), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain)


@cache
def commands() -> dict[str, set[str]]:
    """The options of each command of `harken`, subcommands included."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, verb: str) -> None:
        found[verb] = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help"}
        if default := getattr(command, "default", None):  # `harken review PATH` is `harken review serve PATH`
            found[verb] |= {o for p in command.commands[default].params for o in p.opts}
        for word, inner in getattr(command, "commands", {}).items():
            walk(inner, f"{verb} {word}".strip())

    walk(get_command(app), "")
    return found


def typed_commands(text: str) -> list[list[str]]:
    """The `harken …` commands of a document's code, comments left out."""
    code = re.findall(r"```\w*\n(.*?)```", text, re.DOTALL)
    lines = "\n".join(code).replace("\\\n", " ").splitlines()
    lines += re.findall(r"`(harken [^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    lines += [line.strip() for line in re.findall(r"^    (harken .+)$", text, re.MULTILINE)]
    stripped = [re.sub(r"^\s*\$ ", "", line).split("#")[0].split() for line in lines]
    return [words for words in stripped if words[:1] == ["harken"] and len(words) > 1]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_command_and_option_exists(document: Path) -> None:
    wrong = []
    for words in typed_commands(read(document)):
        verb = words[1].rstrip(".,:")
        if verb.startswith(("-", "…")):
            verb = ""
        if verb not in commands():
            wrong.append(" ".join(words))
            continue
        if len(words) > 2 and f"{verb} {words[2]}" in commands():
            verb = f"{verb} {words[2]}"
        options = {w.split("=")[0].rstrip(".,:") for w in words[1:] if re.match(r"--[a-z]", w)}
        if options - commands()[verb]:
            wrong.append(" ".join(words))
    assert not wrong


def test_commands_are_found_in_text() -> None:
    assert sum(len(typed_commands(read(document))) for document in DOCUMENTS) > 40
    assert typed_commands("```\n$ harken train x.yml \\\n  --set a=1  # why\n```") == [
        ["harken", "train", "x.yml", "--set", "a=1"]
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_every_make_target_exists(document: Path) -> None:
    targets = set(re.findall(r"^([\w-]+):", read(ROOT / "Makefile"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z][\w-]*)", read(document)))
    named |= set(re.findall(r"^make ([a-z][\w-]*)", read(document), re.MULTILINE))
    assert named <= targets
