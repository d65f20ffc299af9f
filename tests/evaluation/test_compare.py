import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harken.errors import UserError
from harken.evaluation.compare import MAX_SLICED_POLICIES, compare
from harken.evaluation.estimates import Units
from harken.maths.statistics.intervals import wilson_interval
from harken.maths.statistics.multiplicity import holm
from harken.maths.statistics.paired import sign_test
from harken.maths.statistics.power import detectable_win_rate


def rows(rewards, samples=1, **columns):
    """Rows of {policy: [reward, …]}, prompt-major; `columns` are {policy: [value, …]} of other columns."""
    defaults = {"response_tokens": 10, "cap_hit": False, "empty": False, "repeated_4grams": 0.0, "domain": ""}
    made = []
    for policy, values in rewards.items():
        for i, reward in enumerate(values):
            fields = {name: column[policy][i] for name, column in columns.items()}
            place = {"policy": policy, "prompt_id": f"p{i // samples}", "sample": i % samples}
            made.append(defaults | fields | place | {"reward": float(reward)})
    return made


def pair(summary, left, right):
    return next(p for p in summary["pairs"] if (p["left"], p["right"]) == (left, right))


def line(summary, policy):
    return next(row for row in summary["table"] if row["policy"] == policy)


@pytest.fixture(scope="module")
def reference():
    """The counts the reference run published for 2,017 prompts, as rewards that give exactly them."""
    # (Base, SFT, PPO) rewards and how many prompts have them; winners 978 / 475 / 467, 97 without one.
    base = [3.0] * 978 + [1.0] * 475 + [1.0] * 467 + [2.0] * 97
    sft = [1.0] * 978 + [3.0] * 475 + [2.0] * 467 + [2.0] * 97
    ppo = [2.0] * 978 + [2.0] * 475 + [3.0] * 467 + [1.0] * 97
    cap = {"Base": [i < 163 for i in range(2017)], "SFT": [i < 205 for i in range(2017)],
           "PPO": [i < 234 for i in range(2017)]}  # fmt: skip
    repeated = {p: [0.26] * n + [0.25] * (2017 - n) for p, n in (("Base", 151), ("SFT", 278), ("PPO", 325))}
    made = rows({"Base": base, "SFT": sft, "PPO": ppo}, cap_hit=cap, repeated_4grams=repeated)
    return compare(made, draws=50)


def test_the_published_three_way_table(reference):
    """S0-44, S0-45, S0-47, S0-52: 48.49 / 23.55 / 23.15 %, ties 4.81 %, cap hits, repetition."""
    shown = {
        row["policy"]: (
            row["win_rate"]["count"],
            *(round(100 * row[name]["value"], 2) for name in ("win_rate", "cap_hit", "repetition")),
        )
        for row in reference["table"]
    }
    assert shown == {
        "Base": (978, 48.49, 8.08, 7.49),
        "SFT": (475, 23.55, 10.16, 13.78),
        "PPO": (467, 23.15, 11.60, 16.11),
    }
    assert (reference["ties"]["count"], round(100 * reference["ties"]["value"], 2)) == (97, 4.81)


def test_the_interval_of_the_published_win_rate(reference):
    """48.49 % [46.3, 50.7]."""
    rate = line(reference, "Base")["win_rate"]
    assert (round(100 * rate["low"], 1), round(100 * rate["high"], 1)) == (46.3, 50.7)


def test_thirty_six_of_2017():
    low, high = wilson_interval(36, 2017)
    assert (round(100 * low, 2), round(100 * high, 2)) == (1.29, 2.46)


@pytest.mark.parametrize(("ties", "p"), [(0, 2e-7), (97, 0.002), (150, 0.058), (400, 4e-5)])
def test_the_published_sft_ppo_line_depends_on_its_ties(ties, p):
    """892 wins of 2,017 say nothing until the ties are known: the reason W / T / L is always shown."""
    losses = 2017 - 892 - ties
    made = rows({"SFT": [0.0] * 2017, "PPO": [1.0] * 892 + [0.0] * ties + [-1.0] * losses})
    summary = pair(compare(made, draws=10), "SFT", "PPO")
    assert (summary["wins"], summary["ties"], summary["losses"]) == (892, ties, losses)
    assert float(f"{summary['sign_test_p']:.1g}") == p or round(summary["sign_test_p"], 3) == p
    assert summary["sign_test_p"] == pytest.approx(stats.binomtest(892, 892 + losses).pvalue, rel=1e-9)


