"""Packages whose internals Harken replaces (torch, transformers, peft) are no newer than what was tested."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PATCHED = ("torch", "transformers", "peft")


def untested(name: str, installed: str, tested: str) -> str:
    """A sentence when `installed` is of a later minor version than `tested`, else ''."""
    if Version(installed).release[:2] <= Version(tested).release[:2]:
        return ""
    return (
        f"{name} {installed} is installed. Harken replaces internals of {name} and is tested up to {tested}. "
        f"Fix: install {name} {tested}, or run `make test`, then raise the bounds in pyproject.toml."
    )


def constraint(name: str) -> str:
    """The version in constraints.txt."""
    found = re.search(rf"(?m)^{name}==(.+)$", (ROOT / "constraints.txt").read_text())
    assert found, f"constraints.txt does not name {name}"
    return found[1]


@pytest.mark.parametrize("name", PATCHED)
def test_no_newer_version_is_installed(name: str) -> None:
    assert not (reported := untested(name, version(name), constraint(name))), reported


@pytest.mark.parametrize("name", PATCHED)
def test_the_upper_bound_is_the_next_minor_version(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bounds = next(r.specifier for r in map(Requirement, project["dependencies"]) if r.name == name)
    major, minor = Version(constraint(name)).release[:2]
    assert bounds.contains(f"{major}.{minor}.99") and not bounds.contains(f"{major}.{minor + 1}.0")


def test_a_newer_version_is_reported_in_a_sentence() -> None:
    reported = untested("torch", "2.14.0", "2.13.0")
    assert reported.startswith("torch 2.14.0 is installed.") and "tested up to 2.13.0" in reported
    assert not untested("torch", "2.13.5+cu130", "2.13.0") and not untested("peft", "0.17.0", "0.21.2")
