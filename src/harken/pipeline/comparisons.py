"""Describe the comparisons of an evaluation in sentences. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harken.evaluation import verdict
from harken.evaluation.headline_numbers import headline_numbers
from harken.pipeline.roles import PolicyComparison, PolicyRoles

MAX_IN_FULL = 3
"""Comparisons between trained policies that are described in full; of more, only the verdicts that differ are shown."""


def comparison_sentences(
    summary: Mapping[str, Any],
    roles: PolicyRoles,
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
    judge: str | None,
) -> list[str]:
    """Return the sentences of every comparison; a note that all of them share stands once.

    Where more than MAX_IN_FULL pairs of trained policies are compared with one another, these follow the comparisons
    with the models that training started from, by one sentence each, and those without a clear difference are counted.
    """
    if not roles.comparisons:
        return [
            f"Note: {summary['policies'][0]} is the only policy of the evaluation, so there is no comparison."
        ]
    trained = {comparison.after for comparison in roles.comparisons}
    between = [comparison for comparison in roles.comparisons if comparison.before in trained]
    brief = between if len(between) > MAX_IN_FULL else []
    lines: list[str] = []
    for comparison in roles.comparisons:
        if comparison not in brief:
            kl = verdict.late_kl(metrics.get(comparison.kl_of, ())) if comparison.kl_of else None
            lines += _sentences(summary, roles, comparison, judge, kl)
    if brief:
        lines += _brief_sentences([_sentences(summary, roles, one, judge)[0] for one in brief])
    shared = verdict.power_note(summary)
    return [*(line for line in dict.fromkeys(lines) if line != shared), shared]


def _sentences(
    summary: Mapping[str, Any],
    roles: PolicyRoles,
    comparison: PolicyComparison,
    judge: str | None,
    kl: float | None = None,
) -> list[str]:
    first = roles.policies[comparison.first] if comparison.first else None
    before, after = roles.policies[comparison.before], roles.policies[comparison.after]
    return verdict.headline(summary, first, before, after, judge, kl)


def _brief_sentences(verdicts: Sequence[str]) -> list[str]:
    """Return the verdicts that are not "no clear difference", and count the others."""
    clear = [sentence for sentence in verdicts if not sentence.startswith(verdict.NO_DIFFERENCE)]
    unclear = len(verdicts) - len(clear)
    count = (
        f"Note: {unclear} of {len(verdicts)} comparisons between trained policies show no clear difference; "
        "results.json has the figures of all."
    )
    return [*clear, *([count] if unclear else [])]


def comparison_numbers(
    summary: Mapping[str, Any], roles: PolicyRoles, judge: str | None
) -> list[dict[str, Any]]:
    """Return the large numbers of the first comparison, or of the only policy."""
    if not roles.comparisons:
        return headline_numbers(summary, None, summary["policies"][0], judge)
    first = roles.comparisons[0]
    return headline_numbers(summary, roles.policies[first.before], roles.policies[first.after], judge)
