"""Refuse requests that do not come from the review's own page: the checks before any route. No torch.

Any web page that a rater visits may send requests to a server on their own machine. It cannot know the token, and the
browser says where a request comes from: Host, Origin and Sec-Fetch-Site must be the review's own. A wrong Host is what
DNS rebinding leaves behind.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 16_384
"""Bytes of a request's body. A vote has a few hundred."""
MAX_HEADERS = 16_384
"""Bytes of a request's path, query and headers."""
CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; object-src 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-store",
}
"""Headers of every response, errors too."""
_METHODS = {"GET", "POST"}
_OWN_SITES = {"same-origin", "none"}


class RequestGuard:
    """Wrap an ASGI application; `hosts` are the names, with ports, by which the review may be addressed."""

    def __init__(self, application: Any, hosts: Iterable[str]) -> None:
        """Keep the application and the hosts."""
        self.application = application
        self.hosts = {host.lower() for host in hosts}
        self.origins = {f"http://{host}" for host in self.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request, or pass it on with a bounded body; `HEADERS` are added to the reply."""
        if scope["type"] == "lifespan":
            await self.application(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets
        if refusal := self.refusal(scope):
            await _answer(send, *refusal)
            return
        body = await _read_body(receive)
        if body is None:
            await _answer(send, 413, "the request is too large")
            return
        await self.application(scope, _replayed(body, receive), _with_headers(send))

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Return the status and reason to refuse a request, None to pass it on."""
        pairs = [
            (name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]
        ]
        headers: dict[str, list[str]] = {}
        for name, value in pairs:
            headers.setdefault(name, []).append(value)
        size = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
        if size + sum(len(name) + len(value) for name, value in pairs) > MAX_HEADERS:
            return 431, "the headers are too large"
        if scope["method"] not in _METHODS:
            return 405, "this method is not known here"
        if [host.lower() for host in headers.get("host", [])] not in [[host] for host in self.hosts]:
            return 403, "this host name is not the review's"
        if any(origin.lower() not in self.origins for origin in headers.get("origin", [])):
            return 403, "this origin is not the review's"
        if any(site.lower() not in _OWN_SITES for site in headers.get("sec-fetch-site", [])):
            return 403, "another site sent this request"
        if scope["method"] == "POST":
            kinds = [kind.split(";")[0].strip().lower() for kind in headers.get("content-type", [])]
            if kinds != ["application/json"]:
                return 415, "expected application/json"
            lengths = headers.get("content-length", [])
            if any(not length.isdecimal() or int(length) > MAX_BODY for length in lengths):
                return 413, "the request is too large"
        return None


async def _read_body(receive: Receive) -> bytes | None:
    """Return the body, None if it is larger than MAX_BODY."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += bytes(message.get("body", b""))
        if len(body) > MAX_BODY:
            return None
        if not message.get("more_body"):
            return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _with_headers(send: Send) -> Send:
    async def sender(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            own_headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            kept_headers = [
                (name, value) for name, value in message.get("headers", []) if name.decode() not in HEADERS
            ]
            message = {**message, "headers": [*kept_headers, *own_headers]}
        await send(message)

    return sender


async def _answer(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    guarded = _with_headers(send)
    await guarded({"type": "http.response.start", "status": status, "headers": headers})
    await guarded({"type": "http.response.body", "body": body})
