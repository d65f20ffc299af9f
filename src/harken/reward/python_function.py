"""Score responses with a Python function, named in the configuration as `my_reward.py:score`.

    def score(prompt: str, response: str, **details) -> float | None
    async def score(prompt: str, response: str, **details) -> float | None

`prompt` is the last user message and `response` the response's text. A function receives the `DETAILS` that it
names, or all of them if it takes `**details`. It returns a number, or None: this source adds 0.
The calls of an async function for one batch of responses run concurrently.

The file is the user's own code and runs unchanged: a local file that the configuration names, never one from a hub
or a model's folder. It is read once and no cached bytecode is used, so the hashed code is the code that runs.
`isolation` shields the rest of the run from its changes to the process.
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
from harken.reward.return_value import as_reward, describe_value
from harken.reward.time_limit import CallTimeout, time_limit
from harken.run import signals
from harken.seeds import derive_seed

DETAILS = ("prompt_id", "messages", "reference", "domain", "language", "row", "stop", "tokens")
"""Arguments a function may take besides prompt and response, in this order:

the prompt's id; the conversation as [{"role": …, "content": …}]; the row's reference response or None; its domain and
language ("" when not given); its other fields as a dict; "end_of_turn" or "length" (truncated); the response's token
ids.
"""

SIGNATURE = "def score(prompt, response, **details): return a number"
CORRECT_FUNCTION_FIX = "correct the function; harken train --accept-changes resumes a run with the new one"
SINGLE_FILE_FIX = "put its imports into this file, or install them: neighbouring files cannot be imported"


class PythonReward:
    """Score responses with the user's function. `sha256` is the hash of its file.

    Raises UserError when the file or the function does not exist, fails when imported, or takes other arguments.
    """

    def __init__(self, name: str, path: str, weight: float = 1.0, timeout_s: float | None = None) -> None:
        file, _, self._function_name = path.rpartition(":")
        self._file = Path(file).expanduser().resolve()
        self._isolation = Isolation(self._file.name)
        code = self._read()
        self.sha256 = hashlib.sha256(code).hexdigest()
        self._set_function(name, self._find_function(self._import_module(code)), weight, timeout_s)

    def _set_function(
        self, name: str, function: Callable[..., Any], weight: float, timeout_s: float | None
    ) -> None:
        self.name, self.weight, self._timeout, self._function = name, weight, timeout_s, function
        self._details = self._requested_details()
        called = inspect.unwrap(self._function) if inspect.isfunction(self._function) else self._function
        self._is_async = inspect.iscoroutinefunction(called) or inspect.iscoroutinefunction(
            getattr(type(called), "__call__", None)  # noqa: B004  whether calling an instance is async
        )

    def score(self, rollouts: Sequence[Rollout]) -> list[Score]:
        """Call the function for each rollout.

        Raises UserCodeError, naming its line, when it fails, takes too long or returns no number, and NonFinite when
        it returns NaN or infinity.
        """
        with self._isolation.calling():
            if self._is_async:
                values = self._call_concurrently(rollouts)
            else:
                values = [self._call(row, rollout) for row, rollout in enumerate(rollouts)]
        return [Score(self.name, value, self.weight) for value in values]

    def _call(self, row: int, rollout: Rollout) -> float | None:
        """Call the reward function for one rollout; return its value."""
        signals.raise_if_stopped()
        arguments, details = self._arguments(rollout)
        self._isolation.begin_call(_seed(rollout))
        with (
            self._user_code_errors(rollout),
            time_limit(self._timeout, f"{self._file}: {self._function_name}"),
        ):
            returned = _ReturnValue.from_returned(self._function(*arguments, **details))
        return self._reward(row, rollout, returned)

    def _call_concurrently(self, rollouts: Sequence[Rollout]) -> list[float | None]:
        """Run all calls of an async function concurrently; return their values."""

        async def call(rollout: Rollout) -> _ReturnValue | BaseException:
            arguments, details = self._arguments(rollout)
            try:
                async with asyncio.timeout(self._timeout) as limit:
                    return _ReturnValue.from_returned(await self._function(*arguments, **details))
            except BaseException as error:
                if self._isolation.is_stop_request(error):
                    raise
                return CallTimeout() if limit.expired() else error

        async def gather_all() -> list[_ReturnValue | BaseException]:
            return await asyncio.gather(*(call(rollout) for rollout in rollouts))

        signals.raise_if_stopped()
        if not rollouts:
            return []
        total_timeout = None if self._timeout is None else self._timeout * len(rollouts)
        self._isolation.begin_call(_seed(*rollouts))
        with (
            self._user_code_errors(rollouts[0]),
            time_limit(total_timeout, f"{self._file}: {self._function_name}"),
        ):
            results = asyncio.run(gather_all())
        values = []
        for row, (rollout, returned) in enumerate(zip(rollouts, results, strict=True)):
            with self._user_code_errors(rollout):
                if isinstance(returned, BaseException):
                    raise returned
            values.append(self._reward(row, rollout, returned))
        return values

    def _arguments(self, rollout: Rollout) -> tuple[tuple[str, str], dict[str, Any]]:
        details = _details(rollout)
        return (rollout.prompt.last_user_message, rollout.text), {
            name: details[name] for name in self._details
        }

    def _reward(self, row: int, rollout: Rollout, returned: _ReturnValue) -> float | None:
        problem = f"{self._function_name} returned {returned.text} for prompt {rollout.prompt.id}"
        fix = f"return a finite number, or None for no score; {CORRECT_FUNCTION_FIX}"
        if returned.is_invalid:
            raise UserCodeError(problem, where=self._where_defined(), fix=fix)
        value = returned.value
        if value is not None and not math.isfinite(value):
            raise NonFinite("reward", value, what=problem, where=self._where_defined(), fix=fix, row=row)
        return value

    @contextmanager
    def _user_code_errors(self, rollout: Rollout) -> Iterator[None]:
        """Turn any exception inside into a UserCodeError, except a request to stop."""
        when = f" for prompt {rollout.prompt.id}"
        try:
            yield
        except CallTimeout as error:
            problem = f"{self._function_name} took longer than timeout_s: {self._timeout:g}{when}"
            fix = f"raise timeout_s, or set a timeout on what it waits for; {CORRECT_FUNCTION_FIX}"
            raise UserCodeError(problem, where=self._where_raised(error), fix=fix) from error
        except BaseException as error:
            if self._isolation.is_stop_request(error):
                raise
            problem = f"{self._function_name} failed{when} ({describe_exception(error)})"
            raise UserCodeError(problem, where=self._where_raised(error), fix=CORRECT_FUNCTION_FIX) from error

    def _read(self) -> bytes:
        fix = "correct the path: a relative one starts at the working directory"
        if self._file.exists() and not self._file.is_file():
            raise UserError("this is not a file", where=str(self._file), fix=f"name a Python file, or {fix}")
        try:
            return self._file.read_bytes()
        except OSError as error:
            raise UserError(
                f"this file cannot be read ({error.strerror})", where=str(self._file), fix=fix
            ) from None

    def _import_module(self, code: bytes) -> ModuleType:
        """Run the file as a module. It is added to sys.modules because dataclasses look up their module there."""
        module = ModuleType(f"harken_reward_{self.sha256[:16]}")
        module.__file__ = str(self._file)
        sys.modules[module.__name__] = module
        try:
            with self._isolation.importing():
                exec(compile(code, str(self._file), "exec", dont_inherit=True), module.__dict__)
        except SyntaxError as error:
            where = f"{error.filename or self._file}" + (f":{error.lineno}" if error.lineno else "")
            fix = "correct the line that `python -m py_compile FILE` shows"
            raise UserError(f"not valid Python: {error.msg}", where=where, fix=fix) from error
        except BaseException as error:
            if self._isolation.is_stop_request(error):
                raise
            fix = SINGLE_FILE_FIX if isinstance(error, ImportError) else "see the traceback of `python FILE`"
            raise UserError(
                f"this file failed when it was imported ({describe_exception(error)})",
                where=self._where_raised(error),
                fix=fix,
            ) from error
        return module

    def _find_function(self, module: ModuleType) -> Callable[..., Any]:
        function: Callable[..., Any] | None = vars(module).get(self._function_name)
        if callable(function):
            return function
        functions = [
            n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__
        ]
        raise UserError(
            f"there is no function {self._function_name} in this file",
            where=str(self._file),
            fix=f"name one of: {', '.join(functions)}" if functions else f"write one: {SIGNATURE}",
        )

    def _requested_details(self) -> tuple[str, ...]:
        if inspect.isgeneratorfunction(self._function) or inspect.isasyncgenfunction(self._function):
            raise UserError(
                f"{self._function_name} is a generator",
                where=self._where_defined(),
                fix="write `return` in place of `yield`",
            )
        try:
            signature = inspect.signature(self._function)
            kinds = {parameter.kind for parameter in signature.parameters.values()}
            takes_all = inspect.Parameter.VAR_KEYWORD in kinds
            wants = tuple(name for name in DETAILS if takes_all or name in signature.parameters)
            signature.bind("prompt", "response", **dict.fromkeys(wants))
        except Exception as error:
            raise UserError(
                f"{self._function_name} does not take a prompt, a response and details ({describe_exception(error)})",
                where=self._where_defined(),
                fix=f"write it as {SIGNATURE}; the details are {', '.join(DETAILS)}",
            ) from error
        return wants

    def _where_raised(self, error: BaseException) -> str:
        """Return the innermost line of the file in an exception's traceback."""
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(self._file)]
        return f"{self._file}:{lines[-1]}" if lines else self._where_defined()

    def _where_defined(self) -> str:
        called = getattr(self, "_function", None)
        try:
            code = getattr(inspect.unwrap(called), "__code__", None) if called is not None else None
        except ValueError:  # its __wrapped__ is itself
            code = None
        return f"{self._file}:{code.co_firstlineno}" if code else str(self._file)


class _ReturnValue:
    """Value that a call returned.

    It is converted while the code is isolated, because `__float__` and `__repr__` are the user's code too.
    """

    def __init__(self, value: float | None, text: str, is_invalid: bool) -> None:
        self.value, self.text, self.is_invalid = value, text, is_invalid

    @classmethod
    def from_returned(cls, returned: Any) -> _ReturnValue:
        """Convert the returned value."""
        try:
            value = as_reward(returned)
        except TypeError as error:
            if inspect.iscoroutine(returned):
                returned.close()  # or Python warns that it was never awaited
            return cls(None, str(error), is_invalid=True)
        return cls(
            value, "" if value is None or math.isfinite(value) else describe_value(returned), is_invalid=False
        )


def _details(rollout: Rollout) -> dict[str, Any]:
    """Return a value for each of `DETAILS`, copied so that a function cannot change the run's records."""
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
    """Return the seed of the global generators during a call.

    It depends only on the rollouts, so a resumed run draws the same numbers.
    """
    names = [name for r in rollouts for name in (r.policy_version, r.prompt.id, r.sample, r.response_tokens)]
    return derive_seed(0, "reward function", *names)
