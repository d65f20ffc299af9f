"""Join new pairs to those that a reward model was trained on before: the new ones alone are few. No torch."""

from __future__ import annotations

from typing import Any

from harken.records import Preference
from harken.review.items import read_pairs
from harken.seeds import permutation


def rows_to_add(path: str | None, limit: int | None, seed: int) -> list[dict[str, Any]]:
    """Return the pairs of a file as rows in the conversational form, at most `limit` drawn by the seed, in its order.

    [] without a path. A tie keeps strength 0. Raises UserError if the file cannot be read.
    """
    if path is None:
        return []
    pairs = read_pairs(path)
    indices = sorted(permutation(len(pairs), seed, "added pairs")[: limit or len(pairs)])
    return [_row(pairs[i], path) for i in indices]


def _row(pair: Preference, path: str) -> dict[str, Any]:
    further = {"domain": pair.prompt.domain, "language": pair.prompt.language}
    return {
        "id": pair.prompt.id,
        "prompt": [message.to_dict() for message in pair.prompt.messages],
        **{key: value for key, value in further.items() if value},
        "chosen": [{"role": "assistant", "content": pair.chosen}],
        "rejected": [{"role": "assistant", "content": pair.rejected}],
        "preference_strength": 0.0 if pair.label == 0.5 else pair.strength,
        "source": path,
    }
