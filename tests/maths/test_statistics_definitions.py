"""The estimators against their definitions, written slowly, and against properties that they must have."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from harken.maths.statistics import bootstrap, intervals, length_control, paired, variance
from harken.maths.statistics.bradley_terry import check_connected, fit_bradley_terry
from harken.maths.statistics.logistic import fit_logistic
from harken.maths.statistics.multiplicity import benjamini_hochberg
from harken.maths.statistics.newton import maximize_concave
from harken.maths.statistics.power import (
    detectable_mean_difference,
    detectable_win_rate,
    prompts_for_win_rate,
)


@pytest.fixture
def random():
    return np.random.default_rng(1)


# Shares


def test_clustered_jeffreys_is_its_definition(random):
    tops, bottoms = random.integers(0, 3, 12).astype(float), np.full(12, 3.0)
    share = sum(tops) / sum(bottoms)
    variance_of_share = (
        sum((t - share * b) ** 2 for t, b in zip(tops, bottoms, strict=True)) / sum(bottoms) ** 2
    )
    n = (
        share * (1 - share) / variance_of_share * (1.959963984540054 / 2.200985160082949) ** 2
    )  # z, t with 11 df
    expected = stats.beta(share * n + 0.5, (1 - share) * n + 0.5).ppf([0.025, 0.975])
    found = intervals.clustered_jeffreys(tops, bottoms)
    assert [found.low, found.high] == pytest.approx(list(expected), rel=1e-9)


@given(st.lists(st.booleans(), min_size=3, max_size=60), st.integers(2, 6))
def test_copies_of_a_row_in_its_cluster_are_no_evidence(hits, copies):
    tops = np.array(hits, dtype=float)
    once = intervals.clustered_jeffreys(tops, np.ones(len(hits)))
    often = intervals.clustered_jeffreys(tops * copies, np.full(len(hits), float(copies)))
    assert (often.mean, often.low, often.high) == pytest.approx((once.mean, once.low, once.high))
    assert 0 <= once.low <= once.mean <= once.high <= 1


def test_clustered_jeffreys_of_many_rows_is_wilsons():
    hits = (np.arange(20_000) % 10 < 3).astype(float)
    found = intervals.clustered_jeffreys(hits, np.ones(20_000))
    assert (found.low, found.high) == pytest.approx(intervals.wilson_interval(6000, 20_000), abs=1e-5)


def test_clusters_that_all_agree_count_once_each():
    found = intervals.clustered_jeffreys(np.zeros(10), np.full(10, 7.0))
    assert (found.low, found.high) == pytest.approx(intervals.wilson_interval(0, 10))
    # A cluster without a denominator is none.
    found = intervals.clustered_jeffreys(np.zeros(10), np.r_[np.ones(4), np.zeros(6)])
    assert found.high == pytest.approx(intervals.wilson_interval(0, 4)[1])


@pytest.mark.parametrize(("tops", "bottoms"), [([0.0], [0.0]), ([2.0], [1.0]), ([-1.0], [1.0])])
def test_what_is_no_share_is_refused(tops, bottoms):
    with pytest.raises(ValueError, match="a share needs"):
        intervals.clustered_jeffreys(tops, bottoms)


def test_rule_of_three():
    assert intervals.rule_of_three(100) == 0.03 and intervals.rule_of_three(1) == 1.0
    with pytest.raises(ValueError, match="at least one row"):
        intervals.rule_of_three(0)


# Bootstrap


def test_replicates_are_ratios_of_the_drawn_clusters():
    tops, bottoms = (
        np.array([[1.0, 0.0], [2.0, 5.0], [4.0, 0.0]]),
        np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0]]),
    )
    found = bootstrap.resample_ratios(tops, bottoms, 50, seed=4)
    drawn = np.random.default_rng(4).integers(3, size=(50, 3), dtype=np.int32)
    for row, picks in zip(found, drawn, strict=True):
        assert row[0] == pytest.approx(sum(tops[i, 0] for i in picks) / sum(bottoms[i, 0] for i in picks))
        assert np.isnan(row[1]) == (1 not in picks) and (np.isnan(row[1]) or row[1] == 5.0)


def test_expanded_percentiles_are_hesterbergs(random):
    replicates = random.normal(size=4001)
    tail = stats.norm.cdf(-math.sqrt(10 / 9) * stats.t.ppf(0.975, 9))
    found = bootstrap.percentile_interval(replicates, clusters=10)
    assert found == pytest.approx(tuple(np.quantile(replicates, [tail, 1 - tail])))
    assert found[0] < bootstrap.percentile_interval(replicates)[0]
    assert bootstrap.percentile_interval([*replicates, math.nan]) == bootstrap.percentile_interval(replicates)


def test_bca_is_its_definition(random):
    values = random.exponential(size=25)
    replicates = bootstrap.resample_ratios(values[:, None], np.ones((25, 1)), 3000, seed=1)[:, 0]
    left = [np.delete(values, i).mean() for i in range(25)]
    jackknife = bootstrap.jackknife_ratio(values, np.ones(25))
    assert jackknife == pytest.approx(left)
    centre = sum(left) / 25
    a = sum((centre - x) ** 3 for x in left) / (6 * sum((centre - x) ** 2 for x in left) ** 1.5)
    z0 = stats.norm.ppf(np.mean(replicates < values.mean()))
    levels = [
        stats.norm.cdf(z0 + (z0 + z) / (1 - a * (z0 + z))) for z in (-1.959963984540054, 1.959963984540054)
    ]
    found = bootstrap.bca_interval(float(values.mean()), replicates, jackknife)
    assert found == pytest.approx(tuple(np.quantile(replicates, levels)))
    plain = bootstrap.percentile_interval(replicates)
    assert found[0] > plain[0] and found[1] > plain[1], "a right-skewed mean has its interval moved up"
    wider = bootstrap.bca_interval(float(values.mean()), replicates, jackknife, clusters=25)
    assert wider[0] < found[0] and wider[1] > found[1]


def test_bca_without_anything_to_correct_is_the_percentile_interval():
    replicates = np.linspace(0, 1, 101)
    assert bootstrap.bca_interval(2.0, replicates, [1.9, 2.1]) == bootstrap.percentile_interval(replicates)


# Pairs


def walsh(values):
    return sorted((values[i] + values[j]) / 2 for i in range(len(values)) for j in range(i, len(values)))


@given(st.lists(st.integers(-6, 6), min_size=1, max_size=25))
@settings(deadline=None, max_examples=80)
def test_hodges_lehmann_is_the_median_of_all_averages(values):
    averages = walsh([float(v) for v in values])
    found = paired.hodges_lehmann([float(v) for v in values])
    assert found.mean == pytest.approx(float(np.median(averages)), abs=1e-12)
    assert {found.low, found.high} <= {*averages, -np.inf, np.inf} and found.low <= found.mean <= found.high


def test_the_interval_of_hodges_lehmann_inverts_the_signed_rank_test(random):
    """Just inside the bounds the normal test accepts, just outside it rejects."""
    values = random.normal(0.4, 1, 60)
    found = paired.hodges_lehmann(values)

    def p(shift):
        return stats.wilcoxon(values - shift, method="approx").pvalue

    assert p(found.low + 1e-3) > 0.045 and p(found.high - 1e-3) > 0.045
    assert p(found.low - 0.01) < 0.052 and p(found.high + 0.01) < 0.052


def test_hodges_lehmann_moves_with_its_values(random):
    values = random.normal(size=41)
    found, moved = paired.hodges_lehmann(values), paired.hodges_lehmann(2 * values + 3)
    for one, two in zip(
        (found.mean, found.low, found.high), (moved.mean, moved.low, moved.high), strict=True
    ):
        assert two == pytest.approx(2 * one + 3)
    assert paired.hodges_lehmann(values, 0.8).low > found.low
    with pytest.raises(ValueError, match="at least one difference"):
        paired.hodges_lehmann([])


def test_copies_within_a_cluster_leave_the_interval_of_hodges_lehmann(random):
    values = random.normal(size=80)
    once = paired.hodges_lehmann(values)
    often = paired.hodges_lehmann(np.repeat(values, 5), clusters=np.repeat(np.arange(80), 5))
    alone = paired.hodges_lehmann(np.repeat(values, 5))
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.1)
    assert alone.high - alone.low < 0.6 * (once.high - once.low)


def test_the_exact_wilcoxon_test_counts_signs():
    values = [0.5, -1.0, 2.0, 3.0, 4.5, -0.2, 6.0]
    ranks = stats.rankdata(np.abs(values))
    observed = abs((ranks * np.sign(values)).sum())
    totals = [
        abs(sum(r if (mask >> i) & 1 else -r for i, r in enumerate(ranks)))
        for mask in range(2 ** len(values))
    ]
    assert paired.wilcoxon_test([*values, 0.0]) == pytest.approx(np.mean([t >= observed for t in totals]))
    assert paired.wilcoxon_test([0.0, 0.0]) == 1.0


def test_clustered_standard_error_is_its_formula(random):
    values, clusters = random.normal(size=20), [i // 4 for i in range(20)]
    mean = sum(values) / 20
    sums = [sum(v - mean for v, c in zip(values, clusters, strict=True) if c == k) for k in range(5)]
    expected = math.sqrt(5 / 4 * sum(s**2 for s in sums)) / 20
    assert paired.clustered_standard_error(values, clusters) == pytest.approx(expected)
    assert paired.clustered_standard_error(values, range(20)) == pytest.approx(
        values.std(ddof=1) / math.sqrt(20)
    )
    assert paired.clustered_standard_error([1.0, 2.0], [0, 0]) is None


def test_effect_sizes_without_a_spread():
    assert paired.cohen_dz([2.0, 2.0]) is None and paired.cohen_dz([1.0]) is None
    assert paired.cohen_dz([0.0, 2.0]) == pytest.approx(1 / math.sqrt(2))


def test_mcnemar_looks_at_the_prompts_that_differ():
    assert paired.mcnemar_test(1, 7) == pytest.approx(2 * (1 + 8) / 2**8) == paired.mcnemar_test(7, 1)


# Several tests, power, variance


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.01, 0.3))
def test_q_values_reject_what_the_step_up_procedure_rejects(p, level):
    """Benjamini and Hochberg's own wording: the largest k with p_(k) <= k / m × level, and all below."""
    ordered = sorted(range(len(p)), key=lambda i: p[i])
    passing = [k for k, i in enumerate(ordered, start=1) if len(p) / k * p[i] <= level]
    rejected = set(ordered[: max(passing, default=0)])
    assert {i for i, q in enumerate(benjamini_hochberg(p)) if q <= level} == rejected


