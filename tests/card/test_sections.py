"""The sections of a card, each against a count by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from card import made_pairs as made
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from harken.card import edits
from harken.card.accuracy import accuracy_slices, length_accuracy
from harken.card.baselines import baselines, fit_pair_weights
from harken.card.best_of_n import best_of_n_curve
from harken.card.calibrated import training_calibration
from harken.card.ceiling import ceiling_section
from harken.card.learning_curve import learning_curve
from harken.card.probes import other_prompts, probe_edits, probe_section, prompt_section
from harken.card.rows import MAX_CARD_ROWS, MAX_ROW_CHARS, card_rows
from harken.card.scored import ScoredPairs, score
from harken.card.spread import margin_section, spread_section
from harken.card.stability import repeatability_section
from harken.maths.statistics.overoptimisation import selection_weights
from harken.records import Message, Preference, Prompt, TokenPair, Voter


def pair(prompt: str, chosen: str = "aa", rejected: str = "b", **keys: object) -> Preference:
    return Preference(Prompt(prompt, (Message("user", prompt),)), chosen, rejected, **keys)


def scored(rows: list[tuple[Preference, float, float]]) -> ScoredPairs:
    return ScoredPairs([row for row, _, _ in rows], np.array([[c, r] for _, c, r in rows], dtype=np.float64))


MADE = scored(
    [
        (pair("p", "aaa", "b"), 2.0, 1.0),
        (pair("p", "aa", "bbb"), 1.0, 1.0),
        (pair("q", "a", "bbbb"), 0.0, 1.0),
        (pair("q", "a", "bb", label=0.2), 0.0, 3.0),
        (pair("r", "a", "bb", label=0.5), 9.0, 0.0),
    ]
)


def test_accuracy_is_strict_and_leaves_ties_out():
    """S0-25: equal rewards are wrong; a label below one half turns the pair round."""
    found = MADE.accuracy()
    assert found is not None
    assert (found["pairs"], found["prompts"], found["share"]) == (4, 2, 0.5)
    assert MADE.margin.tolist() == [1.0, 0.0, -1.0, 3.0, 0.0]
    assert scored([(pair("p", label=0.5), 1.0, 0.0)]).accuracy() is None


def test_two_copies_of_every_pair_do_not_narrow_the_interval():
    rows = [(pair(f"p{i}"), float(i % 3), 0.5) for i in range(40)]
    once, twice = scored(rows).accuracy(), scored(rows * 2).accuracy()
    assert once is not None and twice is not None
    assert (once["low"], once["high"]) == pytest.approx((twice["low"], twice["high"]))
    assert (once["pairs"], twice["pairs"]) == (40, 80)


def test_length_kinds_by_hand():
    found = length_accuracy(MADE)
    assert found["longer_preferred"]["share"] == 1.0 and found["longer_preferred"]["pairs"] == 2
    assert found["shorter_preferred"]["share"] == 0.0 and found["shorter_preferred"]["pairs"] == 2
    assert found["longer_wins"]["pairs"] == 4 and found["longer_wins"]["share"] == 0.75
    lengths, gaps = np.array([2, -1, -3, -1, -1]), np.array([1, 0, -1, -3, 9])
    want = lengths @ gaps / np.linalg.norm(lengths) / np.linalg.norm(gaps)
    assert found["correlation"] == pytest.approx(want)


def test_responses_of_one_length_are_no_evidence_on_length():
    rows = [
        (pair("p", "aaa", "b"), 2.0, 1.0),
        (pair("q", "aa", "bb"), 1.0, 0.0),
        (pair("r", "cc", "dd"), 0.0, 1.0),
    ]
    assert length_accuracy(scored(rows))["longer_wins"]["pairs"] == 1
    found = baselines(scored(rows), [])["longer_wins"]
    assert found["share"] == pytest.approx((1 + 0.5 + 0.5) / 3)  # a tie of the baseline is half right


def test_slices_name_every_value_once():
    """S2-04, S2-65: domain, language, strength, source policy, rater, position and length gap."""
    rows = []
    for i in range(20):
        prompt = Prompt(f"p{i}", (Message("user", f"p{i}"),), domain="xy"[i % 2], language=["", "en"][i % 2])
        row = Preference(
            prompt, "a" * (i + 1), "b" * 5, strength=float(1 + i % 3), written_by=("sft", ["base", "sft"][i % 2]),
            rater=f"r{i % 4}", chosen_first=i % 5 == 0,
        )  # fmt: skip
        rows.append((row, float(i % 2), 0.5))
    found = accuracy_slices(scored(rows))
    assert {
        name: sum(v["pairs"] for v in slices.values()) for name, slices in found.items()
    } == dict.fromkeys(
        ("domain", "language", "strength", "source_policy", "rater", "position", "length_gap"), 20
    )
    assert found["domain"]["x"]["share"] == 0.0 and found["domain"]["y"]["share"] == 1.0
    assert set(found["source_policy"]) == {"sft", "base / sft"}
    assert set(found["language"]) == {"none", "en"}
    assert found["position"]["first preferred"]["pairs"] == 4
    assert [v["pairs"] for v in found["length_gap"].values()] == [4] * 5


def test_a_length_quintile_holds_what_its_name_says():
    rows = [(pair(f"p{i}", "a" * i, "b"), float(i), 6.5) for i in range(2, 12)]
    found = accuracy_slices(scored(rows))["length_gap"]
    assert set(found) == {f"+{i} to +{i + 1}" for i in (1, 3, 5, 7, 9)}
    assert found["+9 to +10"]["share"] == 1.0 and found["+1 to +2"]["share"] == 0.0


def test_baselines_by_hand_and_paired():
    found = baselines(MADE, [])
    assert found["longer_wins"]["share"] == (1 + 0 + 0 + 1) / 4
    rows = made.made_pairs(300)
    model, _ = score(made.MadeScorer(made.healthy), rows)
    both = baselines(model, made.made_pairs(200, seed=3))
    assert both["longer_wins"]["difference"]["low"] > 0.1
    bag = both["bag_of_words"]
    assert bag["fitted_on"] == "200 training pairs" and bag["low"] > 0.5
    assert bag["difference"]["mean"] == pytest.approx(model.correct.mean() - bag["share"])
    assert baselines(model, [])["bag_of_words"]["fitted_on"] == "the other half of the prompts"


def test_a_bag_of_words_learns_nothing_from_its_own_half():
    """Random labels: fitted on the pairs that it is applied to, it would rank most of them right."""
    draw = np.random.default_rng(0)
    words = [" ".join(draw.choice(made.PLAIN, 12)) for _ in range(400)]
    rows = [(pair(f"p{i}", words[2 * i], words[2 * i + 1]), 0.0, 1.0) for i in range(200)]
    assert baselines(scored(rows), [])["bag_of_words"]["share"] == pytest.approx(0.5, abs=0.1)


def test_pair_weights_equal_a_logistic_regression():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(200, 5)), draw.integers(0, 2, 200).astype(np.float64)
    fit = LogisticRegression(C=1 / 3.0, fit_intercept=False, tol=1e-10).fit(x, y)
    assert fit_pair_weights(x, y, 3.0) == pytest.approx(fit.coef_[0], abs=1e-4)


def test_spread_and_margins_by_hand():
    found = spread_section(MADE, 1.0)
    rewards = [2, 1, 1, 1, 0, 1, 0, 3, 9, 0]
    assert found["mean"] == pytest.approx(np.mean(rewards)) and found["std"] == pytest.approx(np.std(rewards))
    assert (found["chosen_mean"], found["rejected_mean"]) == (12 / 5, 6 / 5)
    assert (found["indistinguishable"], found["ties"], found["soft_labels"]) == (3 / 5, 1 / 5, 1 / 5)
    assert found["first_preferred"] is None
    big = scored([(pair("p", chosen_first=True), 150.0, 0.0), (pair("q", chosen_first=False), 9.0, 0.0)])
    assert spread_section(big, 0.0) | {"saturated_rewards": 0.25, "saturated_gaps": 0.5} == spread_section(
        big, 0.0
    )
    assert spread_section(big, 0.0)["first_preferred"] == 0.5
    margins = margin_section(MADE)
    assert margins is not None and margins["mean"] == 0.75 and margins["median"] == 0.5


def test_the_ceiling_is_of_rows_with_several_raters():
    rows = [(pair(f"p{i}", raters=(1.0, 2.0, 1.0) if i else (1.0,)), 1.0, 0.0) for i in range(12)]
    found = ceiling_section(scored(rows))
    assert found is not None and found["rows"] == 11
    assert found["raters"]["agreement"] == 1.0 and found["model"]["share"] == 1.0
    assert found["by_rater"] == []
    assert ceiling_section(scored(rows[:9])) is None


def test_accuracy_by_rater_is_of_that_raters_own_votes():
    """The model agrees with anna on all pairs; ben votes against the others, and so the model, on four of twelve."""
    voters = (Voter("anna"), Voter("ben"), Voter("chris"))
    rows = [
        (
            pair(f"p{i}", raters=(1.0, -1.0 if i < 4 else 2.0, 0.0 if i == 11 else 1.0), voters=voters),
            1.0,
            0.0,
        )
        for i in range(12)
    ]
    found = ceiling_section(scored(rows))
    assert found is not None
    by_rater = {one["rater"]: one for one in found["by_rater"]}
    assert [by_rater[name]["model"]["share"] for name in ("anna", "ben", "chris")] == [
        1.0,
        pytest.approx(8 / 12),
        1.0,
    ]
    assert by_rater["chris"]["model"]["pairs"] == 11 and by_rater["chris"]["votes"] == 12
    assert (by_rater["ben"]["others"]["share"], by_rater["ben"]["others"]["rows"]) == (
        pytest.approx(8 / 12),
        12,
    )
    assert by_rater["anna"]["others"]["rows"] == 8 and by_rater["anna"]["others"]["share"] == 1.0
    assert by_rater["ben"]["model"]["low"] < 8 / 12 < by_rater["ben"]["model"]["high"]


# -- edits and prompts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "times", "want"),
    [
        ("One. Two three.", 2, "One. Two three. Two three. Two three."),
        ("No end", 1, "No end No end"),
        ("一。二。", 1, "一。二。 二。"),
        (" . ", 1, None),
        ("", 3, None),
    ],
)
def test_the_last_sentence_is_repeated(text: str, times: int, want: str | None):
    assert edits.repeat_last_sentence(text, times) == want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("a b c d", "a b"),
        ("a b c d e", "a b"),
        ("a b c", None),
        ("一二三四五六七八", "一二三四"),
        ("x", None),
    ],
)
def test_the_second_half_is_deleted(text: str, want: str | None):
    assert edits.delete_second_half(text) == want


def test_edits_say_truly_whether_they_lengthen():
    text = "A first sentence of it. And a second one."
    for edit in edits.EDITS:
        edited = edit.apply(text)
        assert edited is not None
        assert (len(edited) > len(text)) == edit.lengthens
        assert (text[:5] not in edited) == edit.replaces


def by_length(prompt: Prompt, response: str) -> float:
    return float(len(response))


def test_a_probe_by_hand():
    """The rejected side is edited; it wins where it was ranked right and is above the preferred one afterwards."""
    rows = [
        pair("p", "a" * 10, "b" * 4),
        pair("q", "a" * 200, "b"),
        pair("r", "a", "b" * 9),
        pair("s", "b", "c" * 6, label=0.0),
    ]
    model, _ = score(made.MadeScorer(by_length), rows)
    filler = edits.EDITS[0]
    found = probe_section(made.MadeScorer(by_length), model, [filler])[0]
    more = len(edits.FILLER)
    assert found["pairs"] == 4
    assert found["change"]["mean"] == pytest.approx(more / model.rewards.std())
    # Ranked right: p and q, and s by its label below one half. Filler wins p and s.
    assert (found["flips"]["pairs"], found["flips"]["share"]) == (3, pytest.approx(2 / 3))
    assert found["above_preferred"]["share"] == 3 / 4


def test_probes_leave_out_ties_tokens_and_edits_that_do_not_fit():
    rows = [pair("p", label=0.5), TokenPair("t", (1, 2), (1, 3))]
    assert probe_section(made.MadeScorer(by_length), ScoredPairs(rows, np.ones((2, 2)))) == []
    one, _ = score(made.MadeScorer(by_length), [pair("p", "aa", "b"), pair("q", "aa", "b")])
    assert "delete_half" not in {found["name"] for found in probe_section(made.MadeScorer(by_length), one)}


def test_other_prompts_are_other_prompts():
    rows = [(pair("pq"[i % 2]), 1.0, 0.0) for i in range(7)]
    found = other_prompts(scored(rows))
    assert found is not None and all((i - j) % 2 for i, j in enumerate(found))
    assert other_prompts(scored([(pair("p"), 1.0, 0.0)] * 3)) is None


def test_what_the_prompt_contributes():
    rows = made.made_pairs(120)
    reads, _ = score(made.MadeScorer(made.healthy), rows)
    found = prompt_section(made.MadeScorer(made.healthy), reads)
    assert found is not None
    assert found["lift"]["low"] > 0 and found["drop"]["low"] > 0 and found["flips"]["low"] > 0.1
    assert found["accuracy"]["share"] == reads.accuracy()["share"]  # type: ignore[index]
    blind, _ = score(made.MadeScorer(by_length), rows)
    found = prompt_section(made.MadeScorer(by_length), blind)
    assert found is not None
    assert (found["moved"], found["flips"]["share"], found["lift"]["mean"]) == (0.0, 0.0, 0.0)


def test_the_drop_is_that_of_the_preferred_response():
    """Only responses that begin with `good` lose reward under another prompt; labels decide which side they are."""

    def reward(prompt: Prompt, response: str) -> float:
        own = response.endswith(prompt.messages[0].content)
        return {True: 2.0, False: 1.0}[own] if response.startswith("good") else 0.0

    rows = [pair(f"q{i}", f"good {i} q{i}", "bad") for i in range(10)]
    rows += [pair(f"r{i}", "bad", f"good {i} r{i}", label=0.0) for i in range(10)]
    own, _ = score(made.MadeScorer(reward), rows)
    found = prompt_section(made.MadeScorer(reward), own)
    assert found is not None and found["drop"]["mean"] == pytest.approx(1.0 / own.rewards.std())


def test_pairs_that_cannot_be_scored_are_left_out():
    def partly(prompt: Prompt, response: str) -> float:
        return math.nan if response == "b" else 1.0

    found, unscored = score(made.MadeScorer(partly), [pair("p", "a", "b"), pair("q", "a", "c")])
    assert (len(found), unscored) == (1, 1)


def test_repeatability_is_a_quantile_of_the_moves():
    class Unsteady(made.MadeScorer):
        def score_tokens(self, sequences, batch_tokens=None):  # type: ignore[no-untyped-def]
            return super().score_tokens(sequences) + (0.25 if batch_tokens == 1 else 0.0)

    rows = made.made_pairs(8)
    found = repeatability_section(Unsteady(made.healthy), rows, lambda sides: np.zeros(len(sides)))
    assert found["repeatability"] == pytest.approx(0.25) and found["responses"] == 16
    assert set(found) == {"responses", "batch", "repeatability", "white_space", "dtype"}
    assert repeatability_section(made.MadeScorer(by_length), rows, None)["white_space"]["largest"] == 2.0


# -- best of n and the learning curve -----------------------------------------------------------------


@given(st.lists(st.integers(0, 4).map(float), min_size=1, max_size=6), st.integers(1, 6))
def test_selection_weights_count_every_draw(rewards: list[float], n: int):
    if n > len(rewards):
        return
    weights = selection_weights(np.array(rewards), n)
    draws = list(combinations(range(len(rewards)), n))
    want = np.mean([max(rewards[i] for i in draw) for draw in draws])
    assert weights @ np.array(rewards) == pytest.approx(want)
    assert weights.sum() == pytest.approx(1.0)
    equal = {
        value: {round(float(w), 12) for w, r in zip(weights, rewards, strict=True) if r == value}
        for value in rewards
    }
    assert all(len(found) == 1 for found in equal.values())


def test_the_curve_takes_judges_at_the_chosen_sample():
    found = best_of_n_curve([[0.0, 1.0, 2.0, 3.0], [1.0, 1.0]], {"gold": [[3.0, 2.0, 1.0, 0.0], [5.0, 7.0]]})
    assert [(e["n"], e["prompts"]) for e in found] == [(1, 2), (2, 2), (4, 1)]
    assert found[0]["reward"]["mean"] == 1.25 and found[2]["reward"]["mean"] == 3.0
    assert found[2]["gold"]["mean"] == 0.0 and found[0]["gold"]["mean"] == (1.5 + 6) / 2
    assert [e["kl"] for e in found] == pytest.approx([0, math.log(2) - 0.5, math.log(4) - 0.75])
    assert best_of_n_curve([], {}) == []


def test_more_pairs_and_fewer_flips_are_better():
    """S2-05, S2-24: a linear truth is learnt better from more pairs, and half of the labels flipped is a guess."""
    draw = np.random.default_rng(0)
    truth, x, test = draw.normal(size=20), draw.normal(size=(400, 20)), draw.normal(size=(500, 20))
    labels = (x @ truth + draw.logistic(size=400) * 2 > 0).astype(np.float64)
    rows = [(pair(f"p{i}", label=float(gap > 0)), 1.0, 0.0) for i, gap in enumerate(test @ truth)]
    found = learning_curve(x, labels, test, scored(rows), 0)
    assert found is not None
    curve = [point["share"] for point in found["curve"]]
    assert curve[-1] > 0.85 and curve[-1] > curve[0] + 0.05
    noise = {point["flipped"]: point["share"] for point in found["flipped_labels"]}
    assert noise[0.0] == curve[-1] and noise[0.5] == pytest.approx(0.5, abs=0.15)
    assert noise[0.2] > 0.7
    assert learning_curve(x[:10], labels[:10], test, scored(rows), 0) is None


def test_training_logs_calibration_only_of_enough_pairs():
    gaps = np.linspace(-2, 3, 40)
    found = training_calibration(gaps, np.ones(40))
    assert set(found) == {"nll", "brier", "ece", "ece_null", "temperature"}
    assert "temperature" not in training_calibration(-np.ones(40), np.ones(40))
    assert training_calibration(gaps[:19], np.ones(19)) == {}


def test_token_pairs_have_a_card_without_text():
    rows = [TokenPair(f"t{i}", (1, i, 5), (1, i, 6, 7), domain="ab"[i % 2]) for i in range(30)]
    found = ScoredPairs(rows, np.stack([np.arange(30.0), np.full(30, 9.5)], axis=1))
    assert set(baselines(found, [])) == {"longer_wins"}
    assert set(accuracy_slices(found)["domain"]) == {"a", "b"}
    assert prompt_section(made.MadeScorer(by_length), found) is None
    assert replace(rows[0], label=0.5).label == 0.5


def test_the_rows_of_a_slice_are_those_that_its_number_counts():
    """Small cards keep every pair; the share of a slice can be counted from its rows."""
    pairs = [replace(p, strength=float(1 + i % 3)) for i, p in enumerate(made.made_pairs(120))]
    found, _ = score(made.MadeScorer(made.healthy), pairs)
    probed = probe_edits(made.MadeScorer(made.healthy), found.select(np.arange(len(found)) < 20))
    kept = card_rows(found, probed, seed=1)
    assert kept["pairs"] == len(kept["rows"]) == 120 and kept["rule"] == "All 120 pairs."
    margins = [row["margin"] for row in kept["rows"]]
    assert margins == sorted(margins)
    for column, slices in accuracy_slices(found).items():
        for value, figures in slices.items():
            own = [row for row in kept["rows"] if row["slices"][column] == value]
            assert (len(own), sum(row["margin"] > 0 for row in own) / len(own)) == (
                figures["pairs"],
                figures["share"],
            )
    for one in probed:
        own = [row["edits"][one.edit.name] for row in kept["rows"] if one.edit.name in row["edits"]]
        assert len(own) == one.section["pairs"]
        assert np.mean([row["change"] for row in own]) == pytest.approx(
            one.section["change"]["mean"], abs=1e-4
        )
        flips = one.section["flips"]
        assert sum(row["wins"] for row in own) == round(flips["share"] * flips["pairs"])


def test_a_large_card_keeps_probed_pairs_and_the_worst_errors():
    pairs = made.made_pairs(900)
    found, _ = score(made.MadeScorer(made.healthy), pairs)
    last = np.arange(len(found)) >= 890
    kept = card_rows(found, probe_edits(made.MadeScorer(made.healthy), found.select(last)), seed=1)
    assert len(kept["rows"]) == MAX_CARD_ROWS and "400 of 900 pairs" in kept["rule"]
    ids = {row["id"] for row in kept["rows"]}
    assert {p.prompt.id for p, is_last in zip(found.pairs, last, strict=True) if is_last} <= ids
    worst = sorted(range(900), key=lambda i: found.margin[i])[:50]
    assert all(found.margin[i] <= 0 and found.pairs[i].prompt.id in ids for i in worst)


def test_long_texts_of_rows_are_cut_and_pairs_of_tokens_left_out():
    rows = [
        (pair("p", "a" * 2000, "b"), 2.0, 1.0),
        (pair("q", label=0.5), 1.0, 2.0),
        (pair("r", "c", "d", label=0.0), 1.0, 9.0),
    ]
    found = scored(rows)
    tokens = ScoredPairs([*found.pairs, TokenPair("t", (1,), (2,))], np.vstack([found.rewards, [[1.0, 0.0]]]))
    kept = card_rows(tokens, [], seed=1)
    assert [row["id"] for row in kept["rows"]] == ["q", "p", "r"] and kept["pairs"] == 4
    assert kept["rows"][0]["margin"] is None and kept["rows"][1]["rewards"] == [2.0, 1.0]
    assert kept["rows"][1]["preferred"] == "a" * MAX_ROW_CHARS + " …"
    turned = kept["rows"][2]
    assert (turned["preferred"], turned["other"], turned["rewards"], turned["margin"]) == (
        "d",
        "c",
        [9.0, 1.0],
        8.0,
    )
