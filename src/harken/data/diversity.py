"""Measure the diversity of preference pairs, and how well length alone predicts the label.

A reward model learns only what its pairs distinguish. Few prompts, one domain or one rater cover little of what a
policy can generate, and where the longer response nearly always wins, the reward model may learn length alone.
"""

from __future__ import annotations

import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from harken.maths.statistics.intervals import wilson_interval
from harken.records import Preference, TokenPair
from harken.run.counted import counted

BEGINNING = 16
"""Characters of the last turn, normalised, that are its beginning: templates share it."""
MAX_NAMED_GROUPS = 6
"""Number of groups named in a line; the others are counted."""

_NO_WORD = {
    code: " "
    for code in range(sys.maxunicode + 1)
    if (kind := unicodedata.category(chr(code)))[0] in "PZ" or kind in ("Cc", "Cf")
}
"""Punctuation, spaces and controls. Combining marks stay: in many scripts they are vowels."""


def summary_lines(pairs: Sequence[Preference | TokenPair]) -> list[str]:
    """Summarise the pairs for a terminal, [] when there are no pairs.

    Pre-tokenised pairs count in domains and lengths only, because their prompts and sources are not known.
    """
    texts = [pair for pair in pairs if isinstance(pair, Preference)]
    lines = []
    if texts:
        lines += [
            describe_prompts(texts),
            describe_responses(texts),
            f"sources: {format_shares(pair.source for pair in texts)}; {describe_raters(texts)}",
        ]
    if pairs:
        lines += [f"domains: {format_shares(_domain(pair) for pair in pairs)}", describe_lengths(pairs)]
    return lines


def describe_prompts(pairs: Sequence[Preference]) -> str:
    """Describe the prompts: how many are distinct, their beginnings and their lengths.

    Prompts that repeat another except for case, spaces and punctuation are counted separately.
    """
    exact = {tuple((m.role, m.content) for m in pair.prompt.messages) for pair in pairs}
    alike = {tuple((role, normalise(content)) for role, content in messages) for messages in exact}
    sizes = [sum(len(content) for _, content in messages) for messages in exact]
    begins = {normalise(messages[-1][1])[:BEGINNING] if messages else "" for messages in exact}
    return (
        f"prompts: {len(exact):,} distinct in {counted(len(pairs), 'pair')}; "
        f"{len(exact) - len(alike):,} of them repeat another except for case, spaces and punctuation; "
        f"{counted(len(begins), 'different beginning')}; median {median(sizes):,.0f} characters, longest {max(sizes):,}"
    )


def describe_responses(pairs: Sequence[Preference]) -> str:
    """Report how many responses are distinct, ignoring case, spaces and punctuation."""
    texts = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
    return f"responses: {len(set(map(normalise, texts))):,} distinct of {len(texts):,}, the same way"


def describe_raters(pairs: Sequence[Preference]) -> str:
    """Describe the number of raters per pair."""
    counts = [len(pair.raters) for pair in pairs]
    if not any(counts):
        return "the rows name no raters"
    single = sum(count <= 1 for count in counts) / len(counts)
    return f"raters: {median(counts):g} per pair (median), {single:.0%} of pairs by one or unknown"


def describe_lengths(pairs: Sequence[Preference | TokenPair]) -> str:
    """Report the median of length(chosen) ÷ length(rejected), and how often the longer response won (95 % interval).

    In characters; of pre-tokenised pairs in tokens of prompt and response. The win rate leaves out ties in label or
    length. The interval assumes independent pairs: with many pairs per prompt it is too narrow.
    """
    lengths = [_lengths(pair) for pair in pairs]
    ratio = median(chosen / rejected for chosen, rejected in lengths)
    longer_preferred = [
        (chosen > rejected) == (pair.label > 0.5)
        for pair, (chosen, rejected) in zip(pairs, lengths, strict=True)
        if pair.label != 0.5 and chosen != rejected
    ]
    text = f"length: chosen ÷ rejected {ratio:.2f} (median)"
    if not longer_preferred:
        return f"{text}; no pair shows whether the longer response wins"
    low, high = wilson_interval(sum(longer_preferred), len(longer_preferred))
    share = sum(longer_preferred) / len(longer_preferred)
    text += (
        f"; the longer response wins {share:.1%} [{low:.1%}, {high:.1%}] of {len(longer_preferred):,} pairs"
    )
    if low <= 0.5 <= high:
        return text
    return f"{text}, so length alone predicts {max(share, 1 - share):.1%}"


def format_shares(names: Iterable[str]) -> str:
    """Format the shares of names as ``a 75 %, b 25 %``, the largest first; rows without a name count as "none"."""
    counts = Counter(name or "none" for name in names)
    total = sum(counts.values())
    if set(counts) == {"none"}:
        return "none named"
    shares = [f"{name} {count / total:.0%}" for name, count in counts.most_common(MAX_NAMED_GROUPS)]
    unlisted = len(counts) - MAX_NAMED_GROUPS
    return ", ".join(shares) + (f" and {unlisted:,} more" if unlisted > 0 else "")


def normalise(text: str) -> str:
    """Normalise a text for comparison: no case, punctuation, width variants or runs of spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_NO_WORD).split())


def _domain(pair: Preference | TokenPair) -> str:
    return pair.prompt.domain if isinstance(pair, Preference) else pair.domain


def _lengths(pair: Preference | TokenPair) -> tuple[int, int]:
    if isinstance(pair, Preference):
        return len(pair.chosen), len(pair.rejected)
    return len(pair.chosen_tokens), len(pair.rejected_tokens)