def test_q_values_by_hand():
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.9]) == pytest.approx(
        [0.04, 0.04 * 4 / 3, 0.04 * 4 / 3, 0.9]
    )
    assert benjamini_hochberg([]) == []


@pytest.mark.parametrize("n", [50, 200, 2017])
def test_the_two_powers_are_inverse(n):
    assert prompts_for_win_rate(detectable_win_rate(n)) in (n, n + 1)
    assert prompts_for_win_rate(1 - detectable_win_rate(n)) in (n, n + 1)


def test_a_detectable_difference_is_found_four_times_in_five(random):
    error = 0.3
    estimates = random.normal(detectable_mean_difference(error), error, 100_000)
    assert np.mean(np.abs(estimates / error) > 1.96) == pytest.approx(0.8, abs=0.01)
    with pytest.raises(ValueError, match="detectable win rate"):
        prompts_for_win_rate(0.5)


def test_the_variance_of_prompts_and_samples_is_found(random):
    values = random.normal(0, 2, (4000, 1)) + random.normal(0, 3, (4000, 4))
    found = variance.split_variance(values)
    assert (found.prompt, found.sample) == pytest.approx((4, 9), rel=0.08)
    assert found.standard_errors[1] == pytest.approx(math.sqrt((found.prompt + found.sample) / 4000))
    assert (
        found.limit == pytest.approx(math.sqrt(found.prompt / 4000))
        and found.limit < found.standard_errors[16]
    )
    assert found.standard_errors[4] == pytest.approx(values.mean(axis=1).std(ddof=1) / math.sqrt(4000))


