"""What a comparison says of a pair besides wins and means, on rows of any tool. The rows are synthetic."""

import json

import numpy as np
import pytest
from rich.cells import cell_len
from statsmodels.stats.multitest import multipletests

from harken.errors import UserError
from harken.evaluation.compare import compare
from harken.evaluation.response_table import build_table, count_words
from harken.evaluation.slices import _by_size
from harken.evaluation.tables import tables
from harken.maths.statistics.length_control import length_controlled_win_rate
from harken.maths.statistics.paired import clustered_standard_error, hodges_lehmann, sign_test

N = 90


def row(policy, prompt, reward, sample=0, **fields):
    plain = {"response_tokens": 10, "cap_hit": False, "empty": False, "repeated_4grams": 0.0}
    return (
        plain
        | {"policy": policy, "prompt_id": f"p{prompt}", "sample": sample, "reward": float(reward)}
        | fields
    )


def study(policies=("A", "B", "C"), samples=1, seed=0, **options):
    """Rows with two domains, a column `kind`, clusters of two prompts, a judge that is noisy, and lengths that pay."""
    random = np.random.default_rng(seed)
    made = []
    for p in range(N):
        shared = random.normal()
        for k, policy in enumerate(policies):
            for s in range(samples):
                tokens = int(random.integers(20, 200))
                reward = round(shared + 0.1 * k + tokens / 200 + random.normal(), 1)
                made.append(
                    row(
                        policy, p, reward, s, response_tokens=tokens, prompt_tokens=p + 5, domain=("x", "y")[p % 2],
                        kind=f"k{p % 3}", family=f"f{p // 2}", score_gold=reward + random.normal(),
                        score_other=None if p == 4 else float(random.integers(3)), cap_hit=tokens > 150,
                    )
                )  # fmt: skip
    return made, compare(made, draws=300, refit_draws=60, **options)


@pytest.fixture(scope="module")
def plain():
    return study(judges=["gold", "other"], slices=["kind"], repeatability=0.15)


def pair(summary, left="A", right="B"):
    return next(p for p in summary["pairs"] if (p["left"], p["right"]) == (left, right))


def column(made, policy, name="reward"):
    return np.array([r[name] for r in made if r["policy"] == policy], dtype=float)


def test_three_win_rates_differ_in_what_a_tie_counts(plain):
    made, summary = plain
    d = column(made, "B") - column(made, "A")
    won, tied, lost = (int(mask.sum()) for mask in (d > 0, d == 0, d < 0))
    found = pair(summary)
    assert tied > 0 and (found["wins"], found["ties"], found["losses"]) == (won, tied, lost)
    assert found["win_rate"]["value"] == won / N
    assert found["win_rate_decided"]["value"] == won / (won + lost)
    assert found["win_rate_decided"]["n"] == won + lost
    assert found["win_share"]["value"] == pytest.approx((won + tied / 2) / N)
    for name in ("win_rate", "win_rate_decided", "win_share"):
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]


def test_the_rows_within_the_repeatability_are_counted(plain):
    made, summary = plain
    d = np.abs(column(made, "B") - column(made, "A"))
    assert pair(summary)["within_repeatability"] == ((d > 0) & (d <= 0.15)).sum() > 0
    assert "decided rows within it" in tables(summary, 200)
    _, other = study()
    assert pair(other)["within_repeatability"] is None and "not measured" in tables(other, 200)


def test_effects_are_those_of_the_estimators(plain):
    made, summary = plain
    d, found = column(made, "B") - column(made, "A"), pair(summary)
    shift = hodges_lehmann(d)
    assert found["hodges_lehmann"] == {"value": shift.mean, "low": shift.low, "high": shift.high}
    assert found["standard_error"] == pytest.approx(d.std(ddof=1) / np.sqrt(N))
    assert found["detectable_difference"] == pytest.approx(2.8016 * found["standard_error"], rel=1e-4)
    assert found["reward"]["bca_low"] < d.mean() < found["reward"]["bca_high"]


