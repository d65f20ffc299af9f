"""Cast simulated votes in a review of the demo's prompts: a rule votes as raters would, through the server.

    harken review outputs/review/05_review --no-browser        # prints a link for each rater
    python scripts/simulate_votes.py LINK [LINK ...]

Each simulated rater compares the gold scores of the two texts (reward/demo_gold.py), calls a small difference a tie,
and errs in a stated share of the items. It shows that the parts work together. No person has judged anything:
such votes say nothing about what people prefer.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import uuid
from collections import Counter
from importlib.resources import files
from typing import Any
from urllib.request import Request, urlopen

from harken.records import Message, Prompt
from harken.reward.demo_gold import gold_score

TIE = 0.05
"""Gold scores that differ by less are a tie."""
WORDS_PER_SECOND = 4.0
"""How fast a simulated rater reads; votes faster than reading would be counted as such."""
SETS = ("heldout", "prompts")


def main() -> None:
    """Vote on every item of every link, and print what was chosen."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("links", nargs="+", metavar="LINK")
    parser.add_argument("--errors", type=float, default=0.1, help="share of items with the other side chosen")
    parser.add_argument("--seed", type=int, default=839)
    given = parser.parse_args()
    prompts = demo_prompts()
    for number, link in enumerate(given.links):
        chosen = vote_on_all(link, prompts, f"{given.seed} {number}", given.errors)
        print(f"simulated rater {number + 1}: {', '.join(f'{n} {choice}' for choice, n in chosen.items())}")


def demo_prompts() -> dict[str, Prompt]:
    """Return the demo's prompts by their text."""
    found = {}
    for name in SETS:
        lines = gzip.decompress((files("harken") / "data" / "demo" / f"{name}.jsonl.gz").read_bytes())
        for line in lines.decode().splitlines():
            row = json.loads(line)
            details = {"keywords": row["keywords"]}
            messages = (Message("user", row["prompt"]),)
            found[row["prompt"]] = Prompt(
                row["id"], messages, domain=row["domain"], language=row["language"], details=details
            )
    return found


def vote_on_all(link: str, prompts: dict[str, Prompt], rater: str, errors: float) -> Counter[str]:
    """Vote until the server has no further item for this link. Raises SystemExit where it stops the rater.

    The errors of a rater depend on the two texts, not on the order in which they come.
    """
    address, _, token = link.partition("#token=")
    chosen: Counter[str] = Counter()
    state = _ask(f"{address}api/state", token)
    while (task := state["task"]) is not None:
        texts = sorted([task["left"], task["right"]])
        is_error = random.Random(f"{rater} {texts}").random() < errors
        choice = _choice(task, prompts, is_error)
        words = len(f"{task['left']} {task['right']}".split())
        vote = {"uuid": str(uuid.uuid4()), "task": task["id"], "choice": choice}
        state = _ask(f"{address}api/votes", token, vote | {"seconds": words / WORDS_PER_SECOND})
        chosen[choice] += 1
    if state["done"] < state["total"]:
        raise SystemExit(f"{state['message']} ({state['done']} of {state['total']} items)")
    return chosen


def _choice(task: dict[str, Any], prompts: dict[str, Prompt], is_error: bool) -> str:
    prompt = prompts[task["prompt"][-1]["text"]]
    left, right = (_gold(prompt, task[side]) for side in ("left", "right"))
    if abs(left - right) < TIE:
        return "tie"
    return "left" if (left > right) != is_error else "right"


def _gold(prompt: Prompt, text: str) -> float:
    """Score a text as a rater sees it: one that breaks off inside a sentence counts as truncated."""
    return gold_score(prompt, text, "end_of_turn" if text.rstrip()[-1:] in (".", "!", "?") else "length")


def _ask(url: str, token: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    headers = {"X-Harken-Token": token, "Content-Type": "application/json"}
    request = Request(url, None if body is None else json.dumps(body).encode(), headers)
    with urlopen(request, timeout=60) as reply:
        return dict(json.load(reply))


if __name__ == "__main__":
    main()
