"""Dawid-Skene: against an EM in plain loops, and on simulated raters of known reliability."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harken.maths.statistics.dawid_skene import VoteTable, dawid_skene, reliability_intervals

Votes = list[tuple[int, int, int]]


def em_in_plain_loops(
    votes: Votes, items: int, raters: int, classes: int, prior: float, steps: int
) -> tuple[list[list[float]], list[list[list[float]]], list[float]]:
    """Dawid and Skene 1979, equations 2.3 to 2.5, in probabilities, with the prior's counts added."""
    shares: list[list[float]] = []
    for i in range(items):
        said = Counter(label for item, _, label in votes if item == i)
        n = sum(said.values())
        shares.append([said[k] / n if n else 1 / classes for k in range(classes)])
    truth = shares
    confusion: list[list[list[float]]] = []
    prevalence: list[float] = []
    for step in range(steps + 1):
        confusion = [[[prior / classes] * classes for _ in range(classes)] for _ in range(raters)]
        for item, rater, label in votes:
            for k in range(classes):
                confusion[rater][k][label] += truth[item][k]
        for rater, k in product(range(raters), range(classes)):
            total = sum(confusion[rater][k])
            confusion[rater][k] = [x / total for x in confusion[rater][k]]
        sums = [sum(row[k] for row in truth) + prior / classes for k in range(classes)]
        prevalence = [x / sum(sums) for x in sums]
        if step == steps:
            break
        truth = []
        for i in range(items):
            joint = [
                prevalence[k] * math.prod(confusion[r][k][label] for item, r, label in votes if item == i)
                for k in range(classes)
            ]
            truth.append([x / sum(joint) for x in joint])
    return truth, confusion, prevalence


votes_of_a_few = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=25
)


@settings(deadline=None, max_examples=40)
@given(votes_of_a_few, st.sampled_from([0.3, 1.0, 4.0]), st.integers(1, 12))
def test_it_equals_an_em_in_plain_loops(votes: Votes, prior: float, steps: int):
    """S2-61: after any number of steps, posterior and confusion matrices agree to 1e-9."""
    table = VoteTable.of(votes, 5, 3, 3)
    fit = dawid_skene(table, prior=prior, max_iterations=steps, tolerance=-math.inf)
    assert fit.iterations == steps and not fit.converged
    truth, confusion, prevalence = em_in_plain_loops(votes, 5, 3, 3, prior, steps)
    np.testing.assert_allclose(fit.posterior, truth, atol=1e-9)
    np.testing.assert_allclose(fit.confusion, confusion, atol=1e-9)
    np.testing.assert_allclose(fit.prevalence, prevalence, atol=1e-9)


def simulated(seed: int, accuracies: list[float], items: int = 400) -> tuple[Votes, np.ndarray]:
    """Votes on items of two classes, 60 % of the first; a rater is right with their accuracy on either class."""
    draw = np.random.default_rng(seed)
    truth = (draw.random(items) > 0.6).astype(int)
    votes = [
        (i, r, int(truth[i] if draw.random() < accuracy else 1 - truth[i]))
        for i in range(items)
        for r, accuracy in enumerate(accuracies)
        if draw.random() < 0.8
    ]
    return votes, truth


def test_simulated_raters_are_recovered_within_their_intervals():
    """S2-61: 95 % intervals hold the known reliability in most of 60 cases, and are not as wide as [0, 1]."""
    accuracies = [0.95, 0.85, 0.75, 0.65, 0.55, 0.9]
    inside, widths = [], []
    for seed in range(10):
        votes, _ = simulated(seed, accuracies)
        table = VoteTable.of(votes, 400, len(accuracies), 2)
        fit = dawid_skene(table)
        assert fit.converged
        for known, found in zip(accuracies, reliability_intervals(table, fit, draws=100), strict=True):
            inside.append(found.low <= known <= found.high)
            widths.append(found.high - found.low)
    assert sum(inside) >= 54  # 57 of 60 are expected; 53 or fewer have probability 0.02
    assert np.mean(widths) < 0.15


def test_reliability_weights_the_classes_by_how_frequent_they_are():
    """A rater who always says the first class is right as often as it is true."""
    draw = np.random.default_rng(2)
    truth = (draw.random(500) > 0.8).astype(int)
    good = [(i, r, int(t if draw.random() < 0.95 else 1 - t)) for i, t in enumerate(truth) for r in (0, 1, 2)]
    fit = dawid_skene(VoteTable.of([*good, *((i, 3, 0) for i in range(500))], 500, 4, 2))
    assert fit.reliability()[3] == pytest.approx((truth == 0).mean(), abs=0.02)
    assert fit.confusion[3, 1, 0] > 0.95


def test_its_labels_beat_the_majority_where_raters_differ():
    accuracies = [0.97, 0.55, 0.55, 0.55, 0.55]
    votes, truth = simulated(3, accuracies)
    fit = dawid_skene(VoteTable.of(votes, 400, 5, 2))
    said = [Counter({0: 0, 1: 0}) for _ in range(400)]
    for item, _, label in votes:
        said[item][label] += 1
    majority = np.array([count.most_common(1)[0][0] for count in said])
    assert (fit.posterior.argmax(axis=1) == truth).mean() > (majority == truth).mean() + 0.05


def test_the_log_posterior_never_falls_and_one_step_more_changes_nothing():
    votes, _ = simulated(1, [0.9, 0.7, 0.6])
    table = VoteTable.of(votes, 400, 3, 2)
    values = [dawid_skene(table, max_iterations=n, tolerance=-math.inf).log_posterior for n in range(1, 30)]
    assert all(b >= a - 1e-9 for a, b in pairwise(values))
    fit = dawid_skene(table)
    more = dawid_skene(table, max_iterations=fit.iterations + 50, tolerance=-math.inf)
    np.testing.assert_allclose(fit.posterior, more.posterior, atol=1e-3)


def test_hundreds_of_votes_on_an_item_do_not_underflow():
    votes = [(0, r, int(r % 3 == 0)) for r in range(2000)] + [(1, r, 1) for r in range(2000)]
    fit = dawid_skene(VoteTable.of(votes, 2, 2000, 2))
    assert np.isfinite(fit.posterior).all() and np.isfinite(fit.log_posterior)
    np.testing.assert_allclose(fit.posterior.sum(axis=1), 1)


def test_maximum_likelihood_without_a_prior_has_zeros_and_no_nan():
    fit = dawid_skene(VoteTable.of([(0, 0, 0), (0, 1, 0), (1, 0, 1), (1, 1, 1)], 2, 3, 2), prior=0.0)
    np.testing.assert_allclose(fit.posterior, np.eye(2))
    np.testing.assert_allclose(fit.confusion[:2], [np.eye(2)] * 2)
    np.testing.assert_allclose(fit.confusion[2], 0.5)  # never voted


def test_too_few_items_have_no_interval():
    table = VoteTable.of([(0, 0, 0), (1, 0, 1)], 2, 1, 2)
    (found,) = reliability_intervals(table, dawid_skene(table))
    assert (found.low, found.high) == (0.0, 1.0)


@pytest.mark.parametrize("votes", [[], [(0, 0, 2)], [(3, 0, 0)], [(0, -1, 0)]])
def test_a_table_that_is_none_is_refused(votes: Votes):
    with pytest.raises(ValueError, match=r"no votes|outside"):
        VoteTable.of(votes, 3, 1, 2)
