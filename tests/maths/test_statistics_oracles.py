"""Every estimator equals an independent library at 1e-9 on random data."""

import math

import choix
import evalica
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.linear_model import LogisticRegression
from statsmodels.formula.api import ols
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import normal_sample_size_one_tail
from statsmodels.stats.proportion import proportion_confint

from harken.maths.statistics import bootstrap, intervals, length_control, paired, variance
from harken.maths.statistics.bradley_terry import fit_bradley_terry
from harken.maths.statistics.logistic import fit_logistic
from harken.maths.statistics.multiplicity import benjamini_hochberg, holm
from harken.maths.statistics.power import (
    detectable_mean_difference,
    detectable_win_rate,
    prompts_for_win_rate,
)

EXACT = 1e-9


def close(value):
    return pytest.approx(value, rel=EXACT, abs=EXACT)


@pytest.fixture
def random():
    return np.random.default_rng(839)


@pytest.mark.parametrize(("successes", "n"), [(0, 7), (7, 7), (36, 2017), (978, 2017), (3, 50)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_wilson_equals_statsmodels(successes, n, confidence):
    expected = proportion_confint(successes, n, 1 - confidence, method="wilson")
    assert intervals.wilson_interval(successes, n, confidence) == close(expected)


def test_clustered_jeffreys_equals_statsmodels(random):
    """The variance from an OLS with clusters, then Jeffreys' interval at the effective n that this variance gives."""
    clusters = random.integers(40, size=300)
    hits = (random.random(300) < 0.3 + 0.4 * (clusters % 2)).astype(float)
    fit = sm.OLS(hits, np.ones(300)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    share, used = hits.mean(), len(set(clusters))
    variance = fit.bse[0] ** 2 * (used - 1) / used
    effective = share * (1 - share) / variance * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, used - 1)) ** 2
    expected = proportion_confint(share * effective, effective, method="jeffreys")
    found = intervals.clustered_jeffreys(np.bincount(clusters, hits), np.bincount(clusters))
    assert (found.mean, found.low, found.high) == close((share, *expected))


def test_rule_of_three_is_about_the_exact_bound():
    """statsmodels' exact one-sided bound is 1 − 0.05^(1/n), and −log 0.05 is 2.996."""
    exact = proportion_confint(0, 2017, 0.1, method="beta")[1]
    assert intervals.rule_of_three(2017) == pytest.approx(exact, rel=3e-3)
    assert intervals.rule_of_three(2) == 1.0


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (1, 8), (892, 963), (50, 50), (785, 1190)])
def test_sign_test_equals_scipy(wins, losses):
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert paired.sign_test(wins, losses) == close(expected)


@pytest.mark.parametrize(("left", "right"), [(9, 2), (40, 75), (5, 5), (100, 171)])
def test_mcnemar_equals_statsmodels(left, right):
    expected = mcnemar([[30, left], [right, 20]], exact=True).pvalue
    assert paired.mcnemar_test(left, right) == close(expected)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_bootstrap_intervals_equal_scipy(random, method, confidence):
    """SciPy makes the interval from our replicates; its own draws would differ."""
    values = random.exponential(size=60)
    replicates = bootstrap.resample_ratios(values[:, None], np.ones((60, 1)), 4000, seed=3)[:, 0]
    once = stats.bootstrap((values,), np.mean, n_resamples=10, method=method, rng=np.random.default_rng(0))
    ours = type(once)(once.confidence_interval, replicates, 0.0)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=0, bootstrap_result=ours, method=method, confidence_level=confidence
    ).confidence_interval
    if method == "BCa":
        jackknife = bootstrap.jackknife_ratio(values, np.ones(60))
        found = bootstrap.bca_interval(float(values.mean()), replicates, jackknife, confidence)
    else:
        found = bootstrap.percentile_interval(replicates, confidence)
    assert found == close(tuple(expected))


def test_wilcoxon_equals_the_normal_approximation_of_statsmodels_ranks(random):
    """SciPy's test is what is used, so the oracle is the statistic by hand with ties, and a t-test of signed ranks."""
    values = np.round(random.normal(0.2, 1, 400), 1)
    values = values[values != 0]
    ranks = stats.rankdata(np.abs(values))
    z = (ranks * np.sign(values)).sum() / math.sqrt((ranks**2).sum())
    assert paired.wilcoxon_test(values) == close(2 * stats.norm.sf(abs(z)))


def test_cohen_dz_equals_scipy(random):
    values = random.normal(0.3, 2, 80)
    assert paired.cohen_dz(values) == close(stats.ttest_1samp(values, 0).statistic / math.sqrt(80))


def test_clustered_standard_error_equals_statsmodels(random):
    clusters = random.integers(25, size=200)
    values = random.normal(size=25)[clusters] + random.normal(size=200)
    fit = sm.OLS(values, np.ones(200)).fit(cov_type="cluster", cov_kwds={"groups": clusters})
    assert paired.clustered_standard_error(values, clusters) == close(fit.bse[0])


