"""The rules of the house that a program can check: floors, file sizes, safe loading, no dead settings."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from pydantic import BaseModel

from harken import config

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "harken"
FILES = sorted(SOURCE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MOST_LINES = 400
DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc"}
IMPORT_NAMES = {"pyyaml": "yaml"}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(node: ast.AST) -> list[str]:
    """The modules an import statement names."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []


def test_imports_only_go_down() -> None:
    """The floors and the torch-free modules, as import-linter's contracts in pyproject.toml state them."""
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(lint), "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_torch_free_modules_load_no_torch() -> None:
    """Statistics and pages have to run where torch is not installed, third parties' imports included."""
    forbidden = next(c for c in PROJECT["tool"]["importlinter"]["contracts"] if c["type"] == "forbidden")
    modules = [*forbidden["source_modules"], "harken.cli.main"]
    probe = (
        "import importlib, sys\n"
        "for module in sys.argv[1:]:\n"
        "    importlib.import_module(module)\n"
        "    heavy = {'torch', 'transformers', 'peft'} & set(sys.modules)\n"
        "    assert not heavy, f'{module} loads {heavy}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, *modules], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_file_holds_two_ideas(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_there_are_no_drawers() -> None:
    paths = [*SOURCE.rglob("*"), *(ROOT / "tests").rglob("*")]
    assert not [name(p) for p in paths if p.stem in DRAWERS]


def unsafe(node: ast.AST) -> Iterator[str]:
    """Ways in which loading a file could run code from it."""
    for module in imported(node):
        if module.split(".")[0] in {
            "pickle",
            "cPickle",
            "dill",
            "joblib",
            "cloudpickle",
            "marshal",
            "shelve",
        }:
            yield f"import {module}"
    if isinstance(node, ast.Attribute) and ast.unparse(node) in {"torch.load", "torch.save"}:
        yield ast.unparse(node)
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg in {"trust_remote_code", "allow_pickle"} and ast.unparse(keyword.value) != "False":
                yield f"{keyword.arg}={ast.unparse(keyword.value)}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_file_that_is_loaded_can_run_code(path: Path) -> None:
    assert not [f"line {node.lineno}: {what}" for node in ast.walk(tree(path)) for what in unsafe(node)]


def test_unsafe_loading_would_be_seen() -> None:
    text = (
        "import pickle\nfrom dill import loads\ntorch.load(p)\nf(trust_remote_code=True)\ng(allow_pickle=x)"
    )
    assert len([what for node in ast.walk(ast.parse(text)) for what in unsafe(node)]) == 5


def models() -> list[type[BaseModel]]:
    """Every configuration model of every module in `harken.config`."""
    found: dict[str, type[BaseModel]] = {}
    for module in pkgutil.iter_modules(config.__path__):
        for value in vars(importlib.import_module(f"harken.config.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, config.Strict) and value is not config.Strict:
                found[value.__name__] = value
    return [found[name] for name in sorted(found)]


def test_the_configuration_models_are_found() -> None:
    """`test_every_setting_is_read` would pass on nothing."""
    names = {model.__name__ for model in models()}
    assert len(names) >= 20
    assert names >= {
        "RunConfig",
        "PPOSettings",
        "PipelineConfig",
        "EvaluationConfig",
        "DataConfig",
        "LoraSettings",
    }


def properties(path: Path) -> list[ast.AST]:
    """What a configuration derives from its keys. Its validators only compare keys with one another."""
    return [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "property" for mark in node.decorator_list)
    ]


RESOLVER = "stages.py"
"""The one file of config/ that computes with settings: it turns a pipeline's stages into configurations."""


@cache
def attributes_read() -> frozenset[str]:
    """Every attribute that the code loads somewhere."""
    return frozenset(
        node.attr
        for path in FILES
        for part in (
            properties(path) if path.parent.name == "config" and path.name != RESOLVER else [tree(path)]
        )
        for node in ast.walk(part)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    )


@pytest.mark.parametrize("model", models(), ids=lambda m: m.__name__)
def test_every_setting_is_read(model: type[BaseModel]) -> None:
    """A key that exists and does nothing is a lie to its user: each is read somewhere in the code.

    A key with one permitted value does its work when any other is refused.
    """
    fixed = {
        key
        for key, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    }
    unread = sorted(set(model.model_fields) - fixed - attributes_read())
    assert not unread


def undocumented(node: ast.AST, prefix: str = "") -> Iterator[str]:
    """Public functions, methods and classes without a docstring; what a function holds is not public."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if child.name.startswith("_"):
            continue
        if not ast.get_docstring(child):
            yield prefix + child.name
        if isinstance(child, ast.ClassDef):
            yield from undocumented(child, f"{prefix}{child.name}.")


@pytest.mark.parametrize("path", FILES, ids=name)
def test_public_names_have_docstrings(path: Path) -> None:
    missing = list(undocumented(tree(path)))
    if path.name != "__init__.py" and not ast.get_docstring(tree(path)):
        missing.append("the module")
    assert not missing


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name != "cli"], ids=name)
def test_no_import_is_hidden_in_a_function(path: Path) -> None:
    """An import of ours inside a function dodges a cycle. Only the command line may wait for its verb."""
    functions = [n for n in ast.walk(tree(path)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    ours = [
        f"line {node.lineno}: {module}"
        for function in functions
        for node in ast.walk(function)
        for module in imported(node)
        if module.split(".")[0] == "harken"
    ]
    assert not ours


def test_every_package_that_is_imported_is_declared() -> None:
    optional = [d for extra in PROJECT["project"]["optional-dependencies"].values() for d in extra]
    every = [*PROJECT["project"]["dependencies"], *optional]
    declared = {re.split(r"[<>=\[]", d)[0].lower() for d in every}
    known = {IMPORT_NAMES.get(d, d) for d in declared} | set(sys.stdlib_module_names) | {"harken"}
    used = {m.split(".")[0] for path in FILES for node in ast.walk(tree(path)) for m in imported(node)}
    # torch, transformers and pydantic bring these with them and raise or return their types.
    undeclared = used - known - {"huggingface_hub", "jinja2", "pydantic_core", "tokenizers"}
    assert not undeclared


def test_the_pinned_torch_is_the_one_make_installs() -> None:
    """constraints.txt would otherwise replace the build that TORCH_INDEX chose."""
    pinned = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    installed = re.search(r"^TORCH_INSTALL \?= torch==(\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert pinned and installed and pinned[1] == installed[1]


def test_every_dependency_is_pinned() -> None:
    extras = PROJECT["project"]["optional-dependencies"]["dev"]
    wanted = {re.split(r"[<>=\[]", d)[0].lower() for d in [*PROJECT["project"]["dependencies"], *extras]}
    pinned = {
        line.split("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert wanted <= pinned
