"""The verdict: what an interval shows against 50, 65, 70, 80 and 90 %, and each fault and warning at its line."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from harken.card.faults import find_faults
from harken.card.judgement import accuracy_sentence, judge_card
from harken.card.markdown import card_lines, to_markdown


def accuracy(low: float, high: float, pairs: int = 400) -> dict[str, Any]:
    return {"share": (low + high) / 2, "low": low, "high": high, "pairs": pairs, "prompts": pairs}


def probe(name: str, low: float, above: float = 0.1) -> dict[str, Any]:
    return {
        "name": name,
        "description": name,
        "pairs": 60,
        "change": {"mean": low + 0.1, "low": low, "high": low + 0.2},
        "flips": accuracy(above, above + 0.1),
        "above_preferred": accuracy(above, above + 0.1),
    }


def card(**sections: Any) -> dict[str, Any]:
    """A good card, with other sections."""
    whole = {
        "model": {"run": "02_rm"},
        "accuracy": accuracy(0.72, 0.79),
        "slices": {"domain": {"a": accuracy(0.7, 0.8)}},
        "length": {
            "longer_preferred": accuracy(0.7, 0.8),
            "shorter_preferred": accuracy(0.65, 0.75),
            "longer_wins": accuracy(0.5, 0.6),
            "correlation": 0.2,
        },
        "baselines": {"longer_wins": accuracy(0.5, 0.6) | {"difference": {"mean": 0.2, "low": 0.1, "high": 0.3}}},
        "margin": None,
        "calibration": None,
        "spread": {
            **dict.fromkeys(("mean", "chosen_mean", "rejected_mean", "low", "high", "ties"), 0.0),
            "std": 1.0, "gap_std": 1.0, "indistinguishable": 0.0, "saturated_rewards": 0.0, "saturated_gaps": 0.1,
            "first_preferred": 0.5, "positions_known": 100,
        },
        "ceiling": None,
        "prompt": {
            "pairs": 60, "accuracy": accuracy(0.7, 0.8), "accuracy_other_prompt": accuracy(0.5, 0.6),
            "lift": {"mean": 0.3, "low": 0.2, "high": 0.4}, "drop": {"mean": 0.3, "low": 0.2, "high": 0.4},
            "flips": accuracy(0.1, 0.2), "moved": 0.5,
        },
        "probes": [probe("filler", -0.3), probe("repeat_1", -0.2), probe("empty", -1.0)],
        "repeatability": {"batch": {"mean": 0.0, "q99": 0.0, "largest": 0.0}, "repeatability": 0.0},
        "sets": [{"name": "held out", "kind": "pairs", "note": "kept", "trained_prompts": 0, "accuracy": None}],
    }  # fmt: skip
    return deepcopy(whole | sections)


def spread(**keys: Any) -> dict[str, Any]:
    return {"spread": card()["spread"] | keys}


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.40, 0.49, "worse than guessing"),
        (0.45, 0.55, "not shown to be better than guessing"),
        (0.50, 0.60, "not shown to be better than guessing"),
        (0.51, 0.64, "below 65 %: not converged, or the labels are noisy"),
        (0.55, 0.68, "65 % is neither shown nor excluded, 70 % is excluded"),
        (0.60, 0.72, "65 % is neither shown nor excluded"),
        (0.66, 0.69, "above 65 %; 70 % is excluded"),
        (0.66, 0.75, "above 65 %; 70 % is neither shown nor excluded"),
        (0.71, 0.79, "within the usual 70 to 80 %"),
        (0.71, 0.85, "at least the usual 70 %"),
        (0.82, 0.92, "above the usual 70 to 80 %"),
        (0.91, 0.95, "above 90 %: memorised, leaked or trivial pairs"),
    ],
)
def test_the_interval_and_not_the_point_decides(low: float, high: float, words: str):
    """S2-25, S2-26, S2-27."""
    sentence = accuracy_sentence(accuracy(low, high))
    assert sentence.endswith((f"right: {words}.", f"; {words}."))
    assert f"{100 * (low + high) / 2:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of 400 pairs" in sentence


def test_a_good_card():
    judged = judge_card(card())
    assert (judged["status"], judged["faults"], judged["warnings"]) == ("good", [], [])
    assert judged["verdict"].startswith("It is worth optimising against.")


@pytest.mark.parametrize(
    ("sections", "names"),
    [
        (spread(std=0.0009), ["constant"]),
        (spread(indistinguishable=0.5, saturated_gaps=0.9), ["constant"]),
        (spread(saturated_gaps=0.51), ["saturated"]),
        (spread(saturated_rewards=0.51), ["saturated"]),
        (spread(saturated_gaps=0.5), []),
        ({"accuracy": accuracy(0.3, 0.49)}, ["flipped_labels"]),
        ({"accuracy": accuracy(0.4, 0.51)}, []),
        ({"probes": [probe("filler", 0.21)]}, ["exploitable"]),
        ({"probes": [probe("filler", 0.19)]}, []),
        ({"probes": [probe("filler", -0.5)]}, []),
        ({"probes": [probe("empty", 3.0, 0.49)]}, []),
        ({"probes": [probe("empty", -3.0, 0.51)]}, ["exploitable"]),
        ({"prompt": card()["prompt"] | {"flips": accuracy(0.0, 0.04)}}, ["ignores_prompt"]),
        ({"prompt": card()["prompt"] | {"flips": accuracy(0.01, 0.07)}}, []),
        ({"prompt": card()["prompt"] | {"moved": 0.01}}, ["ignores_prompt"]),
        ({"prompt": None}, []),
    ],
)
def test_each_fault_at_its_line(sections: dict[str, Any], names: list[str]):
    """S2-28, S2-31."""
    assert [fault.name for fault in find_faults(card(**sections))] == names


@pytest.mark.parametrize(("good", "bad"), [("longer", "shorter"), ("shorter", "longer")])
def test_length_bias_needs_both_kinds(good: str, bad: str):
    length = card()["length"] | {
        f"{good}_preferred": accuracy(0.8, 0.9),
        f"{bad}_preferred": accuracy(0.3, 0.4),
    }
    found = find_faults(card(length=length))
    assert [fault.name for fault in found] == [f"prefers_{good}"]
    half = length | {f"{bad}_preferred": accuracy(0.45, 0.55)}
    assert find_faults(card(length=half)) == []
    paid = [probe("filler", 0.5), probe("repeat_1", 0.4), probe("repeat_5", 0.9), probe("delete_half", 0.6)]
    named = find_faults(card(length=length, probes=paid))
    assert [fault.name for fault in named] == [f"prefers_{good}", "exploitable"]
    own, other = named[0].sentence, named[1].sentence
    lengthening = own if good == "longer" else other
    assert "repeated 5 more times" in lengthening and "repeated 1 more time" not in lengthening
    assert ("second half deleted" in own) == (good == "shorter")


def calibration(p_value: float, temperature: float | None) -> dict[str, Any]:
    ece = {"error": 0.2, "null_mean": 0.05, "null_high": 0.09, "p_value": p_value}
    brier = dict.fromkeys(("score", "reliability", "resolution", "uncertainty", "within_bins"), 0.1)
    return {
        "mean_probability": 0.6, "nll": 0.6, "nll_of_guessing": 0.69, "brier": brier, "ece": ece,
        "temperature": temperature, "ece_after_temperature": 0.1, "bins": [], "pairs": 100,
    }  # fmt: skip


CEILING = {
    "rows": 50, "alpha": 0.5, "model": accuracy(0.9, 0.95),
    "raters": {"rows": 50, "cases": 150, "agreement": 0.8, "low": 0.75, "high": 0.85},
    "by_rater": [{"rater": "anna", "votes": 1234, "model": accuracy(0.6, 0.7), "others": None}],
}  # fmt: skip
EQUAL = {"longer_wins": accuracy(0.6, 0.7) | {"difference": {"mean": 0.02, "low": -0.02, "high": 0.06}}}


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"accuracy": accuracy(0.55, 0.64)}, "below 65 %"),
        ({"accuracy": accuracy(0.91, 0.95)}, "above 90 %"),
        ({"accuracy": accuracy(0.72, 0.79, pairs=199)}, "199 pairs make a wide interval"),
        ({"baselines": EQUAL}, "not shown to be better than the length"),
        ({"calibration": calibration(0.01, 2.0)}, "overconfident"),
        ({"calibration": calibration(0.01, 0.5)}, "underconfident"),
        (spread(first_preferred=0.96), "first response is preferred in 96 %"),
        (spread(first_preferred=0.04), "first response is preferred in 4 %"),
        ({"repeatability": card()["repeatability"] | {"repeatability": 0.06}}, "between batches"),
        (
            {"prompt": card()["prompt"] | {"lift": {"mean": 0.1, "low": -0.1, "high": 0.3}}},
            "not shown to help",
        ),
        ({"size": {"policy": 500, "reward_model": 100}}, "5.0 times"),
        ({"sets": [card()["sets"][0] | {"trained_prompts": 7}]}, "7 of the scored prompts"),
        ({"ceiling": CEILING}, "above the agreement of the raters"),
    ],
)
def test_each_warning_has_a_fix(sections: dict[str, Any], words: str):
    """S2-26, S2-27, S2-30, S2-31, S2-89."""
    judged = judge_card(card(**sections))
    assert [words in warning["what"] for warning in judged["warnings"]] == [True]
    assert judged["status"] == "weak" and judged["warnings"][0]["fix"]


@pytest.mark.parametrize(
    "sections",
    [
        {"calibration": calibration(0.2, 2.0)},
        spread(first_preferred=0.94),
        spread(first_preferred=0.99, positions_known=19),
        spread(first_preferred=None),
        {"size": {"policy": 400, "reward_model": 100}},
        {"repeatability": None},
    ],
)
def test_no_warning_below_its_line(sections: dict[str, Any]):
    assert judge_card(card(**sections))["warnings"] == []


def test_guessing_is_bad_without_a_fault():
    judged = judge_card(card(accuracy=accuracy(0.45, 0.55)))
    assert judged["status"] == "bad" and judged["faults"] == []


def test_the_page_and_the_terminal_name_everything():
    whole = card(calibration=calibration(0.01, 2.0), ceiling=CEILING, probes=[probe("filler", 0.5)])
    whole |= {
        "best_of_n": [{"n": 1, "kl": 0.0, "prompts": 2, "reward": {"mean": 1.0, "low": None, "high": None}}],
        "learning_curve": {
            "method": "a head", "curve": [accuracy(0.6, 0.7) | {"training_pairs": 10}],
            "flipped_labels": [accuracy(0.5, 0.6) | {"flipped": 0.1, "training_pairs": 10}],
        },
    }  # fmt: skip
    whole |= judge_card(whole)
    page, shown = to_markdown(whole), "\n".join(card_lines(whole))
    for text in (page, shown):
        assert whole["verdict"] in text
        assert "Fix: add pairs whose rejected side has such an edit" in text
        assert "overconfident" in text
    for title in (
        "Sets",
        "Accuracy",
        "Baselines",
        "Calibration",
        "Human ceiling",
        "Edits that",
        "Best of n",
        "Learning",
    ):
        assert f"## {title}" in page
    assert "| anna | 1,234 | 65.0 % [60.0, 70.0] | – |" in page
    assert "| filler" in page and "None" not in page and "nan" not in page
