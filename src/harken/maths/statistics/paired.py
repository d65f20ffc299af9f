"""Compare two policies prompt by prompt: tests and effect sizes."""

from __future__ import annotations


def sign_test(wins: int, losses: int) -> float:
    """Compute the exact two-sided p-value of `wins` against `losses` when both are equally likely, without ties.

    1 when both counts are 0. Raises ValueError when a count is negative.
    Source: Arbuthnot 1710; the binomial test at one half.
    """
    if wins < 0 or losses < 0:
        raise ValueError(f"wins and losses are counts, got {wins} and {losses}")
    n, fewer = wins + losses, min(wins, losses)
    ways, tail = 1, 1
    for k in range(fewer):
        ways = ways * (n - k) // (k + 1)
        tail += ways
    p: float = 2 * tail / 2**n
    return min(p, 1.0)
