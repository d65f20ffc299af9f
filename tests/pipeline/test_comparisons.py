"""What an evaluation of many policies says: comparisons with the start in full, the others where they differ."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest

from harken.evaluation.compare import compare
from harken.pipeline.comparisons import MAX_IN_FULL, comparison_numbers, comparison_sentences
from harken.pipeline.roles import PolicyComparison, PolicyRoles

GAINS = {"start": 0.0, "a": 0.0, "b": 0.0, "c": 0.0, "best": 2.0}


def summary(policies: list[str]) -> dict[str, Any]:
    """Rewards of 40 prompts; `best` is 2 above the others, which differ by noise alone."""
    draw = np.random.default_rng(5)
    rows = [
        {
            "policy": policy,
            "prompt_id": f"p{i}",
            "sample": 0,
            "domain": "",
            "reward": float(i % 5 + GAINS[policy] + draw.normal(0, 0.3)),
            "score_gold": float(i % 5 + GAINS[policy] + draw.normal(0, 0.3)),
            "response_tokens": 9,
            "empty": False,
            "cap_hit": False,
            "repeated_4grams": 0.0,
        }
        for policy in policies
        for i in range(40)
    ]
    return compare(rows, judges=("gold",), draws=500)


def roles(trained: list[str]) -> PolicyRoles:
    """Every policy against the start that it was trained from, then the policies against one another."""
    comparisons = [PolicyComparison(name, "start", kl_of=name) for name in trained]
    comparisons += [PolicyComparison(after, before) for before, after in combinations(trained, 2)]
    return PolicyRoles({name: name for name in ("start", *trained)}, tuple(comparisons))


def sentences(trained: list[str]) -> list[str]:
    found = summary(["start", *trained])
    return comparison_sentences(found, roles(trained), {"a": [{"kl/mean": 1.5}]}, "gold")


def test_of_many_pairs_only_those_that_differ_are_named_and_the_others_counted() -> None:
    trained = ["a", "b", "c", "best"]
    lines = sentences(trained)
    between = [line for line in lines if any(f"{x} is above {y} " in line for x in trained for y in trained)]
    assert len(between) == 3 and all(line.startswith("Better: best is above ") for line in between)
    count = "Note: 3 of 6 comparisons between trained policies show no clear difference; results.json has the figures"
    assert sum(line.startswith(count) for line in lines) == 1
    assert not any(
        "a's learned reward minus b's" in line or "b's learned reward minus a's" in line for line in lines
    )
    # Comparisons with the start stay whole: verdict, reward, gold, KL.
    assert "Better: best is above start both in learned reward and by the independent scorer gold." in lines
    assert sum("learned reward minus start's" in line for line in lines) == len(trained)
    assert "Note: KL(a || start) is 1.50 nats per sequence." in lines
    assert sum("prompts detect" in line for line in lines) == 1 and "prompts detect" in lines[-1]


@pytest.mark.parametrize("trained", [["a"], ["a", "best"], ["a", "b", "best"]])
def test_few_pairs_are_described_in_full(trained: list[str]) -> None:
    pairs = len(trained) * (len(trained) - 1) // 2
    assert pairs <= MAX_IN_FULL
    lines = sentences(trained)
    assert sum("learned reward minus" in line for line in lines) == len(trained) + pairs
    assert not any("comparisons between trained policies" in line for line in lines)


def test_the_large_numbers_are_those_of_the_first_comparison() -> None:
    found = summary(["start", "best", "a"])
    numbers = comparison_numbers(found, roles(["best", "a"]), "gold")
    assert (
        numbers
        == comparison_numbers(found, roles(["best"]), "gold")
        != comparison_numbers(found, roles(["a"]), "gold")
    )
