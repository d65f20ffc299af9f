"""What a user can mend, as one exception, and its kind for numbers. The command line prints it as a single line.

Also the one boundary to other libraries: inside `foreign`, whatever they raise becomes such a line, with its cause.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

LONGEST_CAUSE = 500
"""Characters of a cause. A longer one loses its middle: the beginning says what, the end often why."""


class UserError(Exception):
    """Something the user can fix: what is wrong, where, and how to mend it.

    `str()` of it is one line: ``where: what. mend``. It can always be written as UTF-8.
    """

    exit_code = 2
    """Of the command line: the command was refused."""

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        head = f"{where}: " if where else ""
        tail = f". {fix}" if fix else ""
        line = " ".join(f"{head}{what.rstrip('.')}{tail}".split())
        super().__init__(line.encode("utf-8", "backslashreplace").decode())


class RunFailed(UserError):
    """The command was at work, and could not finish. What it had finished is kept."""

    exit_code = 1


class UserCodeError(RunFailed):
    """Code of the user's own failed while the command was at work."""


class NonFinite(RunFailed):
    """A number of a training step is NaN or infinite. `train.nonfinite` writes down what shows it, and skips the step.

    `quantity` is its name among the metrics. `row` and `token` (from 0) say where it stands in `tensors`, each None
    where it has no such place. `tensors` are those that show it again, by name: whoever first has them adds them.
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
        said = what or f"the {quantity.replace('_', ' ')} is {value}"
        super().__init__(said, where=where, fix=fix)


class FrozenWeightsMoved(RunFailed):
    """Weights that had to stay as they were have changed during a run; `names` are their components.

    Raised after the run is saved and marked, so that nothing is lost.
    """

    def __init__(self, names: Sequence[str], where: str = "") -> None:
        self.names = list(names)
        super().__init__(
            f"frozen weights changed during the run: {', '.join(names)}. Its KL and rewards are not measured against "
            "one model. The run is saved, and marked in status.json and manifest.json",
            where=where,
            fix="do not rely on it: train into another --output-dir, and report this with the manifest",
        )


def cause(error: BaseException, longest: int = LONGEST_CAUSE) -> str:
    """The kind and the whole message of an exception in one line, with the one it was raised from.

    Never raises, whatever the exception's own `__str__` does.
    """
    text = _told(error)
    below = error.__cause__
    if below is not None and _told(below) not in text:
        text = f"{text}; from {_told(below)}"
    if len(text) > longest:
        text = f"{text[: longest * 2 // 3]} … {text[-(longest // 3) :]}"
    return text


def is_third_party_error(error: BaseException) -> bool:
    """Whether an exception tells of a fault: any Exception, or a panic of a library written in Rust.

    Such a panic (pyo3's PanicException) is a BaseException beside KeyboardInterrupt and SystemExit, which are none.
    """
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextmanager
def third_party_errors(what: str, where: str, fix: str) -> Iterator[None]:
    """Call other libraries inside: what they raise becomes the UserError "`where`: `what` (the cause). `mend`".

    Only for their calls: an exception from Harken's own code is a bug and must stay visible as one. A UserError and
    requests to stop (KeyboardInterrupt, SystemExit) pass.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not is_third_party_error(error):
            raise
        raise UserError(f"{what} ({cause(error)})", where=where, fix=fix) from error


def _told(error: BaseException) -> str:
    kind = type(error).__name__
    try:
        said = " ".join(str(error).split())
    except BaseException:  # noqa: BLE001  an exception that cannot be printed is told by its kind
        said = "its message cannot be read"
    return f"{kind}: {said}" if said else kind
