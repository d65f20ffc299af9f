"""The one exception a user's own mistake may raise. The command line prints it as a single line."""


class UserError(Exception):
    """Something the user can mend: what is wrong, where, and how to mend it.

    `str()` of it is one line: ``where: what. mend``.
    """

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        head = f"{where}: " if where else ""
        tail = f". {mend}" if mend else ""
        super().__init__(" ".join(f"{head}{what.rstrip('.')}{tail}".split()))
