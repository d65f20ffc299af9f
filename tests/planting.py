"""Find the place of a planted mistake in a source file by its syntax, and change it there.

A place is the qualified name of a function, method or class (`<module>` for the top level) and a pattern: Python
source that occurs once in it. Layout, comments and line numbers do not matter. A name in a pattern that is local to
the function (a parameter, an assigned or bound name) matches any local name, the same one everywhere, so a renamed
local still fits. `...` as the body of an `if`, `for`, `with`, `def`, … stands for whatever the body is, and keeps it.
"""

from __future__ import annotations

import ast
import builtins
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

MODULE = "<module>"
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
IGNORED = {"ctx", "type_comment", "kind"}
REST = {"body", "orelse", "handlers", "finalbody"}
"""What a header pattern leaves open."""


class DoesNotFit(ValueError):
    """The source no longer holds the place, or holds it more than once."""


@dataclass
class Match:
    """Consecutive statements, or one expression, that a pattern matched, and the names it bound."""

    nodes: Sequence[ast.AST]
    names: dict[str, str] = field(default_factory=dict)

    @property
    def renamed(self) -> int:
        """How many names differ from the pattern's."""
        return sum(there != here for there, here in self.names.items())


def change(source: str, where: str, old: str, new: str) -> str:
    """Return `source` with the pattern `old` inside `where` replaced by `new`.

    Raises DoesNotFit when there is no such function, when the pattern occurs there no or several times, or when `new`
    uses a name that neither the pattern binds nor the file knows.
    """
    tree = ast.parse(source)
    scope = scopes(tree).get(where)
    if scope is None:
        raise DoesNotFit(f"there is no {where}")
    match = find(scope, old, where, _enclosing_locals(tree, where))
    # What stays of the body under a header pattern is kept as text, with its comments.
    return _replaced(source, match, old, _renamed(new, match, known_names(tree)))


def scopes(tree: ast.Module) -> dict[str, ast.AST]:
    """Every named function and class by its qualified name, and the module."""
    found: dict[str, ast.AST] = {MODULE: tree}

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, NAMED):
                name = f"{prefix}{child.name}"
                while name in found:  # overloads, and a property's setter
                    name += "'"
                found[name] = child
                visit(child, f"{name}.")
            else:
                visit(child, prefix)

    visit(tree, "")
    return found


def find(scope: ast.AST, old: str, where: str, free: set[str]) -> Match:
    """Return the one place in `scope` that `old` matches; of several, the one whose names are nearest.

    `free` are the local names there, which a pattern's local names may match.
    """
    pattern = parsed(old)
    matches = list(_matches(scope, pattern, free))
    if not matches:
        raise DoesNotFit(f"{where} does not hold {old!r}")
    least = min(match.renamed for match in matches)
    nearest = [match for match in matches if match.renamed == least]
    if len(nearest) > 1:
        raise DoesNotFit(f"{where} holds {old!r} {len(nearest)} times")
    return nearest[0]


def parsed(pattern: str) -> list[ast.stmt] | ast.expr:
    """A pattern is one expression, or statements."""
    body = ast.parse(pattern).body
    if len(body) == 1 and isinstance(body[0], ast.Expr):
        return body[0].value
    return body


def local_names(scope: ast.AST) -> set[str]:
    """Names that are bound somewhere in a function: parameters, assignments, loops, comprehensions."""
    if isinstance(scope, ast.Module | ast.ClassDef):
        roots = [node for node in ast.walk(scope) if isinstance(node, FUNCTIONS)]
    else:
        roots = [scope]
    names: set[str] = set()
    for node in (inner for root in roots for inner in ast.walk(root)):
        if isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            names.add(node.id)
        elif isinstance(node, ast.ExceptHandler) and node.name:
            names.add(node.name)
    return names


def _enclosing_locals(tree: ast.Module, where: str) -> set[str]:
    """Local names of a scope and of the functions around it."""
    names = where.split(".")
    around = [".".join(names[:n]) for n in range(1, len(names) + 1)]
    found = scopes(tree)
    return set().union(*(local_names(found[scope]) for scope in around if scope in found))


def known_names(tree: ast.Module) -> set[str]:
    """Names that code in the file may use: what it binds, imports or defines, and Python's own."""
    names = local_names(tree) | set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, NAMED):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).split(".")[0])
    return names


def _matches(scope: ast.AST, pattern: list[ast.stmt] | ast.expr, free: set[str]) -> Iterator[Match]:
    for node in _walk(scope):
        if isinstance(pattern, ast.expr):
            names: dict[str, str] = {}
            if isinstance(node, ast.expr) and _same(pattern, node, names, free):
                yield Match([node], names)
            continue
        for block in _blocks(node):
            for start in range(len(block) - len(pattern) + 1):
                names = {}
                part = block[start : start + len(pattern)]
                if all(_same(p, n, names, free) for p, n in zip(pattern, part, strict=True)):
                    yield Match(part, names)


