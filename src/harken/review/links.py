"""Keep the raters' tokens and the port of a review, so that links stay valid after a restart. No torch."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harken.run import atomic, json_io
from harken.run.json_io import Schema

FIX_LINKS = "delete the file: new links are made"
TOKEN_BYTES = 24


class _LinksFile(Schema):
    port: int
    tokens: dict[str, str]


@dataclass(frozen=True)
class RaterLinks:
    """Hold a token for each rater. Who has a token votes as that rater."""

    port: int
    tokens: Mapping[str, str]

    def rater_of(self, token: str) -> str | None:
        """Return the rater of a token, None for an unknown one; the time it takes does not depend on the token."""
        matching_rater = None
        for rater, rater_token in self.tokens.items():
            if hmac.compare_digest(rater_token.encode(), token.encode("utf-8", "replace")):
                matching_rater = rater
        return matching_rater

    def url(self, rater: str, host: str) -> str:
        """Return a rater's link. The token is behind #, which browsers send to no server and write to no log."""
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}/#token={self.tokens[rater]}"


def open_links(path: Path, raters: Sequence[str], port: int) -> RaterLinks:
    """Return the links of a study; new tokens for raters without one. `port` 0: the port of the last time.

    The file is readable by its owner alone. Raises UserError if it is damaged.
    """
    stored_links = RaterLinks(0, {})
    if path.exists():
        stored = json_io.read_object(path, FIX_LINKS)
        json_io.validate(stored, _LinksFile, str(path), FIX_LINKS)
        stored_links = RaterLinks(stored["port"], stored["tokens"])
    tokens = {rater: stored_links.tokens.get(rater) or secrets.token_urlsafe(TOKEN_BYTES) for rater in raters}
    links = RaterLinks(port or stored_links.port, tokens)
    if links != stored_links:
        write_links(path, links)
    return links


def write_links(path: Path, links: RaterLinks) -> None:
    """Write the links, readable by the owner alone from the first byte on."""
    text = json.dumps({"port": links.port, "tokens": dict(links.tokens)}, indent=2)
    unfinished = path.with_name(f".{path.name}.tmp")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
    atomic.sync(path.parent)
