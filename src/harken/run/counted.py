"""Write a number with its noun."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return `1 probe`, `2 probes`, `1,000 policies`: `noun` is in the singular, and its last word gets the plural."""
    if number == 1:
        return f"1 {noun}"
    plural = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{number:,} {plural}"
