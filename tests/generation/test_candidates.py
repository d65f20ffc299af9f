"""Which responses become pairs: the rules rewritten slowly, properties, and cases worked by hand."""

from __future__ import annotations

import random
from collections import Counter
from fractions import Fraction
from itertools import permutations
from typing import Any

import pytest

from harken.config import PairsConfig
from harken.generation.candidates import Candidate, choose_best, choose_pairs


def config(**keys: Any) -> PairsConfig:
    return PairsConfig.model_validate({"responses": "scored.jsonl", **keys})


def candidates(*scored: tuple[str, float]) -> list[Candidate]:
    return [Candidate(row, text, score) for row, (text, score) in enumerate(scored)]


def texts(given: list[Candidate], settings: PairsConfig) -> tuple[list[tuple[str, str, float]], Counter[str]]:
    counts: Counter[str] = Counter()
    found = choose_pairs(given, settings, counts)
    return [(pair.chosen.text, pair.rejected.text, pair.strength) for pair in found], +counts


def test_best_and_worst_of_four() -> None:
    given = candidates(("a", 1.0), ("b", 4.0), ("c", -2.0), ("d", 4.0))
    assert texts(given, config()) == ([("b", "c", 1.0)], Counter())
    assert texts(given, config(strength="difference"))[0] == [("b", "c", 6.0)]


def test_all_pairs_of_four_with_one_tie() -> None:
    given = candidates(("a", 1.0), ("b", 4.0), ("c", -2.0), ("d", 4.0))
    pairs, counts = texts(given, config(how="all", strength="difference"))
    assert pairs == [("b", "a", 3.0), ("a", "c", 3.0), ("d", "a", 3.0), ("b", "c", 6.0), ("d", "c", 6.0)]
    assert counts == {"ties_dropped": 1}
    pairs, counts = texts(given, config(how="all", ties="keep"))
    assert ("b", "d", 0.0) in pairs and len(pairs) == 6 and counts == {"ties_kept": 1}


def test_a_margin_keeps_pairs_that_differ_by_it_at_least() -> None:
    given = candidates(("a", 0.0), ("b", 1.0), ("c", 1.5))
    pairs, counts = texts(given, config(how="margin", margin=1.0))
    assert [pair[:2] for pair in pairs] == [("b", "a"), ("c", "a")] and counts == {"below_margin": 1}


def test_a_threshold_pairs_every_response_from_it_with_every_one_below() -> None:
    given = candidates(("a", 0.0), ("b", 1.0), ("c", 1.5), ("d", -1.0))
    pairs, _ = texts(given, config(how="threshold", threshold=1.0))
    assert [pair[:2] for pair in pairs] == [("b", "a"), ("b", "d"), ("c", "a"), ("c", "d")]


def test_equal_texts_are_never_paired_even_with_other_scores() -> None:
    given = candidates(("same", 2.0), (" same\n", 0.0), ("other", 1.0))
    assert texts(given, config())[0] == [("same", "other", 1.0)]
    assert texts(given[:2], config()) == ([], Counter(identical=1))
    pairs, counts = texts(given, config(how="all"))
    assert [pair[:2] for pair in pairs] == [("same", "other")]
    assert counts == {"identical": 1, "repeated": 1}


def test_scores_within_the_epsilon_are_a_tie_and_the_first_response_is_chosen() -> None:
    given = candidates(("a", 1.0), ("b", 1.25))
    assert texts(given, config(tie_epsilon=0.25)) == ([], Counter(ties_dropped=1))
    assert texts(given, config(tie_epsilon=0.25, ties="keep")) == ([("a", "b", 0.0)], Counter(ties_kept=1))
    assert texts(given, config(tie_epsilon=0.2))[0] == [("b", "a", 1.0)]


def test_one_response_gives_no_pair() -> None:
    assert texts(candidates(("a", 1.0)), config()) == ([], Counter())


def test_the_best_is_the_first_of_the_highest_score_and_reaches_the_threshold() -> None:
    given = candidates(("a", 1.0), ("b", 4.0), ("c", 4.0))
    counts: Counter[str] = Counter()
    assert choose_best(given, None, counts) == given[1]
    assert choose_best(given, 4.0, counts) == given[1] and not counts
    assert choose_best(given, 4.5, counts) is None and counts == {"below_threshold": 1}