def test_holm_goes_over_the_pairs_and_benjamini_hochberg_over_the_slices_of_one(plain):
    _, summary = plain
    ps = [p["sign_test_p"] for p in summary["pairs"]]
    assert [p["holm_p"] for p in summary["pairs"]] == pytest.approx(multipletests(ps, method="holm")[1])
    judged = [p["scorers"]["gold"]["sign_test_p"] for p in summary["pairs"]]
    assert [p["scorers"]["gold"]["holm_p"] for p in summary["pairs"]] == pytest.approx(
        multipletests(judged, method="holm")[1]
    )
    for found in summary["pairs"]:
        slices = found["slices"]
        expected = multipletests([s["sign_test_p"] for s in slices], method="fdr_bh")[1]
        assert [s["q"] for s in slices] == pytest.approx(expected)


def test_the_slices_are_domains_both_lengths_and_the_named_column(plain):
    made, summary = plain
    found = pair(summary, "A", "C")
    by = {}
    for part in found["slices"]:
        by.setdefault(part["column"], []).append(part)
    assert by.keys() == {"domain", "kind", "prompt length", "response length"}
    for parts in by.values():
        assert sum(part["n"] for part in parts) == N
        for count in ("wins", "ties", "losses"):
            assert sum(part[count] for part in parts) == found[count]
    d = column(made, "C") - column(made, "A")
    inside = np.array([r["kind"] == "k1" for r in made if r["policy"] == "A"])
    part = next(part for part in by["kind"] if part["value"] == "k1")
    assert part["wins"] == (d[inside] > 0).sum() and part["reward"]["value"] == pytest.approx(
        d[inside].mean()
    )
    assert part["sign_test_p"] == sign_test(part["wins"], part["losses"])
    assert [part["n"] for part in by["prompt length"]] == [30, 30, 30]
    mean = (column(made, "A", "response_tokens") + column(made, "C", "response_tokens")) / 2
    short = np.argsort(mean)[:30]
    assert by["response length"][0]["wins"] == pytest.approx((d[short] > 0).sum(), abs=2)
    assert found["domains"].keys() == {"x", "y"} and found["domains"]["x"] in found["slices"]


def test_the_slices_of_prompt_length_do_not_overlap():
    lengths = np.array([3.0, 4, 5, 7, 8, 10, 11, 14])
    parts = _by_size(lengths, "words")
    assert [name for name, _ in parts] == ["≤ 5 words", "6–9 words", "> 9 words"]
    assert [lengths[mask].tolist() for _, mask in parts] == [[3, 4, 5], [7, 8], [10, 11, 14]]


def test_a_column_to_slice_by_must_exist():
    with pytest.raises(UserError, match="no column 'colour' to slice by"):
        study(slices=["colour"])


def test_rare_values_of_a_column_are_put_together():
    made = [row(p, i, i % 3, who=f"w{i if i < 60 else 60}") for p in "AB" for i in range(100)]
    parts = pair(compare(made, draws=20, refit_draws=10, slices=["who"]))["slices"]
    parts = [part for part in parts if part["column"] == "who"]
    assert len(parts) == 31 and sum(part["n"] for part in parts) == 100
    assert {"w60", "(31 other values)"} <= {part["value"] for part in parts}


def test_a_value_named_like_the_rest_keeps_its_own_slice():
    names = [f"w{i}" for i in range(38)] + ["(10 other values)"] * 2
    made = [row(p, i, i % 3, who=names[i]) for p in "AB" for i in range(40)]
    parts = pair(compare(made, draws=20, refit_draws=10, slices=["who"]))["slices"]
    counts = {part["value"]: part["n"] for part in parts if part["column"] == "who"}
    assert counts["(10 other values)"] == 2 and sum(counts.values()) == 40 and len(counts) == 31


def test_every_scorer_has_its_own_head_to_head(plain):
    made, summary = plain
    scores = {p: column(made, p, "score_other") for p in "AB"}
    d = scores["B"] - scores["A"]
    found = pair(summary)["scorers"]["other"]
    assert (found["wins"], found["ties"], found["losses"], found["n"]) == (
        (d > 0).sum(), (d == 0).sum(), (d < 0).sum(), N - 1,
    )  # fmt: skip


def test_scorers_disagree_where_they_prefer_different_policies(plain):
    made, summary = plain
    d = column(made, "B") - column(made, "A")
    other = column(made, "B", "score_other") - column(made, "A", "score_other")
    product = d * other
    decided = product[~np.isnan(product) & (product != 0)]
    found = next(x for x in pair(summary)["disagreement"] if x["scorers"] == ["reward", "other"])
    assert found["rate"]["n"] == len(decided)
    assert found["rate"]["value"] == (decided < 0).mean() and found["rate"]["low"] < found["rate"]["value"]
    assert len(pair(summary)["disagreement"]) == 3


