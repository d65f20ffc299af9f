"""A public name has one meaning: no two modules define it for different things."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "harken"

ALLOWED = {
    "ADAPTER": "the name of the adapter that the module's model trains",
    "Array": "alias of an array of float64, the same in each module",
    "COST": "what the checks of the module compute",
    "FIX": "the fix that the errors of the module share",
    "RESTORE": "the fix of a damaged file",
    "Record": "a type variable",
    "T": "a type variable",
    "compare": "the function of the Python interface is named like the one that it calls",
    "install": "each kernel module replaces the forwards that it is for",
    **dict.fromkeys(
        ("evaluate", "list_presets", "replay", "report", "show_preset", "sweep", "trace", "train", "verify"),
        "a command is named like the function that it calls",
    ),
}
"""Names that several modules define, and why."""


def public_names(path: Path) -> set[str]:
    """Return the classes, functions and constants that a module defines at its top level."""
    return {name for node in _statements(ast.parse(path.read_text()).body) for name in _defined(node)}


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those under `if`, `try` and `with` too."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            for field in ("body", "orelse", "finalbody"):
                yield from _statements(getattr(node, field, []))


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        names = {node.name}
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = {
            n.id
            for t in targets
            for n in ast.walk(t)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
    else:
        names = set()
    return {name for name in names if not name.startswith("_")}


def modules_by_name(source: Path) -> dict[str, list[str]]:
    """Return the modules that define each public name."""
    modules: defaultdict[str, list[str]] = defaultdict(list)
    for path in sorted(source.rglob("*.py")):
        for name in public_names(path):
            modules[name].append(str(path.relative_to(source)))
    return modules


def test_public_names_have_one_meaning() -> None:
    modules = modules_by_name(SOURCE)
    clashes = {name: where for name, where in modules.items() if len(where) > 1 and name not in ALLOWED}
    assert not clashes, "rename one of each, or add the name with its reason to ALLOWED"
    assert len(modules) > 500


def test_allowed_names_are_still_defined_twice() -> None:
    modules = modules_by_name(SOURCE)
    assert [name for name in ALLOWED if len(modules.get(name, ())) < 2] == []


def test_a_name_defined_twice_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("LIMIT = 1\n_own = 2\ndef read(): local = 1\nclass One: field = 1\n")
    (tmp_path / "b.py").write_text(
        "if True:\n    LIMIT: int = 2\nfrom a import One\n_own = 3\nlocal = field = 1\n"
    )
    (tmp_path / "c.py").write_text("try:\n    async def read(): ...\nfinally:\n    x, (y, *z) = f(One)\n")
    modules = modules_by_name(tmp_path)
    assert {name: where for name, where in modules.items() if len(where) > 1} == {
        "LIMIT": ["a.py", "b.py"],
        "read": ["a.py", "c.py"],
    }
    assert {"One", "local", "field", "x", "y", "z"} <= modules.keys()
