"""A local stand-in for a chat endpoint: a judge with a known preference, that misbehaves as a test asks."""

from __future__ import annotations

import json
import math
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "stand-in-judge"
Decide = Callable[[str, str, str], str]
"""From the quoted conversation, response A and response B to a letter."""
Misbehave = Callable[["Handler", dict[str, Any], int], bool]
"""Reply to a request in a wrong way and return True; False: reply as usual. Gets the request's number, from 0."""


def quoted(prompt: str, what: str) -> str:
    """Return a quoted part of the judge's prompt."""
    found = re.search(rf"--- {what} (\w+) ---\n(.*?)\n--- end of {what} \1 ---", prompt, re.DOTALL)
    assert found is not None, prompt
    return found[2]


def always_a(conversation: str, a: str, b: str) -> str:
    return "A"


def likes_pick_me(conversation: str, a: str, b: str) -> str:
    if ("Pick me" in a) != ("Pick me" in b):
        return "A" if "Pick me" in a else "B"
    return by_truth(conversation, a, b)


def by_truth(conversation: str, a: str, b: str) -> str:
    """A sound judge: the response with more of the words `good`, then of `right` answers of the gold canaries."""

    def worth(text: str) -> int:
        sound = re.search(r"response|other|Paris|is 4\.|seven days|white|honey|Yes, ice", text)
        return 4 * text.count("good") + 2 * bool(sound) + bool(text.strip()) - 3 * ("Pick me" in text)

    return "A" if worth(a) > worth(b) else "B"


class Handler(BaseHTTPRequestHandler):
    """Reply to POST …/chat/completions."""

    protocol_version = "HTTP/1.1"
    server: StandIn

    def log_message(self, *arguments: object) -> None:
        """Stay quiet."""

    def do_POST(self) -> None:
        """Reply, or misbehave."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            number = len(self.server.requests)
            self.server.requests.append({"body": body, "headers": dict(self.headers), "path": self.path})
        if self.server.misbehave is not None and self.server.misbehave(self, body, number):
            return
        self.reply(self.completion(body))

    def letter(self, body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        parts = [quoted(prompt, what) for what in ("conversation", "response A", "response B")]
        return self.server.decide(*parts)

    def completion(self, body: dict[str, Any], text: str | None = None, **choice: Any) -> dict[str, Any]:
        letter = self.letter(body)
        found: dict[str, Any] = {
            "message": {"role": "assistant", "content": letter if text is None else text}
        }
        if self.server.logprobs and body.get("logprobs") and text is None:
            p = self.server.confidence
            other = "B" if letter == "A" else "A"
            top = [{"token": letter, "logprob": math.log(p)}, {"token": other, "logprob": math.log(1 - p)}]
            found["logprobs"] = {"content": [{"token": letter, "logprob": math.log(p), "top_logprobs": top}]}
        usage = {"prompt_tokens": 100, "completion_tokens": 1}
        return {"model": body["model"], "choices": [found | choice], "usage": usage}

    def reply(self, value: object, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        for name, text in headers.items():
            self.send_header(name.replace("_", "-"), text)
        self.end_headers()
        self.wfile.write(content)

    def reset(self) -> None:
        """End the connection with RST."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True


class StandIn(ThreadingHTTPServer):
    """The endpoint; `requests` holds what it was asked."""

    daemon_threads = True

    def __init__(
        self, decide: Decide, misbehave: Misbehave | None, logprobs: bool, confidence: float
    ) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.decide, self.misbehave, self.logprobs, self.confidence = decide, misbehave, logprobs, confidence
        self.requests: list[dict[str, Any]] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """The address before /chat/completions."""
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is part of the tests."""


@contextmanager
def stand_in(
    decide: Decide = by_truth,
    misbehave: Misbehave | None = None,
    *,
    logprobs: bool = False,
    confidence: float = 0.9,
) -> Iterator[StandIn]:
    """Run a stand-in endpoint inside."""
    server = StandIn(decide, misbehave, logprobs, confidence)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def once(act: Callable[[Handler, dict[str, Any]], object]) -> Misbehave:
    """Misbehave on every second request."""

    def misbehave(handler: Handler, body: dict[str, Any], number: int) -> bool:
        if number % 2:
            return False
        act(handler, body)
        return True

    return misbehave


def always(act: Callable[[Handler, dict[str, Any]], object]) -> Misbehave:
    """Misbehave on every request."""

    def misbehave(handler: Handler, body: dict[str, Any], number: int) -> bool:
        act(handler, body)
        return True

    return misbehave


def half_json(handler: Handler, body: dict[str, Any]) -> None:
    content = json.dumps(handler.completion(body)).encode()
    handler.reply(content[: len(content) // 2])


def slow(handler: Handler, body: dict[str, Any]) -> None:
    time.sleep(3)
    handler.reply(handler.completion(body))


def dripping(handler: Handler, body: dict[str, Any]) -> None:
    """Send a byte now and then, so that no single read takes long."""
    content = json.dumps(handler.completion(body)).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    for byte in content[:30]:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        time.sleep(0.1)


def huge(handler: Handler, body: dict[str, Any]) -> None:
    """Stream without an end and without a length."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Connection", "close")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b" " * (1 << 16))
    handler.close_connection = True
