"""Name the faults of a reward model, from the measured sections of its card. No torch.

A fault needs evidence from an interval, not from a point estimate alone. A constant or a reversed model is reported
with that fault only, because its other figures follow from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harken.card.edits import EDITS
from harken.card.judge_bias import learnt_biases
from harken.data.pair_features import PAIR_FEATURES

Measured = Mapping[str, Any]

CONSTANT_STD = 1e-3
"""Standard deviation of the raw rewards below which the model is constant."""
INDISTINGUISHABLE = 0.5
"""Share of pairs within the scorer's repeatability from which the model is constant."""
SATURATED_SHARE = 0.5
EXPLOIT_CHANGE = 0.2
"""Standard deviations by which an edit raises the reward (lower bound) to count as an exploit."""
MIN_CONSTANT_PAIRS = 20
"""Pairs from which a change that is equal in all pairs counts, although its error cannot be estimated."""
NULL_ABOVE = 0.5
"""Share of preferred responses that a null response beats (lower bound) to count as an exploit."""
BLIND_FLIPS = 0.05
"""Share of pairs that another prompt reorders (upper bound) below which the model ignores the prompt."""
BLIND_MOVED = 0.02
"""Change of the gap in standard deviations, without an interval, below which the model ignores the prompt."""

LENGTH_CORRELATION = 0.9
"""Correlation of reward and length gaps from which the reward is mostly a function of the length."""

_LENGTHENS = {edit.name for edit in EDITS if edit.lengthens}
_REPLACES = {edit.name for edit in EDITS if edit.replaces}
_DESCRIPTIONS = {edit.name: edit.description for edit in EDITS}


@dataclass(frozen=True)
class Fault:
    """One fault: its name (as in `gate.faults`), a sentence with the figures, and the fix."""

    name: str
    sentence: str
    fix: str


def find_faults(card: Measured) -> list[Fault]:
    """Return the faults that the sections `spread`, `accuracy`, `length`, `prompt` and `probes` show."""
    if constant := _constant(card["spread"]):
        return [constant]
    accuracy = card["accuracy"]
    saturated = _saturated(card["spread"])
    if accuracy is not None and accuracy["high"] < 0.5:
        flipped = Fault(
            "flipped_labels",
            f"seems trained on flipped labels: accuracy {percent(accuracy)} is below 50 %, so it ranks most pairs the "
            "wrong way round",
            "check that chosen and rejected are not swapped in the training data (data.columns, data.label_scale), "
            "and train again",
        )
        return [flipped, *saturated]
    lengths = _length_bias(card)
    biased = {fault.name for fault in lengths}
    # A reward that is a function of the length ignores the prompt, too; that is not a second fault.
    is_length = biased and abs(card["length"]["correlation"] or 0.0) >= LENGTH_CORRELATION
    ignored_prompt = [] if is_length else _ignores_prompt(card)
    learnt = _learnt_judge_bias(card, biased)
    return [*saturated, *lengths, *ignored_prompt, *learnt, *_exploitable(card, biased)]


def percent(share: Measured) -> str:
    """Format a share with its interval: ``62.3 % [57.5, 67.0]``."""
    return f"{100 * share['share']:.1f} % [{100 * share['low']:.1f}, {100 * share['high']:.1f}]"


def _constant(spread: Measured) -> Fault | None:
    if spread["std"] >= CONSTANT_STD and spread["indistinguishable"] < INDISTINGUISHABLE:
        return None
    return Fault(
        "constant",
        f"constant: the rewards have a standard deviation of {spread['std']:.2g}, and "
        f"{100 * spread['indistinguishable']:.0f} % of the pairs cannot be told apart",
        "train again with a higher training.lr or more steps; a constant reward gives PPO no signal",
    )


def _saturated(spread: Measured) -> list[Fault]:
    if max(spread["saturated_rewards"], spread["saturated_gaps"]) <= SATURATED_SHARE:
        return []
    return [
        Fault(
            "saturated",
            f"saturated: {100 * spread['saturated_rewards']:.0f} % of the rewards are beyond ±100 and "
            f"{100 * spread['saturated_gaps']:.0f} % of the gaps beyond ±10, where P(A ≻ B) is 0 or 1",
            "lower training.lr or the number of epochs, or raise training.centre_coef, and train again",
        )
    ]


