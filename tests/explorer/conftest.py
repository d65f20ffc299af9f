"""A small run to draw, and a Chromium to look at the page with."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from harken.config.audit import PUBLISHED
from harken.evaluation import audit
from harken.evaluation.compare import compare
from harken.evaluation.verdict import headline

PAYLOADS = (
    "<img src=x onerror=\"document.title='pwned'\">",
    "<script>document.title='pwned'</script>",
    "</script><script>document.title='pwned'</script>",
    "<svg onload=\"document.title='pwned'\">",
    "<iframe srcdoc=\"<script>top.document.title='pwned'</script>\"></iframe>",
    "<a href=\"javascript:document.title='pwned'\">click</a>",
    "<style>body{display:none}</style>",
    "<meta http-equiv=refresh content='0;url=http://127.0.0.1:9/'>",
    "<!--data--> {{constructor.constructor('document.title=1')()}} ${document.title}",
    "<img src='http://127.0.0.1:9/beacon.png'>",
)


def answer(policy: str, i: int) -> dict[str, Any]:
    text = {"Base": "Rain falls.", "SFT": "Water falls from clouds.", "PPO": "I am happy to help. " * 5}[
        policy
    ]
    if i < len(PAYLOADS):
        text += PAYLOADS[i] + " \u202egnp.exe\u202c"
    prompt = f"Question {i}: {PAYLOADS[i % len(PAYLOADS)]}"
    reward = {"Base": 0.0, "SFT": 0.5, "PPO": 3.0}[policy] + i % 3 - 2 * (policy == "SFT") * (i % 2)
    return {
        "policy": policy,
        "prompt_id": f"id {i}/?&#%<b>",
        "sample": 0,
        "domain": "odd" if i % 2 else "even",
        "language": "en",
        "prompt": prompt,
        "messages": json.dumps([{"role": "user", "content": prompt}]),
        "response": text,
        "prompt_tokens": 9,
        "response_tokens": 8 + i,
        "stop": "length" if policy == "PPO" else "end_of_turn",
        "reward": reward,
        "score_gold": None if i == 3 else -reward,
        "repeated_4grams": 0.6 if policy == "PPO" else 0.0,
        "empty": False,
        "cap_hit": policy == "PPO",
    }


@pytest.fixture(scope="session")
def run() -> dict[str, Any]:
    """The arguments of build_report for 24 prompts whose texts attack the page."""
    rows = [answer(policy, i) for policy in ("Base", "SFT", "PPO") for i in range(24)]
    summary = compare(rows, judges=["gold"], draws=100, seed=1)
    report = {
        "path": PAYLOADS[0],
        "layout": "",
        "raw": 30,
        "kept": 24,
        "dropped": {"tie": 6},
        "shortened": {},
    }
    return {
        "title": f"Report {PAYLOADS[2]}",
        "notice": f"Synthetic. {PAYLOADS[1]}",
        "summary": summary,
        "responses": rows,
        "stage_metrics": {
            "sft": [{"step": i, "loss": 3 / i, "lr": 1e-4} for i in range(1, 9)],
            "reward": [
                {"step": i, "loss": 0.7, "accuracy": 0.6, "eval/accuracy": 0.61 if i == 4 else None}
                for i in range(1, 5)
            ],
            "ppo": [
                {"step": i, "reward/mean": i / 2, "score/gold": -i, "kl/mean": i * i / 4, "nonfinite": ["x"]}
                for i in range(1, 7)
            ],
        },
        "stage_info": {
            "sft": {"data": [report], "config": {"training": {"type": "sft"}, "model_name": PAYLOADS[3]}},
            "ppo": {
                "lineage": {"model": "m", "hf_token": "hf_" + "a1" * 20},
                "roles": [{"component": "base"}],
            },
        },
        "headline": headline(summary, "Base", "SFT", "PPO", "gold", 3.4),
        "audited": audit.audit(rows, "Base", PUBLISHED),
        "flags": audit.FLAG_MEANINGS,
    }


class Browser:
    """A headless Chromium driven over a pipe by the DevTools protocol."""

    def __init__(self, program: str, folder: Path) -> None:
        read, self._to = (_high(fd) for fd in os.pipe())
        self._from, write = (_high(fd) for fd in os.pipe())

        def pipes() -> None:
            os.dup2(read, 3)
            os.dup2(write, 4)

        self._process = subprocess.Popen(
            [
                program, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage", f"--user-data-dir={folder}", "--window-size=1400,1000",
                "--remote-debugging-pipe", "about:blank",
            ],
            preexec_fn=pipes, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []

    def open(self, page: Path, anchor: str = "", script: str = "", drawn: str = "#comparison table") -> None:
        """Load a page of the disk in a new tab and wait until it is drawn. `script` runs in it before its own."""
        tab = self.call("Target.createTarget", {"url": "about:blank"}, session=False)["targetId"]
        attached = self.call("Target.attachToTarget", {"targetId": tab, "flatten": True}, session=False)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable", {})
        if script:
            self.call("Page.addScriptToEvaluateOnNewDocument", {"source": script})
        self.events.clear()
        self.call("Page.navigate", {"url": page.as_uri() + anchor})
        self.wait(f"document.querySelector('{drawn}') !== null")

    def wait(self, condition: str, seconds: float = 15) -> None:
        """Until the expression is true. AssertionError when it does not become true."""
        end = time.monotonic() + seconds
        while not self.value(condition):
            assert time.monotonic() < end, f"still not: {condition}"
            time.sleep(0.05)

    def value(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", {"expression": expression, "returnByValue": True})
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """One key, down and up."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", {"type": kind, "key": key})

    def call(self, method: str, parameters: dict[str, Any], session: bool = True) -> dict[str, Any]:
        """One command of the protocol and its result; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            found = self._next()
            if found.get("id") == self._number:
                assert "error" not in found, found
                return found["result"]
            self.events.append(found)

    def close(self) -> None:
        """End the program."""
        self._process.kill()
        self._process.wait()
        os.close(self._to)
        os.close(self._from)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], 30)
            assert ready, "Chromium does not answer"
            part = os.read(self._from, 1 << 20)
            assert part, "Chromium has ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)


def _high(fd: int) -> int:
    """The same pipe under a number that 3 and 4 cannot collide with."""
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD, 20)
    os.close(fd)
    return copy


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory):
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed to look at the page with")
    browser = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()
