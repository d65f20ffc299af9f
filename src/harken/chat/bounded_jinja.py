"""A jinja2 sandbox whose programs end: loops, calls, filters and sizes are counted against a budget.

Steps are counted, not seconds: a template that is refused here is refused on every machine, in every thread and on
every operating system. Nothing is interrupted; what would be large is refused before it is made.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import Environment, Template, TemplateError, nodes, pass_context
from jinja2.runtime import Context, LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

STEPS = 1_000_000
"""Iterations, calls and filters of one rendering; more for a long conversation. About a second."""
CALL = 5
"""Steps that a call costs."""
CHARACTERS = 1_000_000
"""Of any text that is made on the way; more for a long conversation. An element of a list counts as eight."""
BITS = 4096
"""Of a whole number."""
_LOOP, _SIZE = "harken_loop", "harken_size"
_WIDE = re.compile(r"\d{6,}")
_WIDTHS = ("center", "ljust", "rjust", "zfill", "expandtabs", "indent", "wordwrap", "batch", "slice")
_OF_CHANCE = ("random", "shuffle", "lipsum")


class TooMuch(TemplateError):
    """A template exceeds its bounds, or does what no template may."""


class Budget:
    """What one rendering may still do."""

    def __init__(self, characters: int) -> None:
        self.steps = STEPS + 16 * characters
        self.longest = CHARACTERS + 8 * characters
        self.written = 0

    def spend(self, steps: int = 1) -> None:
        """Count steps. Raises TooMuch when none is left."""
        self.steps -= steps
        if self.steps < 0:
            raise TooMuch("it does not end: it loops or calls itself beyond any use")

    def write(self, piece: str) -> None:
        """Count what is written. Raises TooMuch when it is too long."""
        self.written += len(piece)
        self.require(self.written)

    def require(self, size: int) -> None:
        """Raise TooMuch for a text or a list of this size."""
        if size > self.longest:
            raise TooMuch(f"it writes without end: more than {self.longest:,} characters")

    def sized(self, value: Any) -> Any:
        """Count what handling a value costs, and return it. Raises TooMuch for one that is too large."""
        size = _size(value, self.longest)
        self.require(size)
        self.spend(1 + size // 64)
        return value


_BUDGET: ContextVar[Budget] = ContextVar("budget")


@contextmanager
def budget(characters: int) -> Iterator[Budget]:
    """Render inside: a budget for a conversation of so many characters."""
    token = _BUDGET.set(Budget(characters))
    try:
        yield _BUDGET.get()
    finally:
        _BUDGET.reset(token)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox with a budget. `bounded` compiles a template for it."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, finalize=_finalize, **options)
        for name in [*self.filters]:
            self.set_filter(name, self.filters[name])
        for name in _OF_CHANCE:
            self.filters[name] = self.globals[name] = _chance(name)
        self.filters[_LOOP] = pass_context(lambda _, items: _Counted(items))
        self.filters[_SIZE] = pass_context(lambda _, value: _BUDGET.get().sized(value))

    def set_filter(self, name: str, function: Callable[..., Any]) -> None:
        """Add a filter, counted."""
        self.filters[name] = _metered(name, function)

    def bounded(self, source: str) -> Template:
        """Compile a template. Raises TemplateError where it is none."""
        tree = _Bounds().visit(self.parse(source))
        return Template.from_code(self, self.compile(tree), self.make_globals(None))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call for a template."""
        left = _BUDGET.get()
        left.spend(CALL)
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps str.format
        name, owner = getattr(method, "__name__", ""), getattr(method, "__self__", None)
        if isinstance(owner, str | bytes | int | float):
            _require_modest(name, owner, args, kwargs)
        if isinstance(__obj, LoopContext):  # a loop that calls itself
            args = tuple(_Counted(items) for items in args)
        found = super().call(__context, __obj, *args, **kwargs)
        return left.sized(found) if isinstance(found, str | bytes | list | tuple | dict | range) else found

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute for a template."""
        limit = _BUDGET.get()
        if operator == "*":
            for items, times in ((left, right), (right, left)):
                if isinstance(items, str | bytes | list | tuple) and isinstance(times, int):
                    limit.require(len(items) * max(times, 0))
        if operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
            bits = abs(left).bit_length()
            if (bits * abs(right) if operator == "**" else bits + abs(right).bit_length()) > BITS:
                raise TooMuch("it computes a number beyond any use")
        if operator == "%" and isinstance(left, str | bytes):
            _require_narrow(left, right if isinstance(right, tuple) else (right,))
        return limit.sized(super().call_binop(context, operator, left, right))


class _Bounds(NodeTransformer):
    """Counts what the sandbox cannot intercept: iterations of loops, and texts joined by `~`."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, _LOOP, [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = [_sized(part) for part in node.nodes]
        return _sized(nodes.Concat(parts, lineno=node.lineno))

    def visit_List(self, node: nodes.List | nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _sized(node)  # lists of lists of lists grow fast, and are slow to compare

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _sized(node) if node.ctx == "load" else node

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        found: nodes.Node = super().generic_visit(node, *args, **kwargs)
        return found


def _sized(node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, _SIZE, [], [], None, None, lineno=node.lineno)


class _Counted:
    """What a loop runs over; each turn is a step."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        left = _BUDGET.get()
        for item in self._items:
            left.spend()
            yield item

    def __len__(self) -> int:
        return len(self._items)


def _metered(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The filter, counted by the size of what goes in and comes out."""

    @functools.wraps(function)
    def metered(*args: Any, **kwargs: Any) -> Any:
        left = _BUDGET.get(None)
        if left is None:  # a constant that jinja2 computes while it compiles: left for later
            raise TooMuch("nothing is computed before there is a budget")
        value, *rest = args[1:] if isinstance(args[0], Context | Environment | nodes.EvalContext) else args
        left.sized(value)
        _require_modest(name, value, rest, kwargs)
        found = function(*args, **kwargs)
        return left.sized(found) if isinstance(found, str | list | tuple | dict) else found

    return metered


def _require_modest(name: str, value: Any, args: Iterable[Any], kwargs: dict[str, Any]) -> None:
    """Raise TooMuch before a method or filter makes something very large of small things."""
    left = _BUDGET.get()
    given = [*args, *kwargs.values()]
    size = _size(value, left.longest)
    numbers = [abs(item) for item in given if isinstance(item, int)]
    if numbers and (name in _WIDTHS or not isinstance(value, str | list | tuple | dict)):
        left.require(max(numbers) * (size if name in ("indent", "expandtabs") else 1))
    if name == "join":
        parts = len(value) if isinstance(value, Sized) and not isinstance(value, str) else size
        texts = [item for item in given if isinstance(item, str)]
        left.require(parts * sum(map(len, texts)))
        if isinstance(value, str):  # "x".join(list)
            left.require(len(value) * sum(len(item) for item in given if isinstance(item, Sized)))
    if name == "replace" and len(given) > 1 and isinstance(value, str):
        left.require(len(given[1]) * (value.count(given[0]) + 1) if given[0] else len(given[1]) * (size + 1))
    if name == "translate":
        raise TooMuch("it calls translate(), which is not offered")
    if name in ("format", "format_map"):
        _require_narrow(str(value), given)


def _require_narrow(form: str | bytes, given: Iterable[Any]) -> None:
    text = form.decode("latin-1") if isinstance(form, bytes) else form
    if _WIDE.search(text) or (
        re.search(r"%[^a-zA-Z%]*\*|\{[^}]*\{", text)
        and any(isinstance(item, int) and abs(item) > 10**5 for item in given)
    ):
        raise TooMuch("it formats to a width beyond any use")


def _finalize(value: Any) -> Any:
    """What a template writes, before it becomes text."""
    left = _BUDGET.get(None)
    return value if left is None else left.sized(value)


def _chance(name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise TooMuch(f"it draws by chance ({name}): the same prompt would be another at every reading")

    return refuse


def _size(value: Any, limit: int) -> int:
    """Characters and elements in a value, counted no further than just beyond `limit`."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, range):
        return 8 * len(value)
    if not isinstance(value, list | tuple | dict):
        return 1
    total, waiting = 0, [value]
    while waiting and total <= limit:
        items = waiting.pop()
        inner = [*items.keys(), *items.values()] if isinstance(items, dict) else items
        for item in inner:
            total += 8 + (len(item) if isinstance(item, str | bytes) else 0)
            if isinstance(item, list | tuple | dict):
                waiting.append(item)
    return total
