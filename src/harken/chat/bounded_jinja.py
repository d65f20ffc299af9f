"""Run jinja2 templates in a sandbox with a budget for loops, calls, filters and sizes.

The budget counts steps, not seconds, so that a template is refused on every machine or on none. Large results are
refused before they are built.
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

MAX_STEPS = 1_000_000
"""Iterations, calls and filters per rendering, about a second; more for a long conversation."""
CALL_STEPS = 5
"""Cost of a call, in steps."""
MAX_CHARACTERS = 1_000_000
"""Largest intermediate or final text; more for a long conversation. A list element counts as eight characters."""
MAX_INTEGER_BITS = 4096
"""Largest integer."""
_LOOP, _SIZE = "harken_loop", "harken_size"
_HUGE_WIDTH = re.compile(r"\d{6,}")
_SIZING_METHODS = ("center", "ljust", "rjust", "zfill", "expandtabs", "indent", "wordwrap", "batch", "slice")
_RANDOM_NAMES = ("random", "shuffle", "lipsum")


class TemplateLimitExceeded(TemplateError):
    """Report a template that exceeds its limits or calls a forbidden function."""


class Budget:
    """Count the steps and characters of one rendering."""

    def __init__(self, characters: int) -> None:
        self.steps = MAX_STEPS + 16 * characters
        self.max_size = MAX_CHARACTERS + 8 * characters
        self.written = 0

    def spend(self, steps: int = 1) -> None:
        """Spend steps. Raises TemplateLimitExceeded when none are left."""
        self.steps -= steps
        if self.steps < 0:
            raise TemplateLimitExceeded("it does not end: it exceeds the limit on loops and calls")

    def write(self, piece: str) -> None:
        """Count output characters. Raises TemplateLimitExceeded when the output is too long."""
        self.written += len(piece)
        self.require(self.written)

    def require(self, size: int) -> None:
        """Raise TemplateLimitExceeded for a text or a list larger than the limit."""
        if size > self.max_size:
            raise TemplateLimitExceeded(f"it writes too much: more than {self.max_size:,} characters")

    def charge(self, value: Any) -> Any:
        """Charge for handling a value, and return it. Raises TemplateLimitExceeded for one that is too large."""
        size = _size(value, self.max_size)
        self.require(size)
        self.spend(1 + size // 64)
        return value


_CURRENT_BUDGET: ContextVar[Budget] = ContextVar("budget")


@contextmanager
def budget(characters: int) -> Iterator[Budget]:
    """Set the budget for rendering a conversation of this many characters inside."""
    token = _CURRENT_BUDGET.set(Budget(characters))
    try:
        yield _CURRENT_BUDGET.get()
    finally:
        _CURRENT_BUDGET.reset(token)


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Sandbox templates with a budget. `bounded` compiles a template for it."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, finalize=_finalize, **options)
        for name in [*self.filters]:
            self.set_filter(name, self.filters[name])
        for name in _RANDOM_NAMES:
            self.filters[name] = self.globals[name] = _refuse_random(name)
        self.filters[_LOOP] = pass_context(lambda _, items: _CountedIterable(items))
        self.filters[_SIZE] = pass_context(lambda _, value: _CURRENT_BUDGET.get().charge(value))

    def set_filter(self, name: str, function: Callable[..., Any]) -> None:
        """Add a filter whose calls are charged to the budget."""
        self.filters[name] = _metered(name, function)

    def bounded(self, source: str) -> Template:
        """Compile a template. Raises TemplateError for a syntax error."""
        tree = _CountingTransformer().visit(self.parse(source))
        return Template.from_code(self, self.compile(tree), self.make_globals(None))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function on behalf of a template, charged to the budget."""
        budget_left = _CURRENT_BUDGET.get()
        budget_left.spend(CALL_STEPS)
        method = getattr(__obj, "__wrapped__", __obj)  # the sandbox wraps str.format
        name, owner = getattr(method, "__name__", ""), getattr(method, "__self__", None)
        if isinstance(owner, str | bytes | int | float):
            _require_small_result(name, owner, args, kwargs)
        if isinstance(__obj, LoopContext):  # a loop that calls itself
            args = tuple(_CountedIterable(items) for items in args)
        result = super().call(__context, __obj, *args, **kwargs)
        return (
            budget_left.charge(result)
            if isinstance(result, str | bytes | list | tuple | dict | range)
            else result
        )

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Evaluate a binary operator on behalf of a template, charged to the budget."""
        limit = _CURRENT_BUDGET.get()
        if operator == "*":
            for items, times in ((left, right), (right, left)):
                if isinstance(items, str | bytes | list | tuple) and isinstance(times, int):
                    limit.require(len(items) * max(times, 0))
        if operator in ("*", "**") and isinstance(left, int) and isinstance(right, int):
            bits = abs(left).bit_length()
            if (bits * abs(right) if operator == "**" else bits + abs(right).bit_length()) > MAX_INTEGER_BITS:
                raise TemplateLimitExceeded(f"it computes an integer of more than {MAX_INTEGER_BITS} bits")
        if operator == "%" and isinstance(left, str | bytes):
            _require_small_width(left, right if isinstance(right, tuple) else (right,))
        return limit.charge(super().call_binop(context, operator, left, right))


class _CountingTransformer(NodeTransformer):
    """Count what the sandbox cannot intercept: loop iterations, and texts joined by `~`."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        node.iter = nodes.Filter(node.iter, _LOOP, [], [], None, None, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        parts = [_charged(part) for part in node.nodes]
        return _charged(nodes.Concat(parts, lineno=node.lineno))

    def visit_List(self, node: nodes.List | nodes.Dict) -> nodes.Node:
        self.generic_visit(node)
        return _charged(node)  # nested lists grow fast and are slow to compare

    visit_Dict = visit_List

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:
        self.generic_visit(node)
        return _charged(node) if node.ctx == "load" else node

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        visited: nodes.Node = super().generic_visit(node, *args, **kwargs)
        return visited


