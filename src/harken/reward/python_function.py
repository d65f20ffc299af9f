"""A reward that is a plain Python function, named in the configuration as `my_reward.py:score`.

    def score(prompt: str, response: str, **details) -> float | None

`prompt` is the last user message and `response` the answer's text. A function is given those of `DETAILS` that it
names, or all of them if it takes `**details`. It returns a number, or None where it cannot judge: the part then
counts nothing.

The file is the user's own code and is run as it is: a local file that the configuration names, never one from a hub
or from a model's folder. What is hashed is what is run: the file is read once, and no cached bytecode is used.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import reprlib
import sys
import textwrap
import traceback
from collections.abc import Callable, Sequence
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

from harken.errors import NonFinite, UserError
from harken.records import Rollout, Score

DETAILS = ("prompt_id", "messages", "reference", "domain", "language", "row", "stop", "tokens")
"""What a function may ask for beside prompt and response:

the prompt's id; the conversation as [{"role": …, "content": …}]; the row's reference answer or None; its domain and
language ("" when not given); its further fields as a dict; "end_of_turn" or "length" (cut off); the response's token
ids.
"""

FORM = "def score(prompt, response, **details): return a number"
KEPT = "a run that has checkpoints keeps the function it began with"


class PythonReward:
    """The user's function as a reward source. `sha256` is that of its file.

    Raises UserError when the file or the function is not there, cannot be run, or takes other arguments.
    """

    def __init__(self, name: str, path: str, weight: float = 1.0) -> None:
        self.name, self.weight = name, weight
        written, _, self._called = path.rpartition(":")
        self._file = Path(written).expanduser().resolve()
        code = self._read()
        self.sha256 = hashlib.sha256(code).hexdigest()
        self._function = self._find(self._run(code))
        self._wants = self._details_it_takes()

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """The function's value of each rollout.

        Raises UserError, with its line, when it fails or gives no number, NonFinite when it gives NaN or infinity.
        """
        return [Score(self.name, self._value(row, r), self.weight) for row, r in enumerate(rollouts)]

    def _value(self, row: int, rollout: Rollout) -> float | None:
        given = _details(rollout)
        details = {name: given[name] for name in self._wants}
        try:
            value = self._function(rollout.prompt.last_user_message, rollout.text, **details)
        except Exception as error:
            raise self._failed(error, f" for prompt {rollout.prompt.id}", KEPT) from error
        if value is None:
            return None
        what = f"{self._called} returned {reprlib.repr(value)} ({type(value).__name__})"
        what += f" for prompt {rollout.prompt.id}"
        mend = f"return a finite number, or None where there is nothing to say; {KEPT}"
        if not isinstance(value, Real):
            raise UserError(what, where=self._where(), mend=mend)
        if not math.isfinite(value):
            raise NonFinite("reward", float(value), what=what, where=self._where(), mend=mend, row=row)
        return float(value)

    def _read(self) -> bytes:
        try:
            return self._file.read_bytes()
        except OSError as error:
            raise UserError(
                f"this file cannot be read ({error.strerror})",
                where=str(self._file),
                mend="a path is resolved from the folder the command is run in",
            ) from None

    def _run(self, code: bytes) -> ModuleType:
        """The file's module. It stands in sys.modules because dataclasses look their module up there."""
        module = ModuleType(f"harken_reward_{self.sha256[:16]}")
        module.__file__ = str(self._file)
        sys.modules[module.__name__] = module
        try:
            exec(compile(code, str(self._file), "exec", dont_inherit=True), module.__dict__)
        except SyntaxError as error:
            raise UserError(
                f"not Python: {error.msg}", where=f"{error.filename or self._file}:{error.lineno}"
            ) from error
        except Exception as error:
            mend = "put what it needs in this file, or install it: files beside it are not found"
            raise self._failed(error, "", mend if isinstance(error, ImportError) else "") from error
        return module

    def _find(self, module: ModuleType) -> Callable[..., Any]:
        found: Callable[..., Any] | None = getattr(module, self._called, None)
        if callable(found):
            return found
        there = [
            n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__
        ]
        raise UserError(
            f"no function is called {self._called} here",
            where=str(self._file),
            mend=f"there is {', '.join(there)}" if there else f"write one: {FORM}",
        )

    def _details_it_takes(self) -> tuple[str, ...]:
        try:
            signature = inspect.signature(self._function)
            kinds = {parameter.kind for parameter in signature.parameters.values()}
            every = inspect.Parameter.VAR_KEYWORD in kinds
            wants = tuple(name for name in DETAILS if every or name in signature.parameters)
            signature.bind("prompt", "response", **dict.fromkeys(wants))
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{self._called} cannot be called with a prompt, a response and details ({error})",
                where=self._where(),
                mend=f"write it as {FORM}; the details are {', '.join(DETAILS)}",
            ) from None
        return wants

    def _failed(self, error: Exception, when: str, mend: str) -> UserError:
        """What went wrong in the user's code, at the innermost of its own lines."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self._file)]
        said = textwrap.shorten(f"{type(error).__name__}: {error}", 300, placeholder=" …")
        where = f"{self._file}:{lines[-1]}" if lines else str(self._file)
        return UserError(f"{self._called} failed{when} ({said})", where=where, mend=mend)

    def _where(self) -> str:
        code = getattr(inspect.unwrap(self._function), "__code__", None)
        return f"{self._file}:{code.co_firstlineno}" if code else str(self._file)


def _details(rollout: Rollout) -> dict[str, Any]:
    """A value for each of `DETAILS`: copies, so that a function cannot change the run's records."""
    prompt = rollout.prompt
    values = (
        prompt.id,
        [message.to_dict() for message in prompt.messages],
        prompt.reference,
        prompt.domain,
        prompt.language,
        dict(prompt.details),
        rollout.stop,
        list(rollout.response_tokens),
    )
    return dict(zip(DETAILS, values, strict=True))
