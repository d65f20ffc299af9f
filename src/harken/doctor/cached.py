"""Cache results that checks share, errors included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from harken.doctor.check import REPORTED_ERRORS

Value = TypeVar("Value")


class cached(Generic[Value]):
    """Compute a property once. If that raises, every later access raises the same exception."""

    def __init__(self, make: Callable[[Any], Value]) -> None:
        self.make, self.__doc__ = make, make.__doc__

    @overload
    def __get__(self, context: None, owner: type) -> cached[Value]: ...
    @overload
    def __get__(self, context: object, owner: type) -> Value: ...
    def __get__(self, context: object | None, owner: type) -> Value | cached[Value]:
        if context is None:
            return self
        cache = vars(context).setdefault("_cache", {})
        if self.make.__name__ not in cache:
            try:
                cache[self.make.__name__] = (self.make(context), None)
            except REPORTED_ERRORS as raised:
                cache[self.make.__name__] = (None, raised)
        value, failure = cache[self.make.__name__]
        if failure is not None:
            raise failure
        result: Value = value
        return result
