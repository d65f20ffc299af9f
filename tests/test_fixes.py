"""Every error's fix tells the reader what to do: `Fix:` is followed by a verb in the imperative."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import harken

SOURCE = Path(harken.__file__).parent
VERBS = {
    "add",
    "balance",
    "begin",
    "call",
    "change",
    "check",
    "choose",
    "compare",
    "connect",
    "copy",
    "correct",
    "decompress",
    "delete",
    "do",
    "download",
    "draw",
    "evaluate",
    "export",
    "finish",
    "free",
    "give",
    "indent",
    "install",
    "keep",
    "leave",
    "load",
    "look",
    "lower",
    "make",
    "map",
    "merge",
    "move",
    "multiply",
    "name",
    "nest",
    "open",
    "pass",
    "plan",
    "point",
    "put",
    "raise",
    "read",
    "remove",
    "rename",
    "replace",
    "reproduce",
    "restore",
    "return",
    "resume",
    "run",
    "sample",
    "save",
    "see",
    "set",
    "split",
    "start",
    "stop",
    "target",
    "train",
    "try",
    "upgrade",
    "use",
    "wait",
    "write",
}


def fixes() -> Iterator[tuple[str, str]]:
    """The place of each fix that is written out in a UserError, and the literal text that it begins with."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                for keyword in node.keywords:
                    if keyword.arg == "fix":
                        for text in beginnings(keyword.value):
                            yield f"{path.relative_to(SOURCE)}:{node.lineno}", text
            if isinstance(node, ast.Assign) and re.search(
                r"(^|_)FIX(_|$)|^fix$", ast.unparse(node.targets[0])
            ):
                for text in beginnings(node.value):
                    yield f"{path.relative_to(SOURCE)}:{node.lineno}", text
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "Fix: " in node.value:
                rest = node.value.split("Fix: ", 1)[1]
                if rest and rest[0].isalpha():
                    yield f"{path.relative_to(SOURCE)}:{node.lineno}", rest


def beginnings(value: ast.expr) -> Iterator[str]:
    """The texts that an expression may begin with; none for what only the run knows."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str) and value.value:
        yield value.value
    elif isinstance(value, ast.JoinedStr) and value.values:
        yield from beginnings(value.values[0])
    elif isinstance(value, ast.IfExp):
        yield from (*beginnings(value.body), *beginnings(value.orelse))
    elif isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        yield from beginnings(value.left)


def test_a_fix_begins_with_a_verb() -> None:
    found = list(fixes())
    assert len(found) > 230
    wrong = [f"{place}: {text[:60]}" for place, text in found if text.split()[0].strip(",.:;") not in VERBS]
    assert wrong == []
