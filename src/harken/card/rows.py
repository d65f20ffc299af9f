"""Keep a bounded list of the pairs behind a card's figures, so that a number leads to what it counts. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harken.card.accuracy import slice_names
from harken.card.probes import ProbedEdit
from harken.card.scored import ScoredPairs, Section
from harken.records import Preference
from harken.seeds import permutation

MAX_CARD_ROWS = 400
"""Pairs that a card keeps."""
MAX_WRONG_ROWS = 200
"""Of them, pairs that the model ranks wrong, those with the largest error first."""
MAX_ROW_CHARS = 600
"""Characters of a prompt or a response that are kept."""


def card_rows(scored: ScoredPairs, probed: Sequence[ProbedEdit], seed: int) -> Section:
    """Return the pairs behind a card: up to MAX_CARD_ROWS all, else the probed, the worst errors, and random others.

    A row has the texts (cut), both rewards, the margin, the value of every slice, and of a probed pair what each edit
    did: the change of the reward in standard deviations, and whether the edited response wins the pair.
    Pre-tokenised pairs have no text and are left out.
    """
    edits: dict[int, dict[str, Section]] = {}
    for one in probed:
        for pair, change, wins in zip(one.pairs, one.changes, one.wins, strict=True):
            edits.setdefault(id(pair), {})[one.edit.name] = {
                "change": round(float(change), 4),
                "wins": bool(wins),
            }
    names = slice_names(scored)
    text = [i for i, pair in enumerate(scored.pairs) if isinstance(pair, Preference)]
    rows = [
        _row(scored, i, {column: values[i] for column, values in names.items()}, edits)
        for i in _chosen(scored, text, edits, seed)
    ]
    return {"pairs": len(scored), "rule": _rule(len(text), len(rows)), "rows": rows}


def _chosen(scored: ScoredPairs, text: Sequence[int], edits: dict[int, Any], seed: int) -> list[int]:
    """Return the places of the pairs that are kept, in ascending order of their margin."""
    by_margin = sorted(text, key=lambda i: scored.margin[i])
    kept = dict.fromkeys(i for i in text if id(scored.pairs[i]) in edits)
    kept |= dict.fromkeys(
        [i for i in by_margin if scored.decided[i] and scored.margin[i] <= 0][:MAX_WRONG_ROWS]
    )
    kept |= dict.fromkeys(text[i] for i in permutation(len(text), seed, "card rows"))
    chosen = set(list(kept)[:MAX_CARD_ROWS])
    return [i for i in by_margin if i in chosen]


def _row(scored: ScoredPairs, i: int, slices: dict[str, str], edits: dict[int, Any]) -> Section:
    pair = scored.pairs[i]
    assert isinstance(pair, Preference)
    sides = [(pair.chosen, scored.rewards[i, 0]), (pair.rejected, scored.rewards[i, 1])]
    (preferred, high), (other, low) = sides if scored.side[i] >= 0 else sides[::-1]
    return {
        "id": pair.prompt.id,
        "prompt": _cut(pair.prompt.last_user_message),
        "preferred": _cut(preferred),
        "other": _cut(other),
        "rewards": [float(high), float(low)],
        "margin": float(scored.margin[i]) if scored.decided[i] else None,
        "slices": slices,
        "edits": edits.get(id(pair), {}),
    }


def _cut(text: str) -> str:
    return text if len(text) <= MAX_ROW_CHARS else f"{text[:MAX_ROW_CHARS].rstrip()} …"


def _rule(pairs: int, kept: int) -> str:
    if kept == pairs:
        return f"All {pairs:,} pairs."
    return (
        f"{kept:,} of {pairs:,} pairs: those that were edited, up to {MAX_WRONG_ROWS} that are ranked wrong, and "
        "others at random."
    )
