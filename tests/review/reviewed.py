"""Responses of two policies to review, a server in its own process, and votes as a rater's page sends them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import harken
from harken.config.review import ReviewConfig
from harken.review.outcomes import outcome_of
from harken.review.study import Study, plan_study
from harken.review.votes import Vote, VoteStore

KEY = bytes(range(32))
WORDS = ["rain", "water", "cloud", "sun", "river", "sea", "wind", "heat", "cold", "snow", "ice", "light"]


def text(number: int, policy: str) -> str:
    """A clean sentence, another one for each prompt and policy."""
    start = number * 5 + (2 if policy == "ours" else 0)
    return " ".join(WORDS[(start + i * (1 + number % 3)) % 12] for i in range(9)).capitalize() + "."


def write_responses(folder: Path, prompts: int = 60) -> list[str]:
    """Files of two policies; every 20th prompt has equal responses, every 7th of "ours" repeats itself."""
    for policy in ("base", "ours"):
        rows = []
        for i in range(prompts):
            response = "The same." if i % 20 == 0 else text(i, policy)
            if policy == "ours" and i % 7 == 3:
                response = "It rains and it rains again. " * 8
            rows.append(
                {"prompt_id": f"q{i}", "prompt": f"Question {i}?", "response": response, "domain": "ab"[i % 2],
                 "reward": float(i % 5) + 3 * (i % 7 == 3 and policy == "ours")}
            )  # fmt: skip
        (folder / f"{policy}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [str(folder / f"{policy}.jsonl") for policy in ("base", "ours")]


def review_config(folder: Path, prompts: int = 60, **changes: Any) -> ReviewConfig:
    base, ours = write_responses(folder, prompts)
    given = {"policies": {"base": base, "ours": ours}, "raters": ["anna", "ben"], "items": 20}
    return ReviewConfig.model_validate(given | changes)


def planned(folder: Path, prompts: int = 60, **changes: Any) -> Study:
    return plan_study(review_config(folder, prompts, **changes), KEY)


def cast(
    store: VoteStore,
    study: Study,
    choose: Callable[[str, Any, Any], str],
    raters: Sequence[str] | None = None,
    **keys: Any,
) -> list[Vote]:
    """Vote on every task; `choose(rater, task, item)` names the outcome: first, second, tie, both_bad or skip."""
    found = []
    for rater in raters or list(study.tasks):
        for task in study.tasks[rater]:
            wanted = choose(rater, task, study.item_of(task))
            sides = [side for side in ("left", "right") if outcome_of(side, task.first_left) == wanted]
            vote = Vote(str(uuid.uuid4()), rater, task.id, (sides or [wanted])[0], seconds=30.0, **keys)  # type: ignore[arg-type]
            found.append(store.append(vote))
    return found


def attentive(rater: str, task: Any, item: Any) -> str:
    """Gold right, else the second policy."""
    return ("first", "second")[item.gold] if item.gold is not None else "second"


class Served:
    """`harken review` in a process of its own."""

    def __init__(self, arguments: Sequence[str], log: Path) -> None:
        self.log = log
        source = str(Path(harken.__file__).parents[1])  # the same package as this process
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "harken.cli.main", "review", *arguments, "--no-browser"],
                stdout=out, stderr=subprocess.STDOUT, start_new_session=True, env={**os.environ, "PYTHONPATH": source},
            )  # fmt: skip
        end = time.monotonic() + 120
        while "Ctrl-C ends" not in log.read_text():
            assert self.process.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        self.tokens = dict(re.findall(r"(\w+): http://\S+#token=(\S+)", log.read_text()))
        self.port = int(re.findall(r"http://127.0.0.1:(\d+)/", log.read_text())[0])

    def url(self, rater: str) -> str:
        return f"http://127.0.0.1:{self.port}/#token={self.tokens[rater]}"

    def request(
        self, method: str, path: str, rater: str | None = None, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        own = {"X-Harken-Token": self.tokens[rater]} if rater else {}
        own |= {"Content-Type": "application/json"} if method == "POST" else {}
        own |= {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.putrequest(method, path, skip_host="Host" in own)
            for name, value in own.items():
                connection.putheader(name, value)
            if body is not None and "Content-Length" not in own:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()

    def state(self, rater: str) -> dict[str, Any]:
        status, body, _ = self.request("GET", "/api/state", rater)
        assert status == 200, body
        return json.loads(body)

    def vote(self, rater: str, **given: Any) -> tuple[int, dict[str, Any]]:
        """Post a vote; 0 if the server is gone before it answers."""
        body = json.dumps({"uuid": str(uuid.uuid4()), "seconds": 30.0} | given).encode()
        try:
            status, answer, _ = self.request("POST", "/api/votes", rater, body)
        except (OSError, http.client.HTTPException):
            return 0, {}
        return status, json.loads(answer)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(20)