def _charged(node: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, _SIZE, [], [], None, None, lineno=node.lineno)


class _CountedIterable:
    """Count each iteration of a loop as a step."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        budget_left = _CURRENT_BUDGET.get()
        for item in self._items:
            budget_left.spend()
            yield item

    def __len__(self) -> int:
        return len(self._items)


def _metered(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Charge a filter by the sizes of its input and output."""

    @functools.wraps(function)
    def metered(*args: Any, **kwargs: Any) -> Any:
        budget_left = _CURRENT_BUDGET.get(None)
        if budget_left is None:  # jinja2 folds constants while it compiles; raising defers this to rendering
            raise TemplateLimitExceeded("filters run only within a budget")
        value, *operands = (
            args[1:] if isinstance(args[0], Context | Environment | nodes.EvalContext) else args
        )
        budget_left.charge(value)
        _require_small_result(name, value, operands, kwargs)
        result = function(*args, **kwargs)
        return budget_left.charge(result) if isinstance(result, str | list | tuple | dict) else result

    return metered


def _require_small_result(name: str, value: Any, args: Iterable[Any], kwargs: dict[str, Any]) -> None:
    """Raise TemplateLimitExceeded before a method or filter builds a very large result from small inputs."""
    budget_left = _CURRENT_BUDGET.get()
    operands = [*args, *kwargs.values()]
    size = _size(value, budget_left.max_size)
    numbers = [abs(item) for item in operands if isinstance(item, int)]
    if numbers and (name in _SIZING_METHODS or not isinstance(value, str | list | tuple | dict)):
        budget_left.require(max(numbers) * (size if name in ("indent", "expandtabs") else 1))
    if name == "join":
        parts = len(value) if isinstance(value, Sized) and not isinstance(value, str) else size
        texts = [item for item in operands if isinstance(item, str)]
        budget_left.require(parts * sum(map(len, texts)))
        if isinstance(value, str):  # "x".join(list)
            budget_left.require(len(value) * sum(len(item) for item in operands if isinstance(item, Sized)))
    if name == "replace" and len(operands) > 1 and isinstance(value, str):
        budget_left.require(
            len(operands[1]) * (value.count(operands[0]) + 1)
            if operands[0]
            else len(operands[1]) * (size + 1)
        )
    if name == "translate":
        raise TemplateLimitExceeded("it calls translate(), which is not offered")
    if name in ("format", "format_map"):
        _require_small_width(str(value), operands)


def _require_small_width(form: str | bytes, operands: Iterable[Any]) -> None:
    text = form.decode("latin-1") if isinstance(form, bytes) else form
    if _HUGE_WIDTH.search(text) or (
        re.search(r"%[^a-zA-Z%]*\*|\{[^}]*\{", text)
        and any(isinstance(item, int) and abs(item) > 10**5 for item in operands)
    ):
        raise TemplateLimitExceeded("it formats to a width of more than 100,000 characters")


def _finalize(value: Any) -> Any:
    """Charge an output value to the budget before it becomes text."""
    budget_left = _CURRENT_BUDGET.get(None)
    return value if budget_left is None else budget_left.charge(value)


def _refuse_random(name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise TemplateLimitExceeded(
            f"it draws at random ({name}): the prompt would differ at every rendering"
        )

    return refuse


def _size(value: Any, limit: int) -> int:
    """Count the characters and elements of a value, stopping just beyond `limit`."""
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
