"""A reward that is a plain Python function, named in the configuration as `my_reward.py:score`.

    def score(prompt: str, response: str, **details) -> float | None
    async def score(prompt: str, response: str, **details) -> float | None

`prompt` is the last user message and `response` the answer's text. A function is given those of `DETAILS` that it
names, or all of them if it takes `**details`. It returns a number, or None where it cannot judge: the part then
counts nothing. The calls of an async function for one batch of answers run at the same time.

The file is the user's own code and is run as it is: a local file that the configuration names, never one from a hub
or from a model's folder. What is hashed is what is run: the file is read once, and no cached bytecode is used.
`isolation` keeps what it does to the process from the rest of the run.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from harken.errors import NonFinite, UserCodeError, UserError, describe_exception
from harken.records import Rollout, Score
from harken.reward.isolation import Isolation
from harken.reward.return_value import as_reward, shown
from harken.reward.time_limit import TimeIsUp, time_limit
from harken.run import signals
from harken.seeds import derive_seed

DETAILS = ("prompt_id", "messages", "reference", "domain", "language", "row", "stop", "tokens")
"""What a function may ask for beside prompt and response:

the prompt's id; the conversation as [{"role": …, "content": …}]; the row's reference answer or None; its domain and
language ("" when not given); its further fields as a dict; "end_of_turn" or "length" (cut off); the response's token
ids.
"""

FORM = "def score(prompt, response, **details): return a number"
CORRECT_FUNCTION_FIX = (
    "correct it; a run that has checkpoints goes on with the new function under --accept-changes"
)
SINGLE_FILE_FIX = "put what it needs in this file, or install it: files beside it are not found"


class PythonReward:
    """The user's function as a reward source. `sha256` is that of its file.

    Raises UserError when the file or the function is not there, cannot be run, or takes other arguments.
    """

    def __init__(self, name: str, path: str, weight: float = 1.0, timeout_s: float | None = None) -> None:
        self.name, self.weight, self._timeout = name, weight, timeout_s
        written, _, self._called = path.rpartition(":")
        self._file = Path(written).expanduser().resolve()
        self._isolation = Isolation(self._file.name)
        code = self._read()
        self.sha256 = hashlib.sha256(code).hexdigest()
        self._function = self._find(self._run(code))
        self._wants = self._details_it_takes()
        called = inspect.unwrap(self._function) if inspect.isfunction(self._function) else self._function
        self._is_async = inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(
            getattr(type(called), "__call__", None)  # noqa: B004  whether calling an instance is async
        )

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """The function's value of each rollout.

        Raises UserCodeError, with its line, when it fails, takes too long or gives no number, NonFinite when it gives
        NaN or infinity.
        """
        with self._isolation.calling():
            if self._is_async:
                values = self._all_at_once(rollouts)
            else:
                values = [self._value(row, rollout) for row, rollout in enumerate(rollouts)]
        return [Score(self.name, value, self.weight) for value in values]

    def _value(self, row: int, rollout: Rollout) -> float | None:
        signals.raise_if_stopped()
        arguments, details = self._arguments(rollout)
        self._isolation.begin_call(_seed(rollout))
        with self._failing(rollout), time_limit(self._timeout, f"{self._file}: {self._called}"):
            returned = _Returned.of(self._function(*arguments, **details))
        return self._reward(row, rollout, returned)

    def _all_at_once(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """The values of an async function: its calls wait for one another nowhere."""

        async def one(rollout: Rollout) -> _Returned | BaseException:
            arguments, details = self._arguments(rollout)
            try:
                async with asyncio.timeout(self._timeout) as limit:
                    return _Returned.of(await self._function(*arguments, **details))
            except BaseException as error:
                if self._isolation.is_request(error):
                    raise
                return TimeIsUp() if limit.expired() else error

        async def every() -> list[_Returned | BaseException]:
            return await asyncio.gather(*(one(rollout) for rollout in rollouts))

        signals.raise_if_stopped()
        if not rollouts:
            return []
        whole = None if self._timeout is None else self._timeout * len(rollouts)
        self._isolation.begin_call(_seed(*rollouts))
        with self._failing(rollouts[0]), time_limit(whole, f"{self._file}: {self._called}"):
            found = asyncio.run(every())
        values = []
        for row, (rollout, returned) in enumerate(zip(rollouts, found, strict=True)):
            with self._failing(rollout):
                if isinstance(returned, BaseException):
                    raise returned
            values.append(self._reward(row, rollout, returned))
        return values

    def _arguments(self, rollout: Rollout) -> tuple[tuple[str, str], dict[str, Any]]:
        given = _details(rollout)
        return (rollout.prompt.last_user_message, rollout.text), {name: given[name] for name in self._wants}

    def _reward(self, row: int, rollout: Rollout, returned: _Returned) -> float | None:
        what = f"{self._called} returned {returned.text} for prompt {rollout.prompt.id}"
        fix = f"return a finite number, or None where there is nothing to say; {CORRECT_FUNCTION_FIX}"
        if returned.refused:
            raise UserCodeError(what, where=self._where(), fix=fix)
        value = returned.value
        if value is not None and not math.isfinite(value):
            raise NonFinite("reward", value, what=what, where=self._where(), fix=fix, row=row)
        return value

    @contextmanager
    def _failing(self, rollout: Rollout) -> Iterator[None]:
        """Whatever the code inside ends with is its own failure, with one exception: a request to stop."""
        when = f" for prompt {rollout.prompt.id}"
        try:
            yield
        except TimeIsUp as error:
            what = f"{self._called} took longer than timeout_s: {self._timeout:g}{when}"
            fix = f"raise timeout_s, or bound what it waits for; {CORRECT_FUNCTION_FIX}"
            raise UserCodeError(what, where=self._line(error), fix=fix) from error
        except BaseException as error:
            if self._isolation.is_request(error):
                raise
            what = f"{self._called} failed{when} ({describe_exception(error)})"
            raise UserCodeError(what, where=self._line(error), fix=CORRECT_FUNCTION_FIX) from error

    def _read(self) -> bytes:
        fix = "a path is resolved from the folder the command is run in"
        if self._file.exists() and not self._file.is_file():
            raise UserError("this is no file", where=str(self._file), fix=f"name a Python file; {fix}")
        try:
            return self._file.read_bytes()
        except OSError as error:
            raise UserError(
                f"this file cannot be read ({error.strerror})", where=str(self._file), fix=fix
            ) from None

    def _run(self, code: bytes) -> ModuleType:
        """The file's module. It stands in sys.modules because dataclasses look their module up there."""
        module = ModuleType(f"harken_reward_{self.sha256[:16]}")
        module.__file__ = str(self._file)
        sys.modules[module.__name__] = module
        try:
            with self._isolation.importing():
                exec(compile(code, str(self._file), "exec", dont_inherit=True), module.__dict__)
        except SyntaxError as error:
            where = f"{error.filename or self._file}" + (f":{error.lineno}" if error.lineno else "")
            fix = "`python -m py_compile FILE` shows the place"
            raise UserError(f"not Python: {error.msg}", where=where, fix=fix) from error
        except BaseException as error:
            if self._isolation.is_request(error):
                raise
            fix = (
                SINGLE_FILE_FIX
                if isinstance(error, ImportError)
                else "run it with `python FILE` to see it whole"
            )
            raise UserError(
                f"this file failed when it was run ({describe_exception(error)})",
                where=self._line(error),
                fix=fix,
            ) from error
        return module

    def _find(self, module: ModuleType) -> Callable[..., Any]:
        found: Callable[..., Any] | None = vars(module).get(self._called)
        if callable(found):
            return found
        there = [
            n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__
        ]
        raise UserError(
            f"no function is called {self._called} here",
            where=str(self._file),
            fix=f"there is {', '.join(there)}" if there else f"write one: {FORM}",
        )

    def _details_it_takes(self) -> tuple[str, ...]:
        if inspect.isgeneratorfunction(self._function) or inspect.isasyncgenfunction(self._function):
            raise UserError(
                f"{self._called} is a generator",
                where=self._where(),
                fix="write `return` in place of `yield`",
            )
        try:
            signature = inspect.signature(self._function)
            kinds = {parameter.kind for parameter in signature.parameters.values()}
            every = inspect.Parameter.VAR_KEYWORD in kinds
            wants = tuple(name for name in DETAILS if every or name in signature.parameters)
            signature.bind("prompt", "response", **dict.fromkeys(wants))
        except Exception as error:
            raise UserError(
                f"{self._called} cannot be called with a prompt, a response and details ({describe_exception(error)})",
                where=self._where(),
                fix=f"write it as {FORM}; the details are {', '.join(DETAILS)}",
            ) from error
        return wants

    def _line(self, error: BaseException) -> str:
        """The innermost of the file's own lines that an exception passed."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self._file)]
        return f"{self._file}:{lines[-1]}" if lines else self._where()

    def _where(self) -> str:
        called = getattr(self, "_function", None)
        try:
            code = getattr(inspect.unwrap(called), "__code__", None) if called is not None else None
        except ValueError:  # it wraps itself
            code = None
        return f"{self._file}:{code.co_firstlineno}" if code else str(self._file)


class _Returned:
    """What a call gave: converted while the code is still isolated, for `__float__` and `__repr__` are its code too."""

    def __init__(self, value: float | None, text: str, refused: bool) -> None:
        self.value, self.text, self.refused = value, text, refused

    @classmethod
    def of(cls, returned: Any) -> _Returned:
        """Whatever the function returned."""
        try:
            value = as_reward(returned)
        except TypeError as error:
            if inspect.iscoroutine(returned):
                returned.close()  # or Python warns that nobody awaited it
            return cls(None, str(error), refused=True)
        return cls(value, "" if value is None or math.isfinite(value) else shown(returned), refused=False)


def _details(rollout: Rollout) -> dict[str, Any]:
    """A value for each of `DETAILS`: copies all through, so that a function cannot change the run's records."""
    prompt = rollout.prompt
    values = (
        prompt.id,
        [message.to_dict() for message in prompt.messages],
        prompt.reference,
        prompt.domain,
        prompt.language,
        copy.deepcopy(dict(prompt.details)),
        rollout.stop,
        list(rollout.response_tokens),
    )
    return dict(zip(DETAILS, values, strict=True))


def _seed(*rollouts: Rollout) -> int:
    """Of the global generators during a call: a function of what is scored alone, so a resumed run draws the same."""
    names = [name for r in rollouts for name in (r.policy_version, r.prompt.id, r.sample, r.response_tokens)]
    return derive_seed(0, "reward function", *names)
