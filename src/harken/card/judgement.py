"""Judge a reward model in words: its accuracy against 65, 70, 80 and 90 %, warnings, and fixes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from harken.card.faults import Fault, Measured, find_faults, percent
from harken.data.advice import is_position_skewed

LOW, USUAL, HIGH, SUSPICIOUS = 0.65, 0.70, 0.80, 0.90
"""Accuracies: below the first is unconverged or noisy, second to third is usual, above the last is suspicious."""
GOLDEN_PAIRS = 200
"""Pairs from which the interval of an accuracy is narrow enough for a decision."""
SMALL_MODEL = 4.0
"""Ratio of the policy's to the reward model's parameters from which it is two size classes smaller."""
UNREPEATABLE = 0.05
"""Ratio of repeatability to the standard deviation of the gaps from which there is a warning."""
MISCALIBRATED = 0.05
"""p of the calibration error at or below which there is a warning."""


def judge_card(card: Measured) -> dict[str, Any]:
    """Return `status` (good, weak or bad), `verdict` (a paragraph), `faults` and `warnings`, each with its fix."""
    faults = find_faults(card)
    warnings = _warnings(card, {fault.name for fault in faults})
    accuracy = card["accuracy"]
    guessing = accuracy is None or accuracy["low"] <= 0.5
    if faults or guessing:
        status, advice = "bad", "Do not optimise against this reward model."
    elif warnings:
        status, advice = "weak", "Optimise against it with care: see the warnings."
    else:
        status, advice = "good", "It is worth optimising against."
    fault_sentences = [
        f"It is {fault.sentence}." if _is_adjective(fault) else f"It {fault.sentence}." for fault in faults
    ]
    sentence = "No pair has a preferred side." if accuracy is None else accuracy_sentence(accuracy)
    return {
        "status": status,
        "verdict": " ".join([advice, sentence, *_comparisons(card), *fault_sentences]),
        "faults": [asdict(fault) for fault in faults],
        "warnings": warnings,
    }


def accuracy_sentence(accuracy: Measured) -> str:
    """Describe the interval of an accuracy, compared with 50, 65, 70, 80 and 90 %."""
    low, high = accuracy["low"], accuracy["high"]
    if high < 0.5:
        meaning = "worse than guessing"
    elif low <= 0.5:
        meaning = "not shown to be better than guessing"
    elif high < LOW:
        meaning = "below 65 %: not converged, or the labels are noisy"
    elif low >= SUSPICIOUS:
        meaning = "above 90 %: memorised, leaked or trivial pairs"
    elif low >= HIGH:
        meaning = "above the usual 70 to 80 %"
    elif low >= USUAL:
        meaning = "within the usual 70 to 80 %" if high <= HIGH else "at least the usual 70 %"
    elif low >= LOW:
        meaning = (
            "above 65 %; 70 % is excluded"
            if high < USUAL
            else "above 65 %; 70 % is neither shown nor excluded"
        )
    else:
        meaning = "better than guessing; 65 % is neither shown nor excluded"
        meaning += ", 70 % is excluded" if high < USUAL else ""
    pairs = f"{accuracy['pairs']:,} pairs of {accuracy['prompts']:,} prompts"
    return f"It ranks {percent(accuracy)} of {pairs} right: {meaning}."


def _is_adjective(fault: Fault) -> bool:
    return fault.name in ("constant", "saturated", "exploitable")


def _comparisons(card: Measured) -> list[str]:
    lines = []
    names = {"longer_wins": '"the longer response wins"', "bag_of_words": "a bag of words"}
    for name, baseline in card["baselines"].items():
        difference = baseline["difference"]
        if difference["low"] is None:
            continue
        relation = (
            "better"
            if difference["low"] > 0
            else "worse"
            if difference["high"] < 0
            else "not shown to be better"
        )
        lines.append(
            f"It is {relation} than {names[name]} ({100 * baseline['share']:.1f} %; difference in points "
            f"{100 * difference['mean']:+.1f} [{100 * difference['low']:+.1f}, {100 * difference['high']:+.1f}])."
        )
    if card["ceiling"] is not None and (raters := card["ceiling"]["raters"]) is not None:
        agreement = {**raters, "share": raters["agreement"]}
        lines.append(f"Raters agree with one another in {percent(agreement)} of cases: a ceiling.")
    return lines


def _warning(what: str, fix: str) -> dict[str, str]:
    return {"what": what, "fix": fix}


def _warnings(card: Measured, faults: set[str]) -> list[dict[str, str]]:
    if faults & {"constant", "flipped_labels"}:
        return []
    return [
        *_accuracy_warnings(card),
        *_calibration_warnings(card["calibration"]),
        *_spread_warnings(card),
        *_context_warnings(card),
    ]


def _accuracy_warnings(card: Measured) -> list[dict[str, str]]:
    accuracy = card["accuracy"]
    if accuracy is None:
        return []
    warnings = []
    if accuracy["high"] < LOW:
        warnings.append(
            _warning("accuracy is below 65 %", "train longer or on more pairs, and check the labels' quality")
        )
    if accuracy["low"] >= SUSPICIOUS:
        warnings.append(
            _warning(
                "accuracy is above 90 %: the pairs may be trivial, or their prompts trained on",
                "evaluate on other pairs (--data), as hard as what the policy will write",
            )
        )
    if accuracy["pairs"] < GOLDEN_PAIRS:
        warnings.append(
            _warning(
                f"{accuracy['pairs']} pairs make a wide interval",
                f"add held-out pairs: {GOLDEN_PAIRS} to 500 judged with care decide most questions",
            )
        )
    for name, words in (("longer_wins", "the length of the response"), ("bag_of_words", "a bag of words")):
        difference = card["baselines"].get(name, {}).get("difference", {"low": None})
        if difference["low"] is not None and difference["low"] <= 0:
            warnings.append(
                _warning(
                    f"it is not shown to be better than {words}",
                    "train longer or on more pairs, or add held-out pairs",
                )
            )
    ceiling = card["ceiling"]
    if (
        ceiling
        and ceiling["raters"]
        and ceiling["model"]
        and ceiling["model"]["low"] > ceiling["raters"]["high"]
    ):
        warnings.append(
            _warning(
                "accuracy is above the agreement of the raters with one another",
                "check that the held-out pairs are not in the training data",
            )
        )
    return warnings


def _calibration_warnings(calibration: Mapping[str, Any] | None) -> list[dict[str, str]]:
    if calibration is None or calibration["ece"]["p_value"] > MISCALIBRATED:
        return []
    temperature = calibration["temperature"]
    if temperature is None:
        return []
    tendency = "overconfident" if temperature > 1 else "underconfident"
    return [
        _warning(
            f"{tendency}: calibration error {calibration['ece']['error']:.3f} "
            f"(up to {calibration['ece']['null_high']:.3f} "
            f"by chance), temperature {temperature:.2f}",
            "set training.label_smoothing or fewer epochs"
            if temperature > 1
            else "train longer, or ignore it: PPO uses standardised rewards",
        )
    ]


def _spread_warnings(card: Measured) -> list[dict[str, str]]:
    spread, warnings = card["spread"], []
    first_share = spread["first_preferred"]
    if first_share is not None and is_position_skewed(first_share, spread["positions_known"]):
        warnings.append(
            _warning(
                f"the first response is preferred in {100 * first_share:.0f} % of the rows",
                "check data.label_scale, and show the responses to raters in random order",
            )
        )
    repeatability = (card["repeatability"] or {}).get("repeatability", 0.0)
    if spread["gap_std"] and repeatability > UNREPEATABLE * spread["gap_std"]:
        warnings.append(
            _warning(
                f"the same response differs by up to {repeatability:.2g} between batches "
                f"({100 * repeatability / spread['gap_std']:.0f} % of the gaps' spread)",
                "set dtype: float32, or treat closer rewards as ties (tie_epsilon)",
            )
        )
    prompt = card["prompt"]
    if prompt is not None and prompt["lift"]["low"] is not None and prompt["lift"]["low"] <= 0:
        warnings.append(
            _warning(
                f"the prompt is not shown to help: margins are {prompt['lift']['mean']:+.2f} sd larger with it "
                f"[{prompt['lift']['low']:+.2f}, {prompt['lift']['high']:+.2f}]",
                "add pairs whose rejected side responds to another prompt, or add held-out pairs to measure it better",
            )
        )
    return warnings


def _context_warnings(card: Measured) -> list[dict[str, str]]:
    warnings = []
    size = card.get("size")
    if size and size["policy"] > SMALL_MODEL * size["reward_model"]:
        warnings.append(
            _warning(
                f"the policy has {size['policy'] / size['reward_model']:.1f} times the reward model's parameters",
                "train the reward model on a base of about the policy's size",
            )
        )
    trained_count = sum(set_section.get("trained_prompts", 0) for set_section in card["sets"])
    if trained_count:
        warnings.append(
            _warning(
                f"{trained_count:,} of the scored prompts were trained on: their accuracy is too good",
                "remove them, or hold pairs out with data.eval_fraction",
            )
        )
    return warnings