def test_the_length_control_is_that_of_the_estimator(plain):
    made, summary = plain
    d = column(made, "B") - column(made, "A")
    left, right = (column(made, p, "response_tokens") for p in "AB")
    expected = length_controlled_win_rate((np.sign(d) + 1) / 2, right - left, np.arange(N), draws=60)
    found = pair(summary)["length"]
    assert found["controlled"]["value"] == expected.win_rate.mean and found["phi"] == expected.phi > 0
    assert (found["controlled"]["low"], found["controlled"]["high"]) == (
        expected.win_rate.low, expected.win_rate.high,
    )  # fmt: skip
    matched = np.abs(np.log(right / left)) < 0.1
    assert found["matched"]["n"] == matched.sum() and found["matched"]["wins"] == (d[matched] > 0).sum()
    assert summary["table"][0]["reward_length_correlation"]["pearson"] == pytest.approx(
        np.corrcoef(column(made, "A"), left)[0, 1]
    )


def test_strengths_follow_the_wins(plain):
    _, summary = plain
    found = {row["policy"]: row for row in summary["strengths"]["policies"]}
    assert found["A"]["value"] == found["A"]["low"] == found["A"]["high"] == 0
    assert found["C"]["low"] < found["C"]["value"] < found["C"]["high"]
    assert (found["B"]["value"] > 0) == (pair(summary)["wins"] > pair(summary)["losses"])
    assert summary["strengths"]["tie_parameter"] > 0
    assert study(policies=("A", "B"))[1]["strengths"] is None