def test_samples_that_vary_more_than_prompts_leave_no_variance_of_prompts():
    assert variance.split_variance([[0.0, 4.0], [4.0, 0.0], [1.0, 3.0]]).prompt == 0.0
    with pytest.raises(ValueError, match="at least 2 prompts"):
        variance.split_variance([[1.0], [2.0]])


# Regressions


def test_newtons_steps_stay_in_the_domain():
    """log x − x has its maximum at 1; a whole step from 5 goes to −15."""
    found = maximize_concave(
        np.array([[5.0], [0.1], [1.0]]),
        lambda x: (1 / x - 1, (1 / x**2)[:, :, None]),
        lambda x: x[:, 0] > 0,
    )
    assert found[:, 0] == pytest.approx([1.0, 1.0, 1.0])


def test_newtons_steps_do_not_oscillate():
    """−log cosh x from 1.5: whole steps go further out on the other side each time."""
    found = maximize_concave(np.array([[1.5], [-2.0]]), lambda x: (-np.tanh(x), np.cosh(x)[:, :, None] ** -2))
    assert found[:, 0] == pytest.approx([0.0, 0.0], abs=1e-9)


def test_separated_outcomes_have_a_finite_fit_with_a_prior_and_none_without(random):
    features, labels = np.ones((30, 1)), np.ones(30)
    fitted = fit_logistic(features, labels, np.ones((1, 30)))[0, 0]
    assert 30 * special.expit(-fitted) == pytest.approx(0.01 * fitted)
    with pytest.raises(ValueError, match=r"no (finite|unique) maximum"):
        fit_logistic(features, labels, np.ones((1, 30)), l2=0.0)