def test_the_published_sft_ppo_line_with_its_published_ties():
    """S0-46: 892 wins, 162 ties, 963 losses; win rate over all rows 44.22 %."""
    made = rows({"SFT": [0.0] * 2017, "PPO": [1.0] * 892 + [0.0] * 162 + [-1.0] * 963})
    summary = pair(compare(made, draws=10), "SFT", "PPO")
    assert round(100 * summary["win_rate"]["value"], 2) == 44.22
    assert summary["sign_test_p"] == pytest.approx(sign_test(892, 963)) and summary["sign_test_p"] > 0.05


@pytest.fixture(scope="module")
def small():
    random = np.random.default_rng(3)
    values = {"A": random.normal(0, 1, 60), "B": random.normal(0.5, 1, 60), "C": random.normal(0, 2, 60)}
    judged = {
        p: [None if i == 5 else float(v) * 0.5 for i, v in enumerate(column)] for p, column in values.items()
    }
    tokens = {p: list(range(n, n + 60)) for n, p in enumerate(values)}
    domains = {p: ["x", "y", "y"] * 20 for p in values}
    made = rows(values, score_gold=judged, response_tokens=tokens, domain=domains)
    return made, values, compare(made, judges=["gold"], seed=7)


def test_pair_figures_agree_with_numpy_and_scipy(small):
    _, values, summary = small
    found = pair(summary, "A", "B")
    difference = values["B"] - values["A"]
    assert found["reward"]["value"] == pytest.approx(difference.mean())
    assert found["median_difference"] == pytest.approx(np.median(difference))
    assert found["cohen_dz"] == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert found["wins"] == (difference > 0).sum() and found["losses"] == (difference < 0).sum()
    oracle = stats.bootstrap(
        (difference,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found["reward"]["low"], found["reward"]["high"]) == pytest.approx(tuple(oracle), abs=0.02)


def test_a_prompt_a_judge_left_out_is_left_out_of_that_judge_alone(small):
    _, values, summary = small
    expected = np.delete(values["B"] - values["A"], 5).mean() * 0.5
    found = pair(summary, "A", "B")
    assert found["judges"]["gold"]["value"] == pytest.approx(expected)
    assert (found["judges"]["gold"]["n"], found["reward"]["n"]) == (59, 60)
    assert line(summary, "B")["judges"]["gold"]["n"] == 59


def test_a_judge_without_a_value_gives_none():
    made = rows({"A": [1, 2], "B": [1, 2]}, score_gold={"A": [None, None], "B": [None, None]})
    summary = compare(made, judges=["gold"], draws=10)
    assert summary["table"][0]["judges"] == {"gold": None}
    assert summary["pairs"][0]["judges"] == {"gold": None}


def test_domains_add_up(small):
    _, values, summary = small
    found = pair(summary, "A", "C")
    assert {d: found["domains"][d]["n"] for d in found["domains"]} == {"x": 20, "y": 40} == summary["domains"]
    for count in ("wins", "ties", "losses"):
        assert sum(part[count] for part in found["domains"].values()) == found[count]
    assert found["domains"]["x"]["reward"]["value"] == pytest.approx((values["C"] - values["A"])[::3].mean())


def test_the_median_is_the_mean_of_the_two_middle_values(small):
    assert [row["median_response_tokens"] for row in small[2]["table"]] == [29.5, 30.5, 31.5]


def test_the_same_rows_and_seed_give_the_same_bytes(small):
    made, _, summary = small
    again = compare(made, judges=["gold"], seed=7)
    assert json.dumps(again, allow_nan=False) == json.dumps(summary, allow_nan=False)
    assert compare(made, judges=["gold"], seed=8)["pairs"] != summary["pairs"]


def test_the_order_of_rows_within_a_policy_changes_nothing_but_the_draws(small):
    """Pairs go by prompt and sample, not by position."""
    made, _, summary = small
    mixed = [
        r for p in "ABC" for r in sorted((r for r in made if r["policy"] == p), key=lambda r: hash_of(r, p))
    ]
    found = pair(compare(mixed, judges=["gold"], seed=7), "A", "B")
    expected = pair(summary, "A", "B")
    for key in ("wins", "ties", "losses", "sign_test_p", "median_difference"):
        assert found[key] == expected[key]
    assert found["cohen_dz"] == pytest.approx(expected["cohen_dz"])


def hash_of(row, salt):
    return sum(map(ord, row["prompt_id"] + salt)) * 7919 % 101


@pytest.mark.parametrize(
    ("epsilon", "winners", "ties"), [(0.0, {"A": 1, "B": 1, "C": 0}, 1), (0.1, {"A": 0, "B": 1, "C": 0}, 2)]
)
def test_a_winner_is_above_all_others_by_more_than_epsilon(epsilon, winners, ties):
    """S0-45."""
    made = rows({"A": [1.05, 2.0, 0.0], "B": [1.0, 2.0, 1.0], "C": [0.0, 0.0, 0.0]})
    summary = compare(made, tie_epsilon=epsilon, draws=10)
    assert {row["policy"]: row["win_rate"]["count"] for row in summary["table"]} == winners
    assert summary["ties"]["count"] == ties
    assert pair(summary, "A", "B")["ties"] == ties


def test_several_samples_are_no_more_evidence_than_their_prompts():
    """The same response ten times over leaves every interval as wide as it was."""
    random = np.random.default_rng(5)
    a, b = random.normal(0, 1, 40), random.normal(0.3, 1, 40)
    once = compare(rows({"A": a, "B": b}), seed=1)
    often = compare(rows({"A": np.repeat(a, 10), "B": np.repeat(b, 10)}, samples=10), seed=1)
    assert often["prompts"] == 40 and often["samples"] == 10 and often["n"] == 400
    for key in ("value", "low", "high"):
        assert pair(often, "A", "B")["reward"][key] == pytest.approx(pair(once, "A", "B")["reward"][key])
    assert pair(often, "A", "B")["sign_test_p"] == pair(once, "A", "B")["sign_test_p"]
    assert pair(often, "A", "B")["cohen_dz"] == pytest.approx(pair(once, "A", "B")["cohen_dz"])
    rates = [pair(s, "A", "B")["win_rate"] for s in (once, often)]
    assert rates[1]["value"] == rates[0]["value"]
    assert rates[1]["high"] - rates[1]["low"] == pytest.approx(rates[0]["high"] - rates[0]["low"], abs=0.05)


def test_a_rate_of_zero_is_not_certain_with_several_samples():
    summary = compare(rows({"A": [0] * 30, "B": [1] * 30}, samples=3), draws=10)
    assert line(summary, "A")["win_rate"]["high"] == pytest.approx(wilson_interval(0, 10)[1])
    assert line(summary, "B")["win_rate"]["low"] == pytest.approx(wilson_interval(10, 10)[0])


def test_a_change_of_a_rate_is_tested_on_the_prompts_that_differ():
    cap = {"A": [True] * 9 + [False] * 31, "B": [False] * 7 + [True] * 3 + [False] * 30}
    change = pair(compare(rows({"A": [0] * 40, "B": [0] * 40}, cap_hit=cap), draws=100), "A", "B")["cap_hit"]
    assert (change["only_left"], change["only_right"]) == (7, 1)
    assert change["value"] == pytest.approx(-6 / 40)
    assert change["mcnemar_p"] == pytest.approx(stats.binomtest(1, 8).pvalue)


def test_missing_prompts_are_named():
    made = rows({"Base": range(9), "PPO": range(9)})
    made = [r for r in made if not (r["policy"] == "PPO" and r["prompt_id"] in {"p2", "p7"})]
    with pytest.raises(UserError, match="PPO has no response to 2 of the prompts: 'p2', 'p7'"):
        compare(made)


def test_a_prompt_with_a_response_of_the_second_policy_alone_is_named():
    made = rows({"Base": range(3), "PPO": range(4)})
    with pytest.raises(UserError, match="Base has no response to 1 of the prompts: 'p3'"):
        compare(made)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([], "no responses"),
        (rows({"A": [1, 2]}) * 2, "A has two responses to prompt 'p0', sample 0"),
        (rows({"A": [1, math.nan]}), "reward nan"),
        (rows({"A": [1, 2, 3, 4]}, samples=2)[:3], "different numbers of samples: 2, but not for 1 .*'p1'"),
    ],
)
def test_incomparable_rows_are_refused(made, message):
    with pytest.raises(UserError, match=message):
        compare(made)


