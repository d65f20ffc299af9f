"""Each sabotaged reward model is named by its card, with exactly its fault; a healthy one is not."""

from __future__ import annotations

from typing import Any

import pytest
from card import made_pairs as made

from harken.card.build import CardJob, build_card
from harken.card.sets import LAST_WEIGHTS, PairSet


def card_of(reward: made.Reward, pairs: int = 240, **keys: Any) -> dict[str, Any]:
    rows = made.made_pairs(pairs)
    training = made.made_pairs(120, seed=1)
    job = CardJob(
        made.MadeScorer(reward), [PairSet("made", rows, LAST_WEIGHTS)], training, probe_pairs=160, **keys
    )
    return build_card(job)


SABOTAGED = {
    made.constant: "constant",
    made.length_biased: "prefers_longer",
    made.prompt_blind: "ignores_prompt",
    made.flipped: "flipped_labels",
    made.saturated: "saturated",
    made.flattered: "exploitable",
}


@pytest.mark.parametrize("reward", SABOTAGED, ids=lambda f: f.__name__)
def test_a_sabotaged_model_has_exactly_its_fault(reward: made.Reward):
    """S2-24, S2-28, S2-31."""
    card = card_of(reward)
    assert [fault["name"] for fault in card["faults"]] == [SABOTAGED[reward]]
    assert card["status"] == "bad"
    assert card["faults"][0]["sentence"] in card["verdict"]
    assert "Do not optimise" in card["verdict"]


def test_a_healthy_model_has_none():
    card = card_of(made.healthy)
    assert card["faults"] == []
    assert card["accuracy"]["share"] == pytest.approx(0.82, abs=0.08)
    assert card["prompt"]["lift"]["low"] > 0.3
    assert all(p["change"]["high"] < 0.2 for p in card["probes"])
    print(card["verdict"], card["warnings"])
