"""Measure how long the audit and the comparison of an evaluation take.

    python benchmarks/audit_speed.py

Synthetic responses of 200 to 1,000 tokens (150 to 750 words) by three policies to 2,017 prompts, in the shares that the
audit meets: most are sound prose, one in ten repeats itself, one in ten has code or a list. Words are drawn from a
vocabulary of 20,000 by Zipf's law. One process on one core; the targets are 60 seconds for the audit, and 20 for the
comparison with all its intervals: three pairs, a second scorer, slices by domain, language and length.
"""

from __future__ import annotations

import argparse
import random
import time
from itertools import accumulate
from typing import Any

import result

from harken.evaluation.audit import audit
from harken.evaluation.audit.function_words import LANGUAGE_WORDS
from harken.evaluation.compare import compare

SEED = 839
TARGET, COMPARE_TARGET = 60.0, 20.0
POLICIES = ("Base", "SFT", "PPO")


class Writer:
    """Write synthetic prose from a vocabulary of function words and made-up words."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        letters = "aeioubcdfghlmnprst"
        made = ["".join(self.random.choices(letters, k=self.random.randint(3, 10))) for _ in range(20_000)]
        self.words = LANGUAGE_WORDS["en"].split() + made
        self.weights = list(accumulate(1 / (rank + 3) for rank in range(len(self.words))))

    def sentence(self) -> str:
        chosen = self.random.choices(self.words, cum_weights=self.weights, k=self.random.randint(6, 22))
        return " ".join(chosen).capitalize() + "."

    def prose(self, words: int) -> str:
        text: list[str] = []
        while sum(len(sentence.split()) for sentence in text) < words:
            text.append(self.sentence())
        return " ".join(text)

    def response(self, words: int) -> str:
        kind = self.random.random()
        if kind < 0.1:
            return self.prose(words // 2) + " " + (self.sentence() + " ") * (words // 28)
        if kind < 0.2:
            items = "\n".join(f"{n}. {self.sentence()}" for n in range(1, 8))
            code = "```python\nx = 1\nfor i in range(9):\n    x += i\n```"
            return f"{self.prose(words - 120)}\n\n{items}\n\n{code}\n\nDone."
        return self.prose(words)


def rows(prompts: int) -> list[dict[str, Any]]:
    """Make the responses of three policies."""
    writer = Writer(SEED)
    found = []
    for number in range(prompts):
        prompt = writer.prose(writer.random.randint(10, 120))
        found += [
            {
                "prompt_id": f"p{number}", "policy": policy, "sample": 0, "domain": "general", "language": "english",
                "prompt": prompt, "response": writer.response(writer.random.randint(150, 750)),
                "stop": "length" if writer.random.random() < 0.1 else "end_of_turn",
                "reward": writer.random.gauss(-3, 3), "score_judge": writer.random.gauss(0, 1),
            }
            for policy in POLICIES
        ]  # fmt: skip
    return found


def main() -> None:
    """Audit and compare the rows, print seconds and milliseconds a response, and write the file."""
    asked = result.arguments("Measure how long the audit and the comparison of an evaluation take.")
    asked.add_argument("--prompts", type=int, default=2017)
    given: argparse.Namespace = result.parsed(asked, {"prompts": 50})
    responses = rows(given.prompts)
    words = sum(len(row["response"].split()) for row in responses) / len(responses)
    started, started_cpu = time.perf_counter(), time.process_time()
    audited = audit(responses, POLICIES[0])
    seconds, cpu = time.perf_counter() - started, time.process_time() - started_cpu
    flagged = sum(bool(found["flags"]) for found in audited.values())
    result.table(
        ["responses", "words a response", "seconds", "CPU seconds", "ms a response", "flagged"],
        [
            [
                len(responses),
                f"{words:.0f}",
                f"{seconds:.1f}",
                f"{cpu:.1f}",
                f"{1000 * cpu / len(responses):.2f}",
                flagged,
            ]
        ],
    )
    print(f"target {TARGET:.0f} s: {'met' if seconds < TARGET else 'missed'}")
    started, started_cpu = time.perf_counter(), time.process_time()
    compare(responses, judges=["judge"])
    compare_seconds, compare_cpu = time.perf_counter() - started, time.process_time() - started_cpu
    met = "met" if compare_seconds < COMPARE_TARGET else "missed"
    print(
        f"compared in {compare_seconds:.1f} s ({compare_cpu:.1f} CPU); target {COMPARE_TARGET:.0f} s: {met}"
    )
    figures = {
        "responses": len(responses),
        "words": words,
        "seconds": seconds,
        "cpu_seconds": cpu,
        "flagged": flagged,
        "compare_seconds": compare_seconds,
        "compare_cpu_seconds": compare_cpu,
    }
    result.save("audit_speed", given, {}, figures)


if __name__ == "__main__":
    main()
