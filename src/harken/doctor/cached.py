"""Parts of a subject, made when a check first asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from harken.doctor.check import FAULTS

Value = TypeVar("Value")


class part(Generic[Value]):
    """A property that is made once. If making it fails, it fails again with the very same exception."""

    def __init__(self, make: Callable[[Any], Value]) -> None:
        self.make, self.__doc__ = make, make.__doc__

    @overload
    def __get__(self, context: None, owner: type) -> part[Value]: ...
    @overload
    def __get__(self, context: object, owner: type) -> Value: ...
    def __get__(self, context: object | None, owner: type) -> Value | part[Value]:
        if context is None:
            return self
        kept = vars(context).setdefault("_parts", {})
        if self.make.__name__ not in kept:
            try:
                kept[self.make.__name__] = (self.make(context), None)
            except FAULTS as fault:
                kept[self.make.__name__] = (None, fault)
        value, failed = kept[self.make.__name__]
        if failed is not None:
            raise failed
        made: Value = value
        return made