def test_one_policy_alone_has_a_table_and_no_pairs():
    summary = compare(rows({"A": [1, 2, 3]}), draws=10)
    assert summary["pairs"] == [] and summary["table"][0]["win_rate"]["count"] == 3


def test_equal_rewards_have_no_effect_size():
    found = pair(compare(rows({"A": [1, 1], "B": [1, 1]}), draws=10), "A", "B")
    assert found["cohen_dz"] is None and found["ties"] == 2 and found["sign_test_p"] == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.floats(0.001, 0.2))
@settings(max_examples=60)
def test_holm_rejects_what_the_step_down_procedure_rejects(p, alpha):
    """Holm's own wording: go up the ordered p-values, stop at the first above alpha / (m - i)."""
    rejected = set()
    for i, k in enumerate(sorted(range(len(p)), key=lambda k: p[k])):
        if p[k] * (len(p) - i) > alpha:
            break
        rejected.add(k)
    assert {k for k, adjusted in enumerate(holm(p)) if adjusted <= alpha} == rejected


@pytest.mark.parametrize(
    ("n", "rate"), [(100, 0.640), (200, 0.599), (400, 0.570), (800, 0.550), (1000, 0.544), (2017, 0.531)]
)
def test_detectable_win_rate(n, rate):
    assert detectable_win_rate(n) == pytest.approx(rate, abs=6e-4)


