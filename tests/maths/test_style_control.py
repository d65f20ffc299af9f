"""The style-controlled win rate: its definition, statsmodels and scikit-learn, limits, and what counts as markup."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import optimize, special
from sklearn.linear_model import LogisticRegression

from harken.evaluation.compare import compare
from harken.evaluation.style import count_styles
from harken.evaluation.tables import tables
from harken.maths.statistics.length_control import length_controlled_win_rate
from harken.maths.statistics.style_control import relative_difference, style_controlled_win_rate

N = 120
STYLES = ("length", "headers", "lists", "bold")


@pytest.fixture
def study():
    """Outcomes with ties, and styles of both sides, of N rows."""
    random = np.random.default_rng(7)
    left, right = ({name: random.integers(0, 6, N) for name in STYLES} for _ in range(2))
    slope = relative_difference(left["bold"], right["bold"]) + 0.3
    outcomes = np.where(random.random(N) < 0.1, 0.5, random.random(N) < special.expit(slope))
    return outcomes, left, right


def design(left, right):
    columns = []
    for name in STYLES:
        d = [(b - a) / (a + b) if a + b else 0.0 for a, b in zip(left[name], right[name], strict=True)]
        columns.append(np.array(d) / np.std(d))
    return np.column_stack([np.ones(N), *columns])


def test_it_equals_statsmodels(study):
    outcomes, left, right = study
    found = style_controlled_win_rate(outcomes, left, right, np.arange(N), draws=20, l2=0.0)
    fit = sm.GLM(outcomes, design(left, right), family=sm.families.Binomial()).fit(tol=1e-14)
    assert (found.theta, *found.effects.values()) == pytest.approx(tuple(fit.params), rel=1e-9, abs=1e-9)
    assert found.win_rate.mean == pytest.approx(fit.predict([[1, 0, 0, 0, 0]])[0], rel=1e-9)
    assert list(found.effects) == list(STYLES)


def test_with_a_prior_it_equals_scikit_learn_and_its_definition(study):
    outcomes, left, right = study
    outcomes = np.round(outcomes)
    found = style_controlled_win_rate(outcomes, left, right, np.arange(N), draws=20, l2=0.5)
    x = design(left, right)
    fit = LogisticRegression(C=2.0, fit_intercept=False, tol=1e-12, max_iter=10_000).fit(x, outcomes)
    beta = [found.theta, *found.effects.values()]
    assert beta == pytest.approx(fit.coef_[0], abs=1e-6)

    def loss(b):
        z = x @ b
        return -np.sum(outcomes * -np.logaddexp(0, -z) - (1 - outcomes) * np.logaddexp(0, z)) + 0.25 * b @ b

    slow = optimize.minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-9}).x
    assert beta == pytest.approx(slow, abs=1e-5)


def test_the_other_side_has_the_complement(study):
    outcomes, left, right = study
    one = style_controlled_win_rate(outcomes, left, right, np.arange(N), draws=50)
    other = style_controlled_win_rate(1 - outcomes, right, left, np.arange(N), draws=50)
    assert other.win_rate.mean == pytest.approx(1 - one.win_rate.mean)
    assert (other.win_rate.low, other.win_rate.high) == pytest.approx(
        (1 - one.win_rate.high, 1 - one.win_rate.low)
    )
    assert other.effects == pytest.approx(one.effects)


def test_equal_styles_leave_the_share_of_wins(study):
    outcomes, left, _ = study
    found = style_controlled_win_rate(outcomes, left, left, np.arange(N), draws=50, l2=0.0 + 1e-9)
    assert found.win_rate.mean == pytest.approx(outcomes.mean(), abs=1e-6)
    assert set(found.effects.values()) == {0.0}
    plain = length_controlled_win_rate(outcomes, np.zeros(N), np.arange(N), draws=50)
    again = style_controlled_win_rate(outcomes, left, left, np.arange(N), draws=50)
    assert again.win_rate.low == pytest.approx(plain.win_rate.low, abs=1e-9)


def test_wins_by_markup_alone_are_no_wins_at_equal_style():
    """PPO writes more bold text and wins where it does; at equal style both are as good."""
    random = np.random.default_rng(0)
    bold = random.integers(0, 8, 4000), random.integers(2, 10, 4000)
    d = relative_difference(*bold)
    outcomes = (random.random(4000) < special.expit(2 * d)).astype(float)
    found = style_controlled_win_rate(
        outcomes, {"bold": bold[0]}, {"bold": bold[1]}, np.arange(4000), draws=100
    )
    assert outcomes.mean() > 0.6 and found.effects["bold"] > 0
    assert found.win_rate.low < 0.5 < found.win_rate.high and found.win_rate.high < outcomes.mean()


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("", (0, 0, 0)),
        ("# One\n\n## Two\ntext # no header\n#hash", (2, 0, 0)),
        ("- a\n* b\n  + c\n1. d\n2) e\n-no\n1.5 m", (0, 5, 0)),
        ("**a** and __b__, **not\nover lines**, snake__case__name, 2 ** 3 ** 4", (0, 0, 2)),
        ("```\n# code\n- x\n**y**\n```\n# real", (1, 0, 0)),
        ("* **both**: x", (0, 1, 1)),
    ],
)
def test_markup_is_counted(text, counts):
    assert count_styles(text) == counts


def test_a_comparison_has_the_style_controlled_rate_where_there_is_markup():
    def rows(texts):
        return [
            {
                "policy": policy, "prompt_id": str(i), "sample": 0, "reward": float((i * 7 + k * 3) % 5),
                "response": texts[(i + k) % len(texts)],
            }
            for k, policy in enumerate("AB")
            for i in range(40)
        ]  # fmt: skip

    options = {"draws": 50, "refit_draws": 20}
    plain = compare(rows(["some text", "more of the text"]), **options)
    assert plain["pairs"][0]["style"] is None and "style-controlled %" not in tables(plain, 300)
    summary = compare(rows(["**some** text", "# more\n- of\n- the text"]), **options)
    style = summary["pairs"][0]["style"]
    assert style["mean_left"] == {"length": 3.0, "headers": 0.5, "lists": 1.0, "bold": 0.5}
    rate = style["controlled"]
    printed = tables(summary, 300)
    assert f"{100 * rate['value']:.1f} [{100 * rate['low']:.1f}, {100 * rate['high']:.1f}]" in printed
    assert all(name in printed for name in ("style-controlled %", "effect of bold", "mean headers"))
