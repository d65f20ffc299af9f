"""Score responses with a function object that a Python program provides, in place of one in a named file."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harken.config.rewards import PythonPart
from harken.reward.isolation import Isolation
from harken.reward.python_function import PythonReward

_PROVIDED: ContextVar[Mapping[str, Callable[..., Any]]] = ContextVar("provided", default=MappingProxyType({}))
"""Functions by their placeholder paths in the configuration."""


class ProvidedReward(PythonReward):
    """Score responses with a function object. Arguments, errors and isolation are those of `PythonReward`.

    `sha256` is the hash of its source text, or of its bytecode where Python has no source for it. Captured variables
    are not part of the hash.
    """

    def __init__(
        self, name: str, function: Callable[..., Any], weight: float = 1.0, timeout_s: float | None = None
    ) -> None:
        where = getattr(getattr(function, "__code__", None), "co_filename", "python")
        self._file = Path(where)
        self._function_name = getattr(function, "__name__", type(function).__name__)
        self._isolation = Isolation(self._file.name)
        self.sha256 = hashlib.sha256(_code(function)).hexdigest()
        self._set_function(name, function, weight, timeout_s)


@contextmanager
def provide_functions(functions: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Resolve the paths in `functions` to these functions inside the context."""
    token = _PROVIDED.set({**_PROVIDED.get(), **functions})
    try:
        yield
    finally:
        _PROVIDED.reset(token)


def open_function(part: PythonPart) -> PythonReward:
    """Return the reward source of a Python part: the provided function of its path, else the one in its file.

    Raises UserError when the function cannot be found or called.
    """
    function = _PROVIDED.get().get(part.path)
    if function is not None:
        return ProvidedReward(part.column, function, part.weight, part.timeout_s)
    return PythonReward(part.column, part.path, part.weight, part.timeout_s)


def _code(function: Callable[..., Any]) -> bytes:
    try:
        return inspect.getsource(function).encode()
    except (OSError, TypeError):
        code = getattr(function, "__code__", None)
        return repr(function).encode() if code is None else code.co_code + repr(code.co_consts).encode()