def test_detectable_win_rate_has_its_power():
    """Against the exact binomial test: with 400 prompts the rate is found about four times in five."""
    n, rate = 400, detectable_win_rate(400)
    significant = [k for k in range(n + 1) if stats.binomtest(k, n).pvalue <= 0.05]
    assert stats.binom.pmf(significant, n, rate).sum() == pytest.approx(0.8, abs=0.03)
    assert detectable_win_rate(1) == 1.0


def test_paired_intervals_have_their_nominal_coverage():
    """In 300 simulated studies of 80 pairs, 95 % intervals cover the true difference as often as that."""
    random = np.random.default_rng(11)
    shared, own = random.normal(0, 2, (300, 80, 1)), random.normal(0, 1, (300, 80, 2))
    units, covered = Units(np.arange(80), 400, 0), 0
    for study in shared + own:
        found = units.means({"d": study[:, 1:] - study[:, :1]})["d"]
        covered += found["low"] <= 0 <= found["high"]
    assert 0.91 <= covered / 300 <= 0.98


def test_many_policies_are_sliced_against_the_baseline_alone() -> None:
    """All pairs have their figures; slices of 78 pairs would be most of the time and of the file."""
    rows = [
        {
            "policy": f"p{p:02}", "prompt_id": f"q{q}", "sample": 0, "reward": float((p * q) % 5),
            "response_tokens": 5 + q, "domain": "ab"[q % 2],
        }
        for p in range(MAX_SLICED_POLICIES + 1)
        for q in range(8)
    ]  # fmt: skip
    pairs = compare(rows, draws=50, refit_draws=20)["pairs"]
    assert len(pairs) == 13 * 12 // 2 and all(pair["n"] == 8 for pair in pairs)
    assert {pair["left"] for pair in pairs if pair["slices"]} == {"p00"}
    fewer = compare([row for row in rows if row["policy"] != "p12"], draws=50, refit_draws=20)["pairs"]
    assert all(pair["slices"] for pair in fewer)
