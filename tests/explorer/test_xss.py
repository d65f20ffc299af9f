"""No text of a run acts: with the page's own renderer and no policy, and with the policy and a renderer that trusts it.

Every place of the page's data that holds text is attacked with every text of the corpus, one page for each place. A
server on this machine counts what it is asked for.
"""

from __future__ import annotations

import copy
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from explorer.xss import APART, CORPUS, NAVIGATIONS, payloads

from harken.explorer import build
from harken.explorer.page_data import page_data
from harken.explorer.page_inputs import PageInputs

Data = dict[str, Any]

TRUSTING = """
(async () => {
  const packed = atob(document.getElementById("data").textContent.trim());
  const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const strings = (value) => typeof value === "string" ? [value]
    : Array.isArray(value) ? value.flatMap(strings)
    : value && typeof value === "object" ? Object.entries(value).flatMap(([key, v]) => [key, ...strings(v)]) : [];
  const found = [...new Set(strings(await new Response(stream).json()))];
  for (const text of found) {
    const place = document.createElement("div");
    document.body.append(place);
    place.innerHTML = text;
    const title = document.createElement("div");
    title.innerHTML = `<p title='${text}'>x</p><p title="${text}">x</p><p title=${text}>x</p>`;
    document.body.append(title);
  }
  document.body.insertAdjacentHTML("beforeend", "<div id=comparison><table></table></div>");
  window.drawn = found.length;
})();
"""
"""A renderer that takes every text of the data for HTML, in elements and in attributes."""


@pytest.fixture(scope="module")
def base(run: dict[str, Any]) -> Data:
    """The data of a small page with something in every part."""
    metrics = {"ppo": [{"step": i, "reward/mean": -20.0, "kl/mean": 30.0 + i} for i in range(1, 9)]}
    info = {"ppo": {"config": {"training": {"type": "ppo"}}, "status": {}, "run": "runs/ppo"}}
    data: Data = json.loads(
        json.dumps(
            page_data(
                PageInputs(
                    **run | {"stage_metrics": metrics, "stage_info": info, "title": "t", "notice": "n"}
                )
            )
        )
    )
    for example in data["examples"]:
        example["messages"] = [{"role": "user", "content": "question"}]
        for response in example["responses"]:
            response["text"] = f"response of {response['policy']}"
    tokens = {"pieces": ["a", "b"], "ids": [1, 2], "sampled": [1, 1], "clipped": [0, 1]}
    arrays = (
        "logprob",
        "ref_logprob",
        "new_logprob",
        "log_ratio",
        "kl",
        "value",
        "advantage",
        "return",
        "entropy",
    )
    rollout = {
        "id": "p", "sample": 0, "row": 0, "why": "highest reward", "prompt": "q", "score": 1.0, "scores": {},
        "messages": [{"role": "user", "content": "q"}], "stop": "length", "reward": [0.0, 1.0], **tokens,
        **{name: [0.5, -0.5] for name in arrays},
    }  # fmt: skip
    step = {"stage": "ppo", "step": 1, "recorded": 1, "rollouts": [rollout], "files": []}
    data["tokens"] = {"shards": False, "rule": "all", "steps": [step]}
    point = {"step": 0, "text": "text", "reward": 0.0, "tokens": 1, "stop": "length", "scores": {}}
    first = data["examples"][0]["id"]
    data["checkpoints"] = [
        {"id": first, "stage": "ppo", "prompt": "q", "points": [point, {**point, "step": 1}]}
    ]
    data["made"] = {"when": "now", "command": "harken", "hardware": "cpu", "settings": [["seed", "1"]]}
    data["trials"] = {
        "title": "Runs", "caption": "c", "columns": [{"name": "lr", "unit": "", "format": "text"}],
        "rows": [{"name": "run", "stage": "ppo", "cells": ["1"]}],
    }  # fmt: skip
    data["sections"] = [{"id": "audit", "title": "Audit", "blocks": [{"kind": "text", "text": "x"}]}]
    data["overlays"] = [
        {"title": "PPO", "kind": "ppo", "charts": copy.deepcopy(data["stages"][0]["charts"][:1])}
    ]
    data["stages"][0]["card"] = {
        "status": "weak", "verdict": "v", "accuracy": None, "calibration": None, "slices": [], "probes": [],
        "baselines": [], "faults": [{"name": "n", "sentence": "s", "fix": "f"}], "model": {"base": "b"},
        "warnings": [{"what": "w", "fix": "f"}],
    }  # fmt: skip
    return data


