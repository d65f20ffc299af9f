"""Explain each flag of a response."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LONGEST = 120
"""Characters; a longer piece of text is shortened."""


def evidence(measures: Mapping[str, Any]) -> dict[str, str]:
    """Return a short reason for each flag of an audited response, from its measures."""
    loop, references, relevance = measures["loop"], measures["references"], measures["relevance"]
    reasons = {
        "repetition": f"{measures['repeated_4grams']:.0%} of word 4-grams occurred before",
        "character_repetition": f"{measures['repeated_characters']:.0%} of character 16-grams occurred before",
        "loop": f"{loop.unit.strip()!r} {loop.times} times" if loop else "",
        "repeated_items": f"{measures['repeated_items']:.0%} of list items occurred before",
        "restatement": f"{measures['copied_words']} words in a row are the prompt's",
        "overlong": f"{measures['length_ratio']:.1f} times the other policies' words"
        if measures["length_ratio"]
        else "",
        "near_duplicate": f"like the response to prompt {measures['near_duplicate_of'][0]}"
        if measures["near_duplicate_of"]
        else "",
        "off_topic": f"relevance {relevance.own:.2f} to its prompt and {relevance.best_other:.2f} to another: "
        f"{measures['fits_prompt']}",
        "unverified_reference": "; ".join(
            f"{r.kind} {r.text}" + (f" ({r.impossible})" if r.impossible else "") for r in references
        ),
        "reward_mismatch": f"{measures['repeated_4grams']:.0%} of word 4-grams occurred before; one occurs "
        f"{measures['most_repeated']} times",
        **{name: text for name, text in measures.items() if isinstance(text, str)},
        **measures.get("reasons", {}),
    }
    return {flag: _shortened(reasons.get(flag, "")) for flag in measures["flags"]}


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
