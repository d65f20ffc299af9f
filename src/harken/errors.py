"""Define the errors that the command line prints as a single line.

`third_party_errors` turns exceptions of other libraries into a UserError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

MAX_CAUSE_LENGTH = 500
"""Maximum characters. A longer message is shortened in the middle, since its end often has the cause."""


class UserError(Exception):
    """Report a problem that the user can fix: what is wrong, where, and the fix.

    `str()` of it is one line: ``where: problem. Fix: run this``. It can always be encoded as UTF-8.
    """

    exit_code = 2
    """Exit code of the command line: the command was refused."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        head = f"{where}: " if where else ""
        tail = f". Fix: {fix}" if fix else ""
        line = " ".join(f"{head}{what.rstrip('.')}{tail}".split())
        super().__init__(line.encode("utf-8", "backslashreplace").decode())


class RunFailed(UserError):
    """Report that a running command could not finish. Its finished results are kept."""

    exit_code = 1


class UserCodeError(RunFailed):
    """Report that the user's own code failed while a command ran."""


class NonFinite(RunFailed):
    """Report a NaN or infinite value in a training step. `train.nonfinite` dumps its tensors and skips the step.

    `quantity` is its metric name. `row` and `token` (from 0) locate the value in `tensors`; None where it has no such
    index. `tensors` holds the inputs that reproduce the value, by name; the first caller that has them adds them.
    """

    def __init__(
        self,
        quantity: str,
        value: float,
        *,
        where: str,
        what: str | None = None,
        fix: str = "lower training.lr or set dtype: float32; the last checkpoint is good",
        row: int | None = None,
        token: int | None = None,
    ) -> None:
        self.quantity, self.value, self.row, self.token = quantity, value, row, token
        self.tensors: dict[str, Any] = {}
        problem = what or f"the {quantity.replace('_', ' ')} is {value}"
        super().__init__(problem, where=where, fix=fix)


class FrozenWeightsChanged(RunFailed):
    """Report frozen weights that changed during a run; `names` are their components.

    Raised after the run is saved and marked, so no result is lost.
    """

    def __init__(self, names: Sequence[str], where: str = "") -> None:
        self.names = list(names)
        super().__init__(
            f"frozen weights changed during the run: {', '.join(names)}. Its KL and rewards are not measured against "
            "one model. The run is saved, and marked in status.json and manifest.json",
            where=where,
            fix="do not rely on it: train into another --output-dir, and report this with the manifest",
        )


def describe_exception(error: BaseException, longest: int = MAX_CAUSE_LENGTH) -> str:
    """Format an exception's type and message in one line, with those of the exception it was raised from.

    Never raises, even if the exception's own `__str__` does.
    """
    text = _type_and_message(error)
    below = error.__cause__
    if below is not None and _type_and_message(below) not in text:
        text = f"{text}; from {_type_and_message(below)}"
    if len(text) > longest:
        text = f"{text[: longest * 2 // 3]} … {text[-(longest // 3) :]}"
    return text


def is_third_party_error(error: BaseException) -> bool:
    """Return whether an exception reports a failure: any Exception, or a panic of a library written in Rust.

    Such a panic (pyo3's PanicException) derives from BaseException, as do KeyboardInterrupt and SystemExit, which
    are not failures.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextmanager
def third_party_errors(what: str, where: str, fix: str) -> Iterator[None]:
    """Convert exceptions of other libraries, raised inside, to the UserError "`where`: `what` (the cause). `fix`".

    Wrap only calls into other libraries: an exception from Harken's own code is a bug and must keep its traceback.
    UserError, KeyboardInterrupt and SystemExit pass unchanged.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not is_third_party_error(error):
            raise
        raise UserError(f"{what} ({describe_exception(error)})", where=where, fix=fix) from error


def _type_and_message(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        message = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001  an exception that cannot be printed is reported by its type
        message = "its message cannot be read"
    return f"{kind}: {message}" if message else kind