def renamed(value: Any, old: str, new: str) -> Any:
    """The value with a name replaced wherever it stands alone, as a key too."""
    if isinstance(value, dict):
        return {new if key == old else key: renamed(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [renamed(item, old, new) for item in value]
    return new if value == old else value


def prompts(data: Data, texts: list[str]) -> Data:
    return each_example(data, texts, lambda e, text: e["messages"][0].update(content=text))


def responses(data: Data, texts: list[str]) -> Data:
    return each_example(
        data, texts, lambda e, text: [r.update(text=text + r["policy"]) for r in e["responses"]]
    )


def each_example(data: Data, texts: list[str], attack: Callable[[Data, str], object]) -> Data:
    """As many examples as there are texts, the attacked place of each with one of them."""
    first = data["examples"]
    data["examples"] = []
    for number, text in enumerate(texts):
        example = copy.deepcopy(first[number % len(first)]) | {"id": f"e{number}", "index": number}
        attack(example, text)
        data["examples"].append(example)
    return data


def domains(data: Data, texts: list[str]) -> Data:
    return each_example(data, texts, lambda e, text: e.update(domain=text, language=text, extra={text: text}))


def ids(data: Data, texts: list[str]) -> Data:
    return each_example(data, texts, lambda e, text: e.update(id=f"{e['id']} {text}"))


def titles(data: Data, texts: list[str]) -> Data:
    data["title"] = data["notice"] = data["made"]["command"] = data["made"]["hardware"] = APART.join(texts)
    data["made"]["settings"] = [[text, text] for text in texts]
    return data


def verdicts(data: Data, texts: list[str]) -> Data:
    data["verdict"] = [{"word": "Note", "text": text} for text in texts]
    data["headline"]["sentence"]["text"] = APART.join(texts)
    for number in data["headline"]["numbers"] or [{}]:
        number.update(label=APART.join(texts), value=APART.join(texts), detail=APART.join(texts))
    return data


def policies(data: Data, texts: list[str]) -> Data:
    for number, name in enumerate(("Base", "SFT", "PPO")):
        data = renamed(data, name, APART.join(texts[number::3]))
    return data


def judges(data: Data, texts: list[str]) -> Data:
    return renamed(data, "gold", APART.join(texts))


def flags(data: Data, texts: list[str]) -> Data:
    data["flags"] |= dict.fromkeys(texts, APART.join(texts))
    data["queues"] = {text: text for text in texts}
    for number, example in enumerate(data["examples"]):
        own = texts[number :: len(data["examples"])]
        example["queues"] = own
        for response in example["responses"]:
            response["flags"] = own
    return data


def metrics(data: Data, texts: list[str]) -> Data:
    (stage,) = data["stages"]
    chart = stage["charts"][0]
    stage["charts"] = [
        {**copy.deepcopy(chart), "title": text, "unit": text, "caption": text,
         "marks": [{"value": 0.5, "label": text}],
         "series": [{**copy.deepcopy(chart["series"][0]), "metric": text, "label": text}]}
        for text in texts
    ]  # fmt: skip
    data["overlays"][0]["charts"] = copy.deepcopy(stage["charts"][:6])
    return data


def findings(data: Data, texts: list[str]) -> Data:
    (stage,) = data["stages"]
    finding = {"status": "unhealthy", "step": 1, "last": 8, "current": True, "metric": "kl/mean"}
    stage["health"]["findings"] = [
        {**finding, "name": text, "message": text, "cause": text, "fix": text} for text in texts
    ]
    stage["state"]["reason"] = APART.join(texts)
    return data


def configurations(data: Data, texts: list[str]) -> Data:
    (stage,) = data["stages"]
    stage["facts"] = {
        "config": {text: {text: text} for text in texts},
        "lineage": {"model": APART.join(texts)},
    }
    stage["run"] = stage["title"] = APART.join(texts)
    report = {"raw": 1, "kept": 1, "shortened": {}}
    stage["data"] = [{**report, "path": text, "dropped": {text: 1}} for text in texts]
    return data


def cards(data: Data, texts: list[str]) -> Data:
    card = data["stages"][0]["card"]
    card["verdict"] = APART.join(texts)
    card["faults"] = [{"name": text, "sentence": text, "fix": text} for text in texts]
    card["warnings"] = [{"what": text, "fix": text} for text in texts]
    card["slices"] = [
        {"column": text, "value": text, "pairs": 9, "share": 0.5, "low": 0.4, "high": 0.6} for text in texts
    ]
    card["model"] = {text: text for text in texts}
    share = {"pairs": 9, "share": 0.5, "low": 0.4, "high": 0.6}
    card["raters"] = [{"rater": text, "model": share, "others": share} for text in texts]
    return data


def sections(data: Data, texts: list[str]) -> Data:
    blocks = [{"kind": kind, "text": text} for text in texts for kind in ("heading", "text", "item")]
    table = {"kind": "table", "heads": texts[:4], "rows": [[text] * 4 for text in texts]}
    figure = {"value": 0.5, "low": 0.4, "high": 0.6}
    figures = {
        "kind": "figures", "text": APART.join(texts), "heads": texts[:3], "formats": ["share", "text"],
        "figures": [{"name": text, "policy": text, "cells": [figure | {"note": text}, text]} for text in texts],
    }  # fmt: skip
    fold = {"kind": "fold", "text": APART.join(texts), "items": texts}
    blocks += [table, figures, fold]
    data["sections"] = [{"id": "audit", "title": APART.join(texts), "blocks": blocks}]
    return data


def runs(data: Data, texts: list[str]) -> Data:
    trials = data["trials"]
    trials |= {"title": APART.join(texts), "caption": APART.join(texts)}
    trials["columns"] = [{"name": APART.join(texts), "unit": APART.join(texts), "format": "text"}]
    trials["rows"] = [{"name": text, "stage": None, "cells": [text]} for text in texts]
    return data


def tokens(data: Data, texts: list[str]) -> Data:
    rollout = data["tokens"]["steps"][0]["rollouts"][0]
    size = len(texts)
    rollout |= {
        key: (value * size)[:size]
        for key, value in rollout.items()
        if isinstance(value, list) and key != "messages"
    }
    rollout |= {"pieces": texts, "why": APART.join(texts), "prompt": APART.join(texts), "id": texts[0]}
    data["tokens"]["rule"] = APART.join(texts)
    return data


def checkpoints(data: Data, texts: list[str]) -> Data:
    point = data["checkpoints"][0]["points"][0]
    data["checkpoints"][0]["points"] = [{**point, "step": n, "text": text} for n, text in enumerate(texts)]
    return data


SINKS = (
    prompts, responses, domains, ids, titles, verdicts, policies, judges, flags, metrics, findings, configurations,
    cards, sections, runs, tokens, checkpoints,
)  # fmt: skip


class Counter(http.server.ThreadingHTTPServer):
    """A server that remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"top.pwned=1")

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture(scope="module")
def counter() -> Iterator[Counter]:
    with Counter() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def address(counter: Counter) -> str:
    return f"http://127.0.0.1:{counter.server_port}"


def attacked(base: Data, sink: Callable[[Data, list[str]], Data], texts: list[str]) -> Data:
    return sink(copy.deepcopy(base), texts)


def test_the_corpus_has_sixty_ways() -> None:
    assert len(set(CORPUS + NAVIGATIONS)) >= 60 and len(SINKS) >= 13


WALK = """
(async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const open = () => document.querySelectorAll("details:not([open])").forEach((part) => { part.open = true; });
  open();
  for (const key of ["d", "m", "?", "Escape"]) { press(key); await frame(); open(); }
  for (let i = 0; i < STEPS; i += 1) { press("j"); await frame(); }
  for (const button of document.querySelectorAll("#tokens button, #responses summary")) button.click();
  await frame();
  window.walked = true;
})()
"""
"""Opens what is closed, switches to the difference and to Markdown, and shows every example."""


@pytest.mark.sample(6)
@pytest.mark.parametrize("sink", SINKS, ids=lambda sink: sink.__name__)
def test_no_text_acts_by_the_renderer_alone(
    sink: Callable[[Data, list[str]], Data], base: Data, counter: Counter, browser: Any, tmp_path: Path
) -> None:
    """The page without its content security policy."""
    counter.asked.clear()
    texts = payloads(address(counter))
    data = attacked(base, sink, texts)
    text = build.page("t", data)
    start = text.index("<meta http-equiv=")
    page = tmp_path / "page.html"
    page.write_text(text[:start] + text[text.index(">", text.index('content="', start)) + 1 :])
    assert "Content-Security-Policy" not in page.read_text()
    browser.open(page, script="addEventListener('beforeunload', () => { window.top.left = 1; });")
    steps = len(texts) if sink in (prompts, responses, domains, ids) else 3
    browser.call(
        "Runtime.evaluate",
        {"expression": WALK.replace("STEPS", str(steps)), "awaitPromise": True, "returnByValue": True},
    )
    assert browser.value("window.walked") is True, "the page was left"
    assert browser.value("window.pwned") is None
    assert counter.asked == []
    strange = "img, iframe, object, embed, video, audio, form, base, meta[http-equiv], link, main script, #page script"
    found = browser.value(
        f"[...document.querySelectorAll({json.dumps(strange)})].map((one) => one.outerHTML)"
    )
    assert found == []


@pytest.mark.sample(6)
@pytest.mark.parametrize("sink", SINKS, ids=lambda sink: sink.__name__)
def test_no_text_acts_under_the_policy_alone(
    sink: Callable[[Data, list[str]], Data], base: Data, counter: Counter, browser: Any, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The page's policy with a renderer that sets every text of the data as HTML."""
    counter.asked.clear()
    data = attacked(base, sink, payloads(address(counter), navigations=False))
    own = build.static
    monkeypatch.setattr(build, "static", lambda name: TRUSTING if name == "explorer.js" else own(name))
    page = tmp_path / "page.html"
    page.write_text(build.page("t", data))
    browser.open(page)
    assert browser.value("window.drawn") > len(CORPUS) / 4
    browser.value("new Promise((done) => setTimeout(done, 300)) && 1")
    assert browser.value("document.querySelectorAll('img, iframe, svg, script').length") > 10, (
        "nothing was trusted"
    )
    assert browser.value("window.pwned") is None
    assert counter.asked == []


def test_the_corpus_acts_where_neither_guards(
    base: Data, counter: Counter, browser: Any, tmp_path: Path
) -> None:
    """The trusting renderer without a policy: texts run and the server is asked, so the tests above can fail."""
    counter.asked.clear()
    data = attacked(base, responses, payloads(address(counter), navigations=False))
    page = tmp_path / "page.html"
    page.write_text(
        f"<meta charset=utf-8><body><script type=x id=data>{build.packed(data)}</script><script>{TRUSTING}</script>"
    )
    browser.open(page)
    browser.wait("window.pwned === 1", 5)
    browser.wait("true")
    assert any("beacon.png" in path for path in counter.asked)