def test_clusters_of_prompts_are_the_units():
    """Every prompt twice in one cluster is no more evidence than once."""
    random = np.random.default_rng(3)
    d = random.normal(0.3, 1, 60)
    once = [row(p, i, k * d[i]) for k, p in enumerate("AB") for i in range(60)]
    twice = [row(p, i, k * d[i // 2], family=f"f{i // 2}") for k, p in enumerate("AB") for i in range(120)]
    first = pair(compare(once, draws=300, refit_draws=20))
    summary = compare(twice, draws=300, refit_draws=20, cluster="family")
    second = pair(summary)
    assert (summary["clusters"], summary["cluster_column"], summary["prompts"]) == (60, "family", 120)
    assert second["sign_test_p"] == first["sign_test_p"]
    assert second["reward"]["low"] == pytest.approx(first["reward"]["low"])
    assert second["standard_error"] == pytest.approx(first["standard_error"])
    assert second["standard_error"] == clustered_standard_error(np.repeat(d, 2), np.repeat(np.arange(60), 2))
    widths = [p["win_rate"]["high"] - p["win_rate"]["low"] for p in (first, second)]
    assert widths[1] == pytest.approx(widths[0], rel=0.06)
    assert "60 clusters of prompts (family)" in tables(summary, 200)


def test_a_prompt_without_a_cluster_is_named():
    with pytest.raises(UserError, match="prompt 'p0' has no value in column 'family'"):
        compare([row("A", 0, 1.0)], cluster="family")


def test_several_samples_have_a_split_of_the_variance():
    _, summary = study(samples=3)
    found = pair(summary)["variance"]
    assert found["prompt"] >= 0 and found["sample"] > 0
    assert found["standard_errors"]["16"] < found["standard_errors"]["1"]
    assert "Var(sample)" in tables(summary, 200)
    assert pair(study()[1])["variance"] is None


def test_responses_without_tokens_are_measured_in_words():
    made = [
        {"policy": p, "prompt_id": str(i), "sample": 0, "reward": float(i % 4 + k), "response": "so it is " * (i + 1),
         "prompt": "what is it"}
        for k, p in enumerate(("mine", "theirs")) for i in range(30)
    ]  # fmt: skip
    summary = compare(made, draws=50, refit_draws=20)
    assert summary["length_unit"] == "words" and summary["table"][0]["median_response_tokens"] == 46.5
    assert summary["domains"] == {"": 30}
    line = summary["table"][0]
    assert line["cap_hit"] is None and line["empty"] is None and line["repetition"] is None
    assert pair(summary, "mine", "theirs")["cap_hit"] is None
    text = tables(summary, 100)
    assert "median words" in text and "truncated" not in text


def test_one_response_without_tokens_has_all_counted_in_words():
    made = [
        row("A", 0, 1, response="one two"),
        row("B", 0, 1, response="one two three", response_tokens=None),
    ]
    table = build_table(made)
    assert table.length_unit == "words" and table.lengths("B")[0, 0] == 3
    with pytest.raises(UserError, match="neither tokens nor a text"):
        build_table([row("A", 0, 1, response_tokens=None)])


def test_a_character_is_a_word_where_there_are_no_spaces():
    assert count_words("two words") == 2 and count_words("三个字") == 3 and count_words("ok 好") == 2
    assert count_words("") == 0


def test_a_missing_judge_is_named():
    with pytest.raises(UserError, match="no column score_gold"):
        compare([row("A", 0, 1.0)], judges=["gold"])


@pytest.mark.parametrize("width", [80, 200])
def test_the_tables_fit_the_terminal_and_hold_every_statistic(plain, width):
    _, summary = plain
    text = tables(summary, width)
    assert max(map(cell_len, text.splitlines())) <= width
    for title in (
        "win rate %", "without ties %", "ties as half %", "sign test p", "p (Holm)", "BCa interval", "Hodges–Lehmann",
        "d_z", "detectable", "p (truncated)", "length-controlled %", "same length", "disagree %", "strength over A",
        "response length",
    ):  # fmt: skip
        assert title in text, title


def test_which_test_decides_is_said_where_two_disagree():
    """Many small wins, few large losses: the sign test is for B, the mean is not."""
    d = [0.1] * 70 + [-3.0] * 20
    made = [row(p, i, k * d[i]) for k, p in enumerate("AB") for i in range(90)]
    text = tables(compare(made, draws=500, refit_draws=20), 200)
    assert "B − A: Interval and sign test disagree: the sign test shows more wins than losses." in text
    assert "The verdict follows the interval of the mean difference." in text
    agreeing = [row(p, i, k * (1 + i % 3)) for k, p in enumerate("AB") for i in range(90)]
    assert "disagree:" not in tables(compare(agreeing, draws=500, refit_draws=20), 200)


@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("prompts", [1, 3, 40])
def test_nothing_that_does_not_vary_is_certain(prompts, shift):
    """Policies that differ by as much on every prompt: no interval of any figure is a point, in the tables too."""
    rows = [
        row(
            policy, p, k * shift, response_tokens=10 + p % 3 + k, score_gold=0.5 * k, domain=("x", "y")[p % 2]
        )
        for k, policy in enumerate(("A", "B", "C"))
        for p in range(prompts)
    ]
    summary = compare(rows, judges=["gold"], draws=100, refit_draws=50)

    def intervals(figures, name=""):
        if isinstance(figures, dict | list):
            if isinstance(figures, dict) and "low" in figures:
                yield name, figures["low"], figures["high"]
            for key, value in figures.items() if isinstance(figures, dict) else enumerate(figures):
                yield from intervals(value, f"{name}.{key}")

    found = list(intervals(summary))
    points = {name for name, low, high in found if low is not None and high - low < 0.05}
    # The pseudo-median of n equal differences is certain from n = 9; the baseline is 0 by definition.
    certain = {f".pairs.{i}.hodges_lehmann" for i in range(3)} if prompts >= 9 else set()
    assert points == certain | {".strengths.policies.0"} and len(found) > 60
    pair = summary["pairs"][0]
    assert (pair["reward"]["low"], pair["judges"]["gold"]["bca_high"]) == (None, None)
    share = 1 - 0.05 ** (1 / prompts)
    for name in ("cap_hit", "empty", "repetition"):
        assert (pair[name]["low"], pair[name]["high"]) == pytest.approx((-share, share))
        assert (pair[name]["bca_low"], pair[name]["bca_high"]) == pytest.approx((-share, share))
    printed = tables(summary, 400)
    assert f"{shift:+.3f} [–, –]" in printed and f"+0.0 [{-100 * share:+.1f}, {100 * share:+.1f}]" in printed
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