def test_a_fit_with_weights_is_a_fit_of_copies(random):
    features, labels = np.column_stack([np.ones(40), random.normal(size=40)]), random.integers(3, size=40) / 2
    counts = random.integers(4, size=40)
    weighted = fit_logistic(features, labels, counts[None].astype(float))
    copied = fit_logistic(
        np.repeat(features, counts, axis=0), np.repeat(labels, counts), np.ones((1, counts.sum()))
    )
    assert weighted == pytest.approx(copied)


def controlled(outcomes, lengths, **options):
    clusters = np.arange(len(outcomes))
    return length_control.length_controlled_win_rate(outcomes, lengths, clusters, draws=200, **options)


def test_without_differences_of_length_it_is_the_win_share(random):
    outcomes = random.integers(3, size=200) / 2
    found = controlled(outcomes, np.zeros(200), l2=1e-9)
    assert found.win_rate.mean == pytest.approx(outcomes.mean()) and found.phi == 0
    assert found.win_rate.low < outcomes.mean() < found.win_rate.high
    reach = 1.96 * outcomes.std() / math.sqrt(200)
    assert found.win_rate.high - found.win_rate.low == pytest.approx(2 * reach, rel=0.2)


def test_wins_by_length_alone_are_no_wins_at_equal_length(random):
    lengths = random.normal(60, 100, 3000)
    outcomes = (random.random(3000) < special.expit(2 * np.tanh(lengths / lengths.std()))).astype(float)
    found = controlled(outcomes, lengths)
    assert outcomes.mean() > 0.6
    assert found.win_rate.low < 0.5 < found.win_rate.high and found.phi == pytest.approx(2, abs=0.4)


def test_the_other_side_has_the_other_rate(random):
    lengths, outcomes = random.normal(size=150), random.integers(3, size=150) / 2
    found, turned = controlled(outcomes, lengths, seed=3), controlled(1 - outcomes, -lengths, seed=3)
    assert turned.win_rate.mean == pytest.approx(1 - found.win_rate.mean)
    assert turned.win_rate.low == pytest.approx(1 - found.win_rate.high)
    assert turned.phi == pytest.approx(found.phi)


def test_the_interval_is_the_spread_of_refits_written_slowly(random):
    lengths, outcomes = random.normal(size=80), (random.random(80) < 0.8).astype(float)
    found = controlled(outcomes, lengths, seed=5)
    length = np.tanh(lengths / lengths.std())

    def odds(rows):
        """The intercept of a fit to these rows and one tie at equal length."""
        x, y = np.append(length[rows], 0.0), np.append(outcomes[rows], 0.5)

        def loss(b):
            margin = b[0] + b[1] * x
            return sum(np.logaddexp(0, margin) - y * margin) + 0.005 * (b[0] ** 2 + b[1] ** 2)

        return optimize.minimize(loss, [0.0, 0.0], tol=1e-9).x[0]

    drawn = np.random.default_rng(5).integers(80, size=(200, 80), dtype=np.int32)
    spread = np.std([odds(rows) for rows in drawn])
    reach = stats.norm.ppf(0.975) * spread
    expected = special.expit(odds(np.arange(80)) + np.array([-reach, reach]))
    assert [found.win_rate.low, found.win_rate.high] == pytest.approx(list(expected), abs=1e-4)


