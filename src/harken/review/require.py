"""Require the packages of the review server, with the command that installs them. No torch."""

from __future__ import annotations

from importlib.util import find_spec

from harken.errors import UserError

SERVER_PACKAGES = ("starlette", "uvicorn")


def require_server() -> None:
    """Raise UserError if a package of the extra `review` is not installed."""
    if missing := [name for name in SERVER_PACKAGES if find_spec(name) is None]:
        raise UserError(
            f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} not installed",
            where="harken review",
            fix="install the extra: pip install 'harken[review]'; or write a page without a server: --out pack.html",
        )