@pytest.mark.parametrize(("ours", "method"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
def test_adjusted_p_values_equal_statsmodels(random, ours, method):
    p_values = [*random.random(20) ** 3, 0.04, 0.04]
    assert ours(p_values) == close(multipletests(p_values, method=method)[1])


def test_q_values_equal_scipy(random):
    p_values = list(random.random(31) ** 2)
    assert benjamini_hochberg(p_values) == close(stats.false_discovery_control(p_values))


@pytest.mark.parametrize("rate", [0.53, 0.599, 0.7])
def test_prompts_for_a_win_rate_equal_statsmodels(rate):
    expected = normal_sample_size_one_tail(rate - 0.5, 0.8, 0.025, std_null=0.5, std_alternative=0.5)
    assert prompts_for_win_rate(rate) == math.ceil(expected)
    n = round(expected)
    assert normal_sample_size_one_tail(
        detectable_win_rate(n) - 0.5, 0.8, 0.025, std_null=0.5, std_alternative=0.5
    ) == close(n)


def test_detectable_mean_difference_equals_statsmodels():
    n = 321
    expected = normal_sample_size_one_tail(
        detectable_mean_difference(2.5 / math.sqrt(n)), 0.8, 0.025, std_null=2.5
    )
    assert expected == close(n)


def test_logistic_regression_equals_statsmodels(random):
    """Fractional labels and counts as weights, without a prior."""
    features = np.column_stack([np.ones(150), random.normal(size=(150, 2))])
    labels = random.integers(3, size=150) / 2
    weights = random.integers(4, size=(2, 150)).astype(float)
    found = fit_logistic(features, labels, weights, l2=0.0)
    for fitted, weight in zip(found, weights, strict=True):
        model = sm.GLM(labels, features, family=sm.families.Binomial(), freq_weights=weight)
        assert fitted == close(model.fit(tol=1e-14).params)


def test_logistic_regression_with_a_prior_equals_scikit_learn(random):
    features = np.column_stack([np.ones(150), random.normal(size=(150, 2))])
    labels = (random.random(150) < 0.7).astype(float)
    model = LogisticRegression(C=1 / 0.3, fit_intercept=False, solver="newton-cholesky", tol=1e-12)
    expected = model.fit(features, labels).coef_[0]
    assert fit_logistic(features, labels, np.ones((1, 150)), l2=0.3)[0] == close(expected)


def test_length_controlled_win_rate_equals_statsmodels(random):
    lengths, difficulty = random.normal(0, 90, 200), random.normal(size=200)
    outcomes = random.integers(3, size=200) / 2
    found = length_control.length_controlled_win_rate(
        outcomes, lengths, np.arange(200), difficulty, draws=20, l2=0.0
    )
    features = np.column_stack([np.ones(200), np.tanh(lengths / lengths.std()), difficulty])
    fit = sm.GLM(outcomes, features, family=sm.families.Binomial()).fit(tol=1e-14)
    assert (found.theta, found.phi, found.psi) == close(tuple(fit.params))
    features[:, 1] = 0
    assert found.win_rate.mean == close(fit.predict(features).mean())


def test_length_correlations_equal_pandas(random):
    frame = pd.DataFrame({"value": random.integers(9, size=99), "length": random.integers(30, size=99)})
    expected = tuple(frame.corr(method)["value"]["length"] for method in ("pearson", "spearman"))
    assert length_control.length_correlations(frame["value"], frame["length"]) == close(expected)


def test_bradley_terry_equals_choix(random):
    wins = random.integers(3, 40, size=(5, 5))
    np.fill_diagonal(wins, 0)
    data = [(i, j) for i in range(5) for j in range(5) for _ in range(wins[i, j])]
    found = fit_bradley_terry(wins, np.zeros((5, 5)), l2=0.0)
    # ilsr stops by a tolerance on the parameters; a run of it is refined to the last digit.
    expected = choix.ilsr_pairwise(5, data, max_iter=2000, tol=1e-13)
    assert found.b[0] == close(expected - expected.mean()) and found.eta[0] == 0


def test_bradley_terry_with_a_prior_equals_scikit_learn(random):
    """A logistic regression on rows e_i − e_j, half of them turned round so that both labels occur."""
    wins = random.integers(0, 9, size=(4, 4))
    np.fill_diagonal(wins, 0)
    pairs = [(i, j) for i in range(4) for j in range(4) for _ in range(wins[i, j])]
    features = np.eye(4)[[i for i, _ in pairs]] - np.eye(4)[[j for _, j in pairs]]
    labels = np.arange(len(pairs)) % 2
    features[labels == 0] *= -1
    model = LogisticRegression(C=1 / 0.1, fit_intercept=False, solver="newton-cholesky", tol=1e-12)
    expected = model.fit(features, labels).coef_[0]
    assert fit_bradley_terry(wins, np.zeros((4, 4)), l2=0.1).b[0] == close(expected)


def test_bradley_terry_equals_evalica(random):
    wins = random.integers(3, 40, size=(4, 4))
    np.fill_diagonal(wins, 0)
    pairs = [(i, j) for i in range(4) for j in range(4) for _ in range(wins[i, j])]
    scores = evalica.bradley_terry(
        [str(i) for i, _ in pairs], [str(j) for _, j in pairs], [evalica.Winner.X] * len(pairs),
        tolerance=1e-14, limit=100_000,
    ).scores.sort_index()  # fmt: skip
    expected = np.log(scores.to_numpy())
    assert fit_bradley_terry(wins, np.zeros((4, 4)), l2=0.0).b[0] == close(expected - expected.mean())


def test_variance_split_equals_the_anova_of_statsmodels(random):
    values = random.normal(size=(30, 1)) * 2 + random.normal(size=(30, 4))
    frame = pd.DataFrame({"value": values.ravel(), "prompt": np.repeat(np.arange(30), 4)})
    squares = sm.stats.anova_lm(ols("value ~ C(prompt)", frame).fit())["mean_sq"]
    found = variance.split_variance(values)
    assert found.sample == close(squares["Residual"])
    assert found.prompt == close((squares["C(prompt)"] - squares["Residual"]) / 4)
    assert found.standard_errors[4] == close(math.sqrt(squares["C(prompt)"] / 120))