def _walk(root: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those within f-strings, whose places Python does not know before 3.12."""
    yield root
    if not isinstance(root, ast.JoinedStr):
        for child in ast.iter_child_nodes(root):
            yield from _walk(child)


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for _, value in ast.iter_fields(node):
        if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
            yield value


def _same(pattern: object, node: object, names: dict[str, str], free: set[str]) -> bool:
    if isinstance(pattern, ast.Name) and isinstance(node, ast.Name):
        return _same_name(pattern.id, node.id, names, free)
    if isinstance(pattern, ast.arg) and isinstance(node, ast.arg):
        if not _same_name(pattern.arg, node.arg, names, free):
            return False
        return _same(pattern.annotation, node.annotation, names, free)
    if isinstance(pattern, ast.AST):
        if type(pattern) is not type(node):
            return False
        ignored = IGNORED | (REST if _is_any_body(getattr(pattern, "body", None)) else set())
        return all(
            _same(value, getattr(node, name, None), names, free)
            for name, value in ast.iter_fields(pattern)
            if name not in ignored
        )
    if isinstance(pattern, list):
        return (
            isinstance(node, list)
            and len(pattern) == len(node)
            and all(_same(p, n, names, free) for p, n in zip(pattern, node, strict=True))
        )
    return type(pattern) is type(node) and pattern == node


def _same_name(pattern: str, node: str, names: dict[str, str], free: set[str]) -> bool:
    """Local names are bound one to one; all others are what they are called."""
    if pattern in names:
        return names[pattern] == node
    if node in names.values() or (pattern != node and node not in free):
        return False
    if pattern != node and pattern in free:  # that name is still there, and means something else
        return False
    names[pattern] = node
    return True


def _is_any_body(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 1
        and isinstance(value[0], ast.Expr)
        and isinstance(value[0].value, ast.Constant)
        and value[0].value.value is Ellipsis
    )


def _renamed(new: str, match: Match, known: set[str]) -> ast.expr | list[ast.stmt]:
    """The replacement, in the names the source has now."""
    replacement = copy.deepcopy(parsed(new)) if new.strip() else []
    for root in replacement if isinstance(replacement, list) else [replacement]:
        bound = local_names(ast.Module([root] if isinstance(root, ast.stmt) else [], [])) | {
            node.id for node in ast.walk(root) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        } | {node.arg for node in ast.walk(root) if isinstance(node, ast.arg)}  # fmt: skip
        for node in ast.walk(root):
            if isinstance(node, ast.Name):
                node.id = match.names.get(node.id, node.id)
                if node.id not in known and node.id not in bound:
                    raise DoesNotFit(f"{new!r} uses {node.id}, which the file does not know")
            elif isinstance(node, ast.arg):
                node.arg = match.names.get(node.arg, node.arg)
    return replacement


def _replaced(source: str, match: Match, old: str, new: ast.expr | list[ast.stmt]) -> str:
    lines = source.encode().splitlines(keepends=True)
    first, last = match.nodes[0], match.nodes[-1]
    begins = [sum(map(len, lines[:n])) for n in range(len(lines) + 1)]

    def at(line: int, column: int) -> int:
        return begins[line - 1] + column

    text = source.encode()
    start, end = at(first.lineno, first.col_offset), at(last.end_lineno, last.end_col_offset)  # type: ignore[attr-defined]
    decorators = getattr(first, "decorator_list", None)
    if decorators:
        start = min(start, at(decorators[0].lineno, decorators[0].col_offset) - 1)
    if isinstance(new, ast.expr):
        return (text[:start] + b"(" + ast.unparse(new).encode() + b")" + text[end:]).decode()
    indent = b" " * (start - begins[text[:start].count(b"\n")])
    pattern = parsed(old)
    if isinstance(pattern, list) and len(pattern) == 1 and _is_any_body(getattr(pattern[0], "body", None)):
        # Only the header changes: everything from the first statement of the body on stays as it is written.
        body = first.body[0]  # type: ignore[attr-defined]
        body_line = min([body.lineno, *(d.lineno for d in getattr(body, "decorator_list", []))])
        if not new:
            raise DoesNotFit("a header cannot be left out: its body would stand alone")
        header = ast.unparse(new[0]).rsplit("\n", 1)[0].encode().replace(b"\n", b"\n" + indent)
        kept = begins[body_line - 1]
        if text[:kept].count(b"\n") < body_line - 1 or body_line == first.lineno:  # type: ignore[attr-defined]
            raise DoesNotFit("the body stands on its header's line")
        return (text[:start] + header + b"\n" + text[kept:]).decode()
    unparsed = "\n".join(ast.unparse(statement) for statement in new) or "pass"
    return (text[:start] + unparsed.encode().replace(b"\n", b"\n" + indent) + text[end:]).decode()
