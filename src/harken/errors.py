"""What a user can mend, as one exception, and its kind for numbers. The command line prints it as a single line."""

from __future__ import annotations

from typing import Any


class UserError(Exception):
    """Something the user can mend: what is wrong, where, and how to mend it.

    `str()` of it is one line: ``where: what. mend``.
    """

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        head = f"{where}: " if where else ""
        tail = f". {mend}" if mend else ""
        super().__init__(" ".join(f"{head}{what.rstrip('.')}{tail}".split()))


class NonFinite(UserError):
    """A number of a training step is NaN or infinite. `train.guard` writes down what shows it, and skips the step.

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
        mend: str = "lower training.lr or set dtype: float32; the last checkpoint is good",
        row: int | None = None,
        token: int | None = None,
    ) -> None:
        self.quantity, self.value, self.row, self.token = quantity, value, row, token
        self.tensors: dict[str, Any] = {}
        said = what or f"the {quantity.replace('_', ' ')} is {value}"
        super().__init__(said, where=where, mend=mend)
