"""The reference run's tables, recomputed from synthetic responses whose counts are the published ones."""

import pytest
from evaluation.reference_shape import EVAL_512, EVAL_1024, POLICIES, rows

from harken.evaluation.compare import compare
from harken.evaluation.tables import tables
from harken.maths.repetition import repeated_ngram_fraction

N = 2017
SUITES = {"1024": EVAL_1024, "512": EVAL_512}


def points(rate):
    """Percent with two digits, as published."""
    return round(100 * rate["value"], 2)


def bounds(rate, digits=1):
    return round(100 * rate["low"], digits), round(100 * rate["high"], digits)


@pytest.fixture(scope="module", params=SUITES)
def case(request):
    suite = SUITES[request.param]
    made = rows(suite)
    return suite, made, compare(made, draws=500, refit_draws=100)


@pytest.fixture(scope="module")
def main():
    return compare(rows(EVAL_1024), draws=500, refit_draws=100)


def find(summary, left, right):
    return next(p for p in summary["pairs"] if (p["left"], p["right"]) == (left, right))


def test_every_published_count_and_mean_is_found(case):
    suite, _, summary = case
    assert summary["n"] == summary["prompts"] == N
    table = summary["table"]
    assert [row["policy"] for row in table] == list(POLICIES)
    assert tuple(row["win_rate"]["count"] for row in table) == suite.wins
    assert summary["ties"]["count"] == suite.ties
    assert tuple(round(row["reward"]["value"], 4) for row in table) == suite.rewards
    assert tuple(row["median_response_tokens"] for row in table) == suite.medians
    assert tuple(row["cap_hit"]["count"] for row in table) == suite.truncated
    assert tuple(row["repetition"]["count"] for row in table) == suite.repetitive
    assert all(row["empty"]["count"] == 0 for row in table)
    for (left, right), (wins, ties, losses) in suite.pairs.items():
        pair = find(summary, POLICIES[left], POLICIES[right])
        assert (pair["wins"], pair["ties"], pair["losses"]) == (wins, ties, losses)
    for domain, (wins, ties, losses) in suite.domains.items():
        part = find(summary, "Base", "PPO")["domains"][domain]
        assert (part["wins"], part["ties"], part["losses"]) == (wins, ties, losses)


def test_the_three_way_table_of_the_main_suite(main):
    assert [points(row["win_rate"]) for row in main["table"]] == [48.49, 23.55, 23.15]
    assert points(main["ties"]) == 4.81
    assert [points(row["cap_hit"]) for row in main["table"]] == [8.08, 10.16, 11.60]
    assert [points(row["repetition"]) for row in main["table"]] == [7.49, 13.78, 16.11]
    assert bounds(main["table"][0]["win_rate"]) == (46.3, 50.7)


@pytest.mark.parametrize(
    ("left", "right", "rate", "difference"),
    [("Base", "SFT", 37.83, -0.2480), ("Base", "PPO", 38.92, -0.2137), ("SFT", "PPO", 44.22, 0.0343)],
)
def test_the_pair_table_of_the_main_suite(main, left, right, rate, difference):
    pair = find(main, left, right)
    assert points(pair["win_rate"]) == rate
    assert round(pair["reward"]["value"], 4) == difference


def test_the_published_intervals_of_the_main_suite(main):
    assert bounds(find(main, "Base", "PPO")["win_rate"]) == (36.8, 41.1)
    undecided = find(main, "SFT", "PPO")["win_rate_decided"]
    assert round(100 * undecided["value"], 1) == 48.1 and bounds(undecided) == (45.8, 50.4)


def test_ppo_against_base_by_domain(main):
    parts = find(main, "Base", "PPO")["domains"]
    assert {d: points(part["win_rate"]) for d, part in parts.items()} == {
        "code": 26.26, "general": 44.47, "multilingual": 39.45, "stem": 39.59,
    }  # fmt: skip


def test_mean_wins_and_losses_of_the_main_suite():
    by_policy = {p: [r["reward"] for r in rows(EVAL_1024) if r["policy"] == p] for p in POLICIES}
    for (left, right), gains in EVAL_1024.mean_gains.items():
        d = [b - a for a, b in zip(by_policy[POLICIES[left]], by_policy[POLICIES[right]], strict=True)]
        won, lost = [x for x in d if x > 0], [x for x in d if x < 0]
        assert (round(sum(won) / len(won), 4), round(sum(lost) / len(lost), 4)) == gains


@pytest.mark.parametrize(
    ("left", "right", "difference"),
    [("Base", "SFT", 0.1059), ("Base", "PPO", -0.1327), ("SFT", "PPO", -0.2386)],
)
def test_the_earlier_suite(left, right, difference):
    summary = compare(rows(EVAL_512), draws=50, refit_draws=20)
    assert round(find(summary, left, right)["reward"]["value"], 4) == difference
    assert [points(row["cap_hit"]) for row in summary["table"]] == [29.90, 29.95, 29.70]


def test_the_texts_repeat_what_their_rows_say(case):
    suite, made, _ = case
    for row in made[::97]:
        assert repeated_ngram_fraction(row["response"].lower().split()) == pytest.approx(
            row["repeated_4grams"]
        )
    ppo = [row for row in made if row["policy"] == "PPO"]
    assert sum(row["repeated_4grams"] > 0.5 for row in ppo) == suite.severe[2]
    if suite.mismatches is not None:
        assert (
            sum(row["reward"] > 2 and row["repeated_4grams"] > 0.25 for row in ppo) == suite.mismatches == 36
        )


def test_the_printed_tables_hold_the_published_figures(main):
    text = tables(main, 200)
    for figure in ("978", "475", "467", "97", "763 / 39 / 1215", "785 / 42 / 1190", "892 / 162 / 963"):
        assert figure in text
    for figure in ("48.5 [46.3, 50.7]", "38.9 [36.8, 41.1]", "48.1 [45.8, 50.4]", "115 / 2 / 321"):
        assert figure in text
