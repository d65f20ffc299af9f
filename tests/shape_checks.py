"""Check the shapes and dtypes in annotations while tests run, without making every call pay for it.

jaxtyping binds and checks each call anew: a third of the time of a test that trains a model. Each function is checked
in its first calls of every test; later calls of the same test repeat them. HARKEN_SHAPE_CHECKS=all checks every call.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

import jaxtyping

CALLS = None if os.environ.get("HARKEN_SHAPE_CHECKS") == "all" else 40
"""Checked calls of a function in one test; None: all."""
MODULES = ["batches", "inspection", "kernels", "maths", "models", "train"]


class _Test:
    number = 0


def begin_test() -> None:
    """Let every function be checked again."""
    _Test.number += 1


def install() -> None:
    """Check the modules' annotations. Has to run before they are imported."""
    original = jaxtyping.jaxtyped

    def jaxtyped(*, typechecker: Any) -> Callable[[Any], Any]:
        decorate = original(typechecker=typechecker)
        return lambda thing: decorate(thing) if inspect.isclass(thing) else _limited(thing, decorate(thing))

    if CALLS is not None:
        jaxtyping.jaxtyped = jaxtyped  # type: ignore[assignment]  # the import hook writes this name into modules
    jaxtyping.install_import_hook([f"harken.{name}" for name in MODULES], "beartype.beartype")


def _limited(plain: Callable[..., Any], checked: Callable[..., Any]) -> Callable[..., Any]:
    """Call `checked` the first times in a test, then `plain`."""
    if not inspect.isfunction(plain):
        return checked
    test, calls = -1, 0

    @functools.wraps(plain)
    def call(*args: Any, **keys: Any) -> Any:
        nonlocal test, calls
        if test != _Test.number:
            test, calls = _Test.number, 0
        if calls >= (CALLS or 0):
            return plain(*args, **keys)
        calls += 1
        return checked(*args, **keys)

    return call
