"""Compare policies on the same prompts: responses, scores, intervals, audit. Called, it is `harken.api.evaluate`."""

import importlib
import sys
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """Let a program write `harken.evaluate({...}, prompts, reward)`, although a package has that name."""

    def __call__(self, *arguments: Any, **settings: Any) -> dict[str, Any]:
        """Evaluate policies as `harken.api.evaluate` does."""
        figures: dict[str, Any] = importlib.import_module("harken.api").evaluate(*arguments, **settings)
        return figures


sys.modules[__name__].__class__ = _Package