def test_copies_of_a_prompt_leave_the_interval_of_the_length_control(random):
    lengths, outcomes = random.normal(size=60), random.integers(3, size=60) / 2
    once = controlled(outcomes, lengths, l2=1e-6)
    often = length_control.length_controlled_win_rate(
        np.repeat(outcomes, 3), np.repeat(lengths, 3), np.repeat(np.arange(60), 3), draws=200, l2=1e-6
    )
    assert (often.win_rate.low, often.win_rate.high) == pytest.approx(
        (once.win_rate.low, once.win_rate.high), abs=5e-3
    )


def test_lengths_match_within_a_tenth():
    left, right = [100, 100, 100, 0, 0, 100], [109, 112, 91, 0, 5, 50]
    assert length_control.length_matched(left, right).tolist() == [True, False, True, True, False, False]
    assert length_control.length_correlations([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]) == (None, None)
    assert length_control.length_correlations([1.0, 2.0, 9.0], [2.0, 3.0, 4.0])[1] == pytest.approx(1.0)


# Bradley–Terry


def test_two_policies_have_the_log_odds_of_their_wins():
    b = fit_bradley_terry([[0, 30], [10, 0]], np.zeros((2, 2)), l2=0.0).b[0]
    assert b[0] - b[1] == pytest.approx(math.log(3))


def test_rao_kupper_is_its_likelihood(random):
    wins, ties = random.integers(5, 40, (4, 4)), random.integers(1, 12, (4, 4))
    ties = ties + ties.T

    def loss(x):
        b, eta, total = x[:4], x[4], 0.0
        for i in range(4):
            for j in range(4):
                if i != j:
                    win = special.expit(b[i] - b[j] - eta)
                    total -= wins[i, j] * math.log(win)
                    if i < j:
                        total -= ties[i, j] * math.log(1 - win - special.expit(b[j] - b[i] - eta))
        return total + 0.05 * sum(b**2)

    best = optimize.minimize(loss, [0, 0, 0, 0, 0.3], method="Nelder-Mead", options={
        "xatol": 1e-9, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000, "adaptive": True,
    })  # fmt: skip
    found = fit_bradley_terry(wins, ties, l2=0.1)
    assert found.b[0] == pytest.approx(best.x[:4] - best.x[:4].mean(), abs=1e-5)
    assert found.eta[0] == pytest.approx(best.x[4], abs=1e-5)


def test_the_strengths_of_a_population_are_found():
    b, eta = np.array([0.0, 0.5, -0.8]), 0.4
    win = special.expit(b[:, None] - b[None, :] - eta) * 1e6
    np.fill_diagonal(win, 0)
    tie = 1e6 - win - win.T
    np.fill_diagonal(tie, 0)
    found = fit_bradley_terry(win, tie, l2=0.0)
    assert found.b[0] == pytest.approx(b - b.mean()) and found.eta[0] == pytest.approx(eta)


def test_a_stack_is_fitted_as_each_alone(random):
    wins = random.integers(0, 20, (6, 3, 3))
    ties = np.array([0, 0, 1, 2, 5, 30])[:, None, None] * np.ones((6, 3, 3))
    together = fit_bradley_terry(wins, ties)
    for k in range(6):
        alone = fit_bradley_terry(wins[k], ties[k])
        assert together.b[k] == pytest.approx(alone.b[0]) and together.eta[k] == pytest.approx(alone.eta[0])
    assert together.eta[0] == 0 and together.eta[5] > together.eta[2]


def test_a_policy_that_always_wins_has_a_finite_strength():
    b = fit_bradley_terry([[0, 50, 50], [0, 0, 25], [0, 25, 0]], np.zeros((3, 3))).b[0]
    assert 3 < b[0] - b[1] < 20 and b[1] == pytest.approx(b[2])
    with pytest.raises(ValueError, match=r"no (finite|unique) maximum"):
        fit_bradley_terry([[0, 50], [0, 0]], np.zeros((2, 2)), l2=0.0)


def test_policies_that_never_met_are_named():
    met = np.zeros((4, 4))
    met[0, 2] = met[3, 1] = 1
    with pytest.raises(ValueError, match=r"\[\[0, 2\], \[1, 3\]\]"):
        check_connected(met)
    with pytest.raises(ValueError, match="never compared"):
        fit_bradley_terry(met, np.zeros((4, 4)))
    with pytest.raises(ValueError, match="square"):
        fit_bradley_terry(np.zeros((2, 3)), np.zeros((2, 3)))
