"""A large synthetic evaluation, and what its page costs: bytes, seconds until it can be used, a filter, requests."""

from __future__ import annotations

import json
import random
from itertools import accumulate
from pathlib import Path
from typing import Any

from harken.evaluation import audit
from harken.evaluation.compare import compare
from harken.evaluation.headline_numbers import headline_numbers
from harken.evaluation.verdict import headline

POLICIES = ("Base", "SFT", "PPO")
NOTICE = "Synthetic: words drawn at random, with rewards drawn at random. It says nothing about any model."
MEAN_WORDS = 250
"""Of a response: with these made-up words about 1,600 characters, as the responses of AlpacaEval have."""
DOMAINS = ("code", "essay", "maths", "science", "travel")

_WATCH = """
addEventListener("DOMContentLoaded", () => {
  const usable = () => {
    if (window.usableAt || !document.querySelector("#responses li[data-id], #responses [data-id]")) return;
    requestAnimationFrame(() => setTimeout(() => { window.usableAt ??= performance.now(); }));
  };
  new MutationObserver(usable).observe(document, { childList: true, subtree: true });
});
"""
"""Notes when the list of examples is painted, in ms since the page was asked for."""

_FILTER = """
(async () => {
  const section = document.querySelector("#responses");
  const boxes = [...section.querySelectorAll(".facet input[type=checkbox]")].slice(0, BOXES);
  const changed = () => new Promise((done) => {
    const watch = new MutationObserver(() => { watch.disconnect(); done(); });
    watch.observe(section.querySelector(".rail"), { attributes: true, childList: true, subtree: true });
    setTimeout(done, 2000);
  });
  const times = { drawn: [], painted: [] };
  for (const box of boxes) {
    for (const _ of [0, 1]) {
      await new Promise((done) => requestIdleCallback(done, { timeout: 500 }));
      const before = performance.now();
      const drawn = changed();
      box.click();
      await drawn;
      section.getBoundingClientRect();
      times.drawn.push(performance.now() - before);
      await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
      times.painted.push(performance.now() - before);
    }
  }
  return times;
})()
"""
"""Chooses facets and removes them again: until the new list is laid out, and until it is painted."""


def evaluation(prompts: int, seed: int = 839, *, audited: bool = True) -> dict[str, Any]:
    """Return the arguments of `build_report` for `prompts` prompts with three responses each.

    Not `audited`: without the flags of the audit, which takes longest.
    """
    rows = _rows(prompts, random.Random(seed))
    summary = compare(rows, judges=["human"], draws=500, seed=1)
    return {
        "title": f"Synthetic evaluation of {prompts:,} prompts",
        "notice": NOTICE,
        "summary": summary,
        "responses": rows,
        "stage_metrics": {},
        "stage_info": {},
        "headline": headline(summary, "Base", "SFT", "PPO", "human"),
        "audited": audit.audit(rows, "Base") if audited else {},
        "flags": audit.FLAG_MEANINGS,
        "queues": audit.QUEUES,
        "numbers": headline_numbers(summary, "SFT", "PPO", "human"),
    }


def _rows(prompts: int, draw: random.Random) -> list[dict[str, Any]]:
    letters = "aeioubcdfghlmnprst"
    words = ["".join(draw.choices(letters, k=draw.randint(2, 9))) for _ in range(20_000)]
    weights = list(accumulate(1 / (rank + 3) for rank in range(len(words))))

    def prose(count: int) -> str:
        chosen = draw.choices(words, cum_weights=weights, k=max(count, 1))
        return " ".join(f"{word}." if draw.random() < 0.08 else word for word in chosen)

    found = []
    for number in range(prompts):
        prompt = prose(draw.randint(10, 60))
        for policy in POLICIES:
            text = prose(int(draw.lognormvariate(0.0, 0.6) * MEAN_WORDS / 1.2))
            stop = "length" if draw.random() < 0.1 else "end_of_turn"
            if draw.random() < 0.05:
                text += " " + f"{prose(6)}. " * 8
            found.append(
                {
                    "policy": policy, "prompt_id": f"p{number}", "sample": 0, "domain": draw.choice(DOMAINS),
                    "language": "en", "prompt": prompt,
                    "messages": json.dumps([{"role": "user", "content": prompt}]), "response": text,
                    "prompt_tokens": len(prompt.split()), "response_tokens": len(text.split()), "stop": stop,
                    "reward": draw.gauss(POLICIES.index(policy) / 4, 1.0), "score_human": draw.gauss(0.0, 1.0),
                    "repeated_4grams": audit.repetition(text), "empty": False, "cap_hit": stop == "length",
                }
            )  # fmt: skip
    return found


def measure(browser: Any, page: Path, boxes: int = 8) -> dict[str, Any]:
    """Open the page and use it. Milliseconds; `requests` are all addresses asked for besides the page's own files."""
    browser.call("Target.setDiscoverTargets", {"discover": False}, session=False)
    browser.open(page, script=_WATCH)
    browser.wait("window.usableAt > 0", 60)
    opened = browser.value("window.usableAt")
    browser.value("new Promise((done) => setTimeout(done, 600)) && 1")
    found = browser.call(
        "Runtime.evaluate",
        {"expression": _FILTER.replace("BOXES", str(boxes)), "awaitPromise": True, "returnByValue": True},
    )["result"]["value"]
    urls = [
        e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"
    ]
    return {
        "open_ms": opened,
        "filter_ms": sorted(found["drawn"]),
        "painted_ms": sorted(found["painted"]),
        "heap_mb": browser.value("performance.memory ? performance.memory.usedJSHeapSize / 2**20 : 0"),
        "requests": [url for url in urls if not url.startswith(page.parent.as_uri())],
    }
