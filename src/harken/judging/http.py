"""Send one JSON request to the endpoint that the user named, with bounds on time and size. No torch.

This is the only module of the package that opens a connection itself. Redirects are refused, because they could send
the key and the data to another machine. No proxy is used.
"""

from __future__ import annotations

import email.utils
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from harken.run.terminal import escape_invisible

MAX_REPLY_BYTES = 1 << 22
_CHUNK = 1 << 16
_CONNECTION_PROBLEMS: dict[type[Exception], str] = {
    ConnectionRefusedError: "connection refused",
    ConnectionResetError: "connection reset",
}
_EXCERPT_CHARS = 200
"""Characters of a reply that an error message shows."""


@dataclass(eq=False)
class RequestFailed(Exception):
    """Report a request without a usable reply: `problem` in words, and whether another attempt may succeed."""

    problem: str
    retry: bool
    status: int = 0
    retry_after: float | None = None
    detail: str = ""


class JsonClient:
    """Post JSON to one endpoint. Safe to use from several threads."""

    def __init__(self, url: str, key: str | None, timeout_s: float, max_bytes: int = MAX_REPLY_BYTES) -> None:
        self._parts, self._key = urlsplit(url), key
        self._timeout, self._max_bytes = timeout_s, max_bytes
        self._open: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Return the JSON object of the reply. Raises RequestFailed within about the time limit."""
        connection = self._connection()
        timer = threading.Timer(self._timeout, _abort, (connection,))
        timer.daemon = True
        start_time = time.monotonic()
        with self._lock:
            self._open.add(connection)
        try:
            timer.start()
            return self._exchange(connection, path, body)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                raise RequestFailed("the certificate is not valid", False, detail=str(error)) from None
            if time.monotonic() - start_time >= self._timeout:
                raise RequestFailed("timeout", True) from None
            problem = next(
                (words for kind, words in _CONNECTION_PROBLEMS.items() if isinstance(error, kind)),
                "connection failed",
            )
            raise RequestFailed(problem, True, detail=self._excerpt(str(error))) from None
        finally:
            timer.cancel()
            with self._lock:
                self._open.discard(connection)
            connection.close()

    def abort(self) -> None:
        """End the requests of all threads."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _abort(connection)

    def _connection(self) -> http.client.HTTPConnection:
        host, port = str(self._parts.hostname), self._parts.port
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context)
        return http.client.HTTPConnection(host, port, timeout=self._timeout)

    def _exchange(
        self, connection: http.client.HTTPConnection, path: str, body: Mapping[str, Any]
    ) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "harken"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        # ASCII, because half a surrogate pair cannot be encoded in UTF-8.
        connection.request("POST", self._parts.path + path, json.dumps(body).encode("ascii"), headers)
        reply = connection.getresponse()
        content = self._read(reply)
        if reply.status != 200:
            raise self._status_error(reply, content)
        kind = reply.headers.get_content_type()
        if kind != "application/json" and not kind.endswith("+json"):
            raise RequestFailed(f"the reply is {kind}, not JSON", True, detail=self._excerpt(content))
        try:
            value = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            raise RequestFailed("the reply is not whole JSON", True, detail=self._excerpt(content)) from None
        if not isinstance(value, dict):
            raise RequestFailed("the reply is not a JSON object", True, detail=self._excerpt(content))
        return value

    def _read(self, reply: http.client.HTTPResponse) -> bytes:
        """Read the body up to the limit. http.client raises IncompleteRead for one that is too short."""
        content_length = reply.headers.get("Content-Length", "")
        if content_length.isdigit() and int(content_length) > self._max_bytes:
            raise RequestFailed(f"the reply is larger than {self._max_bytes:,} bytes", False)
        chunks, size = [], 0
        while chunk := reply.read(_CHUNK):
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_bytes:
                raise RequestFailed(f"the reply is larger than {self._max_bytes:,} bytes", False)
        if content_length.isdigit() and size < int(content_length):
            raise RequestFailed("the reply is not whole", True)
        return b"".join(chunks)

    def _status_error(self, reply: http.client.HTTPResponse, content: bytes) -> RequestFailed:
        status = reply.status
        if 300 <= status < 400:
            target = urlsplit(str(reply.headers.get("Location", ""))).netloc
            return RequestFailed("a redirect is refused", False, status, detail=self._excerpt(target))
        busy = status in (408, 409, 425, 429) or status >= 500
        wait_seconds = retry_after(reply.headers.get("Retry-After")) if busy else None
        return RequestFailed(f"HTTP {status}", busy, status, wait_seconds, self._excerpt(content))

    def _excerpt(self, content: bytes | str) -> str:
        text = content.decode("utf-8", "replace") if isinstance(content, bytes) else content
        if self._key:
            text = text.replace(self._key, "[key]")
        return " ".join(escape_invisible(text).split())[:_EXCERPT_CHARS]


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, as a number or a date; None without either."""
    if value is None:
        return None
    text = value.strip()
    with suppress(ValueError):
        seconds = float(text)
        return max(seconds, 0.0) if seconds == seconds else None
    with suppress(ValueError, TypeError, OverflowError):
        date = email.utils.parsedate_to_datetime(text)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max((date - datetime.now(UTC)).total_seconds(), 0.0)
    return None


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a JSON number")


def _abort(connection: http.client.HTTPConnection) -> None:
    """End a request that is running in another thread, by making its next read or write raise."""
    with suppress(OSError, AttributeError):
        connection.sock.shutdown(socket.SHUT_RDWR)