def drawn(chance: random.Random) -> list[Candidate]:
    """Few scores and few texts, so that ties and equal texts are common."""
    size = chance.randrange(1, 7)
    return candidates(*((chance.choice("abcde"), chance.choice([-1.0, 0.0, 0.5, 2.0])) for _ in range(size)))


RULES: list[dict[str, Any]] = [
    {"how": "best-worst"},
    {"how": "all"},
    {"how": "margin", "margin": 1.0},
    {"how": "threshold", "threshold": 0.5},
]


def slow(given: list[Candidate], settings: PairsConfig) -> set[tuple[frozenset[str], bool]]:
    """The definition over all ordered pairs, in exact arithmetic: the texts of each pair, and whether it is a tie."""
    exact = [(one.text, Fraction(one.score), one.row) for one in given]
    top, epsilon = max(s for _, s, _ in exact), Fraction(settings.tie_epsilon)
    best_row = min(row for _, s, row in exact if s == top)
    best_text = next(text for text, _, row in exact if row == best_row)
    other_scores = [s for text, s, _ in exact if text != best_text]
    found = set()
    for (left, high, row), (right, low, other) in permutations(exact, 2):
        tie = abs(high - low) <= epsilon
        if left == right or high < low or (tie and settings.ties == "drop"):
            continue
        if settings.how == "best-worst":
            worst = min(r for t, s, r in exact if t != best_text and s == min(other_scores))
            applies = row == best_row and other == worst
        elif settings.how == "margin":
            applies = tie or high - low >= Fraction(settings.margin or 0)
        elif settings.how == "threshold":
            applies = high >= Fraction(settings.threshold or 0) > low
        else:
            applies = True
        if applies:
            found.add((frozenset((left, right)), tie))
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["how"])
@pytest.mark.parametrize("ties", ["drop", "keep"])
def test_the_rules_as_defined_slowly(rule: dict[str, Any], ties: str) -> None:
    chance = random.Random(7)
    settings = config(ties=ties, **rule)
    compared = 0
    for _ in range(300):
        given = drawn(chance)
        scores: dict[str, set[float]] = {}
        for one in given:
            scores.setdefault(one.text, set()).add(one.score)
        if any(len(own) > 1 for own in scores.values()):
            continue  # a text with two scores: which of them its one pair has is the order's, tested above
        found = choose_pairs(given, settings, Counter())
        assert {(frozenset((p.chosen.text, p.rejected.text)), p.strength == 0) for p in found} == slow(
            given, settings
        )
        assert len(found) == len(slow(given, settings))
        compared += 1
    assert compared > 50


@pytest.mark.parametrize("rule", RULES[:2], ids=lambda rule: rule["how"])
def test_pairs_depend_on_the_order_of_scores_alone(rule: dict[str, Any]) -> None:
    """A strictly increasing map of the scores changes no pair (best against worst, and all)."""
    chance = random.Random(3)
    for _ in range(200):
        given = drawn(chance)
        mapped = [Candidate(one.row, one.text, one.score**3 + 2 * one.score - 5) for one in given]
        assert texts(given, config(**rule)) == texts(mapped, config(**rule))


def test_every_comparison_is_written_or_counted() -> None:
    chance = random.Random(11)
    for _ in range(200):
        given = drawn(chance)
        pairs, counts = texts(given, config(how="margin", margin=1.0, ties="keep"))
        left_out = sum(count for reason, count in counts.items() if reason != "ties_kept")
        assert len(pairs) + left_out == len(given) * (len(given) - 1) // 2


def test_random_scores_choose_each_response_equally_often() -> None:
    """Under exchangeable scores the best of k is each of the k with probability 1/k (within 5 standard errors)."""
    chance = random.Random(5)
    wins = Counter(
        choose_pairs(candidates(*((name, chance.random()) for name in "abcd")), config(), Counter())[
            0
        ].chosen.text
        for _ in range(4000)
    )
    assert all(abs(wins[name] / 4000 - 0.25) < 5 * (0.25 * 0.75 / 4000) ** 0.5 for name in "abcd")