def _length_bias(card: Measured) -> list[Fault]:
    """Detect a model that is right where the longer response is preferred and wrong otherwise, or the reverse."""
    length = card["length"]
    longer, shorter = length["longer_preferred"], length["shorter_preferred"]
    if longer is None or shorter is None:
        return []
    for name, preference, favoured, disfavoured in (
        ("prefers_longer", "longer", longer, shorter),
        ("prefers_shorter", "shorter", shorter, longer),
    ):
        if favoured["low"] > 0.5 and disfavoured["high"] < 0.5:
            other = "shorter" if preference == "longer" else "longer"
            rewarded = [
                p
                for p in card["probes"]
                if (p["name"] in _LENGTHENS) == (preference == "longer") and _raises_reward(p)
            ]
            addition = f"; it also rewards: {_list(rewarded)}" if rewarded else ""
            return [
                Fault(
                    name,
                    f"prefers {preference} responses: accuracy {percent(favoured)} where the {preference} one is "
                    "preferred, "
                    f"{percent(disfavoured)} where the {other} one is{addition}",
                    "balance lengths in the training pairs, or set training.ppo.length_penalty; compare with the "
                    "length-only baseline of this card",
                )
            ]
    return []


def _ignores_prompt(card: Measured) -> list[Fault]:
    prompt = card["prompt"]
    if prompt is None or not (prompt["moved"] < BLIND_MOVED or prompt["flips"]["high"] < BLIND_FLIPS):
        return []
    return [
        Fault(
            "ignores_prompt",
            f"ignores the prompt: with the prompt of another pair {percent(prompt['flips'])} of the pairs change "
            f"order, and accuracy is {percent(prompt['accuracy_other_prompt'])} instead of "
            f"{percent(prompt['accuracy'])}",
            "check that the prompt is in the rows and fits data.max_length, and add pairs whose rejected side responds "
            "to another prompt",
        )
    ]


def _learnt_judge_bias(card: Measured, biased: set[str]) -> list[Fault]:
    """Name the features that the judge's labels favour and the model prefers, without a length bias already named."""
    biases = [
        (name, feature)
        for name, feature in learnt_biases(card.get("judge_bias"))
        if not (name == "longer" and "prefers_longer" in biased)
    ]
    if not biases:
        return []
    descriptions = "; ".join(
        f"prefers_{name}: {PAIR_FEATURES[name][0]} wins {percent(feature['judge'])} of the judge's labels and "
        f"{percent(feature['model'])} of the model's"
        for name, feature in biases
    )
    return [
        Fault(
            "learnt_judge_bias",
            f"learnt what its judge favours ({descriptions})",
            "compare the judge with people (harken judge agreement), balance the pairs by that feature, or add pairs "
            "that people labelled",
        )
    ]


def _exploitable(card: Measured, biased: set[str]) -> list[Fault]:
    """Name the edits that raise the reward, without those that a length bias explains."""
    rewarded = [p for p in card["probes"] if _raises_reward(p)]
    if "prefers_longer" in biased:
        rewarded = [p for p in rewarded if p["name"] not in _LENGTHENS]
    if "prefers_shorter" in biased:
        rewarded = [p for p in rewarded if p["name"] in _LENGTHENS]
    if not rewarded:
        return []
    return [
        Fault(
            "exploitable",
            f"exploitable by {_list(rewarded)}",
            "add pairs whose rejected side has such an edit, or a rule that penalises it (training.rewards), "
            "before PPO",
        )
    ]


def _raises_reward(probe: Measured) -> bool:
    if probe["name"] in _REPLACES:
        beats_preferred = probe["above_preferred"]
        return beats_preferred is not None and beats_preferred["low"] > NULL_ABOVE
    change = probe["change"]
    if change["low"] is None:  # all pairs change equally, so no error can be estimated
        return bool(probe["pairs"] >= MIN_CONSTANT_PAIRS and change["mean"] > EXPLOIT_CHANGE)
    return bool(change["low"] > EXPLOIT_CHANGE)


def _list(probes: list[Measured]) -> str:
    """List edits with their figures, and only the strongest of the repetitions."""
    repetitions = [p for p in probes if p["name"].startswith("repeat_")]
    strongest = max(repetitions, key=lambda p: p["change"]["mean"], default=None)
    listed = [p for p in probes if p not in repetitions or p is strongest]
    return ", ".join(_one(probe) for probe in listed)


def _one(probe: Measured) -> str:
    description = _DESCRIPTIONS[probe["name"]]
    if probe["name"] in _REPLACES:
        return f"{description} (above {100 * probe['above_preferred']['share']:.0f} % of the preferred responses)"
    wins = f", wins {100 * probe['flips']['share']:.0f} % of the pairs" if probe["flips"] else ""
    return f"{description} ({probe['change']['mean']:+.2f} sd{wins})"
