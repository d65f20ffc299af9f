"""Keep a bounded list of the pairs behind a card's figures, so that every number can be inspected. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harken.card.accuracy import slice_names
from harken.card.probes import ProbedEdit
from harken.card.scored import ScoredPairs, Section
from harken.records import Preference
from harken.seeds import permutation

MAX_CARD_ROWS = 400
"""Maximum number of pairs that a card keeps."""
MAX_WRONG_ROWS = 200
"""Maximum number of wrongly ranked pairs among them, the largest errors first."""
MAX_ROW_CHARS = 600
"""Characters of a prompt or a response that are kept."""


def card_rows(scored: ScoredPairs, probed: Sequence[ProbedEdit], seed: int) -> Section:
    """Return the pairs behind a card: all up to MAX_CARD_ROWS, else the probed, the worst errors, and random others.

    A row has the shortened texts, both rewards, the margin, and the value of every slice. A probed pair also has the
    effect of each edit: the change of the reward in standard deviations, and whether the edited response wins the pair.
    Pre-tokenised pairs have no text and are left out.
    """
    edits: dict[int, dict[str, Section]] = {}
    for edit in probed:
        for pair, change, wins in zip(edit.pairs, edit.changes, edit.wins, strict=True):
            edits.setdefault(id(pair), {})[edit.edit.name] = {
                "change": round(float(change), 4),
                "wins": bool(wins),
            }
    names = slice_names(scored)
    text_indices = [i for i, pair in enumerate(scored.pairs) if isinstance(pair, Preference)]
    rows = [
        _row(scored, i, {column: values[i] for column, values in names.items()}, edits)
        for i in _chosen(scored, text_indices, edits, seed)
    ]
    return {"pairs": len(scored), "rule": _rule(len(text_indices), len(rows)), "rows": rows}


def _chosen(scored: ScoredPairs, text_indices: Sequence[int], edits: dict[int, Any], seed: int) -> list[int]:
    """Return the indices of the pairs that are kept, in ascending order of their margin."""
    by_margin = sorted(text_indices, key=lambda i: scored.margin[i])
    candidates = dict.fromkeys(i for i in text_indices if id(scored.pairs[i]) in edits)
    candidates |= dict.fromkeys(
        [i for i in by_margin if scored.decided[i] and scored.margin[i] <= 0][:MAX_WRONG_ROWS]
    )
    candidates |= dict.fromkeys(text_indices[i] for i in permutation(len(text_indices), seed, "card rows"))
    chosen = set(list(candidates)[:MAX_CARD_ROWS])
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


def _rule(pairs: int, row_count: int) -> str:
    if row_count == pairs:
        return f"All {pairs:,} pairs."
    return (
        f"{row_count:,} of {pairs:,} pairs: those that were edited, up to {MAX_WRONG_ROWS} that are ranked wrong, and "
        "others at random."
    )
