from __future__ import annotations

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harken.data.preferences import (
    Comparison,
    agreement,
    majority_vote,
    ranked_pairs,
    to_preference,
    vote_margin,
)
from harken.maths.statistics.agreement import krippendorff_alpha
from harken.records import Message, Prompt

PROMPT = Prompt("p", (Message("user", "q"),))
scores = st.integers(-3, 3).map(float)


def alpha_by_definition(rows: list[list[float]]) -> float | None:
    """Every ordered pair of ratings, one by one; distance counted over the ratings themselves."""
    rated = [row for row in rows if len(row) > 1]
    ratings = [score for row in rated for score in row]

    def distance(a: float, b: float) -> float:
        low, high = min(a, b), max(a, b)
        between = sum(low < x < high for x in ratings)
        return (between + ratings.count(low) / 2 + ratings.count(high) / 2) ** 2 if a != b else 0.0

    n = len(ratings)
    observed = sum(
        distance(row[i], row[j]) / (len(row) - 1)
        for row in rated
        for i, j in permutations(range(len(row)), 2)
    )
    expected = sum(distance(ratings[i], ratings[j]) for i, j in permutations(range(n), 2)) / (n - 1)
    return None if expected == 0 else 1 - observed / expected


@given(st.lists(st.lists(scores, max_size=4), max_size=6))
def test_alpha_is_its_definition(rows: list[list[float]]):
    found, wanted = krippendorff_alpha(rows), alpha_by_definition(rows)
    assert (found is None) == (wanted is None)
    assert found is None or found == pytest.approx(wanted, abs=1e-9)


def test_alpha_of_the_published_example():
    """Krippendorff 2011, section E: four observers, twelve units, ordinal alpha 0.815."""
    gap = None
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, gap, gap, gap],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, gap, 3],
        [gap, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, gap],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, gap],
    ]
    units = [[float(x) for x in column if x is not None] for column in zip(*observers, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.815, abs=5e-4)


def test_agreement_counts_verdicts_not_strengths():
    found = agreement([[-1.0, -3.0], [-1.0, 2.0, 2.0], [1.0], [0.0, 0.0]])
    assert found is not None
    assert (found.rows, found.unanimous) == (3, 2)
    assert found.pairwise == pytest.approx((1 + 1 / 3 + 1) / 3)
    assert agreement([[1.0], []]) is None


@pytest.mark.parametrize(
    ("votes", "verdict"), [([-1, -2, 3], -1), ([2, 1, -3], 1), ([0, 0, 1], 0), ([1, -1], 0), ([-1, 0, 1], 0)]
)
def test_majority(votes: list[float], verdict: int):
    """S2-61."""
    assert majority_vote(votes) == verdict


def test_weighted_majority_follows_the_trusted_rater():
    """S2-61."""
    assert majority_vote([-1, 1, 1], weights=[3, 1, 1]) == -1


@given(
    scores, st.text(min_size=1), st.text(min_size=1), st.lists(scores, max_size=5).map(tuple), st.booleans()
)
def test_swapping_the_sides_and_the_signs_changes_nothing(score, first, second, raters, soft):
    left = to_preference(Comparison(first, second, score, raters), PROMPT, soft=soft)
    turned = Comparison(second, first, -score, tuple(-r for r in raters))
    right = to_preference(turned, PROMPT, soft=soft)
    if left.label != 0.5:
        assert left == right
    else:
        assert (left.chosen, left.rejected) == (right.rejected, right.chosen)
    assert 0.5 <= left.label <= 1


def test_sign_tie_and_strength():
    """S2-06: below 0 the first is better; 0 is a tie with label 1/2, not a preference."""
    first = to_preference(Comparison("a", "b", -2.0, (-3.0, 1.0)), PROMPT)
    assert (first.chosen, first.label, first.strength, first.raters) == ("a", 1.0, 2.0, (3.0, -1.0))
    second = to_preference(Comparison("a", "b", 1.0, (1.0,)), PROMPT)
    assert (second.chosen, second.rejected, second.raters) == ("b", "a", (1.0,))
    tie = to_preference(Comparison("a", "b", 0.0), PROMPT)
    assert (tie.chosen, tie.label, tie.strength) == ("a", 0.5, 0.0)


def test_soft_label_is_the_share_of_raters():
    """S2-23. Three of four prefer the second although the mean is 0."""
    assert vote_margin([-3, 1, 1, 1]) == 0.5
    pair = to_preference(Comparison("a", "b", 0.0, (-3.0, 1.0, 1.0, 1.0)), PROMPT, soft=True)
    assert (pair.chosen, pair.label) == ("b", 0.75)


@given(st.lists(st.tuples(st.integers(1, 5), st.text()), min_size=2, max_size=6))
def test_ranking_gives_every_pair_once_in_the_right_direction(ranked: list[tuple[int, str]]):
    """S3-02."""
    responses = [f"{i}{text}" for i, (_, text) in enumerate(ranked)]
    ranks = {response: rank for response, (rank, _) in zip(responses, ranked, strict=True)}
    pairs = ranked_pairs(responses, list(ranks.values()))
    assert (
        len({frozenset((c.first, c.second)) for c in pairs})
        == len(pairs)
        == len(ranked) * (len(ranked) - 1) // 2
    )
    assert all(c.score == ranks[c.first] - ranks[c.second] <= 0 for c in pairs)
