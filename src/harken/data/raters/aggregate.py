"""Turn the votes of several raters on a pair into one label: the majority, a weighted share, or a posterior. No torch.

A golden row keeps its known judgement as its label. Rows without votes keep theirs.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from harken.data.preferences import majority_vote
from harken.errors import UserError
from harken.maths.statistics.dawid_skene import VoteTable, dawid_skene
from harken.records import Preference, TokenPair, Voter

RaterRule = Literal["majority", "weighted", "dawid_skene"]
Weights = Mapping[str, float] | Literal["gold"] | None
FIX_NAMES = (
    "name the rater of each vote: {score, rater} in individual_preference, annotator1, …, or a column rater"
)
MAX_NOTED = 8
"""Raters that a note lists."""


def aggregate_raters(
    records: Sequence[Preference | TokenPair], rule: RaterRule, weights: Weights, where: str
) -> tuple[list[Preference | TokenPair], str]:
    """Return the records with aggregated labels, and a note that says what was done.

    Records that are single votes of named raters on the same two responses become one. A record whose label changes
    side swaps `chosen` and `rejected`. Raises UserError when no row has votes, and when a rule needs to know who voted.
    """
    merged = _merge_votes([record for record in records if isinstance(record, Preference)])
    voted = [record for record in merged if record.raters]
    if not voted:
        raise UserError(
            f"data.raters is {rule}, and no row has votes", where=where, fix="set data.raters to null"
        )
    if rule == "majority":
        probabilities = [0.5 + majority_vote(record.raters) / 2 for record in voted]
        detail = "hard labels, ties 1/2"
    elif rule == "weighted":
        by_voter, detail = _voter_weights(voted, weights, where)
        probabilities = [_weighted_share(record, by_voter) for record in voted]
    else:
        probabilities, detail = _posterior(voted, where)
    labels = dict(zip(map(id, voted), probabilities, strict=True))
    aggregated: list[Preference | TokenPair] = [record for record in records if isinstance(record, TokenPair)]
    aggregated += [_with_label(record, labels.get(id(record))) for record in merged]
    votes = sum(len(record.raters) for record in voted)
    golden = sum(record.gold is not None for record in merged)
    note = f"raters: {rule} of {votes:,} votes on {len(voted):,} pairs ({detail})"
    return aggregated, note + (f"; {golden:,} golden rows keep their known label" if golden else "")


def _merge_votes(records: Sequence[Preference]) -> list[Preference]:
    """Merge records that are one vote each on the same two responses; the others stay as they are, in order."""
    merged: dict[object, Preference] = {}
    for index, record in enumerate(records):
        if record.raters or len(record.voters) != 1:
            merged[index] = record
            continue
        key = (record.prompt.messages, record.prompt.tools, frozenset((record.chosen, record.rejected)))
        sign = float(np.sign(record.label - 0.5)) * (record.strength or 1.0)
        earlier = merged.get(key)
        if earlier is None:
            merged[key] = replace(record, raters=(sign,), rater="")
            continue
        same_side = record.chosen == earlier.chosen
        gold = (
            earlier.gold
            if earlier.gold is not None or record.gold is None
            else record.gold * (1 if same_side else -1)
        )
        merged[key] = replace(
            earlier,
            raters=(*earlier.raters, sign if same_side else -sign + 0.0),
            voters=(*earlier.voters, *record.voters),
            gold=gold,
            chosen_first=earlier.chosen_first if earlier.chosen_first is not None or record.chosen_first is None
            else record.chosen_first == same_side,
        )  # fmt: skip
    return list(merged.values())


def _with_label(record: Preference, probability: float | None) -> Preference:
    """Return the record with P(chosen is better) as its label, sides swapped where the other one is better."""
    if record.gold is not None:
        probability = 0.5 + float(np.sign(record.gold)) / 2
    if probability is None:
        return record
    strength = (record.strength or 1.0) if probability != 0.5 else 0.0
    if probability >= 0.5:
        return replace(record, label=probability, strength=strength)
    return replace(
        record,
        chosen=record.rejected,
        rejected=record.chosen,
        label=1.0 - probability,
        strength=strength,
        raters=tuple(-vote + 0.0 for vote in record.raters),
        written_by=record.written_by[::-1],
        chosen_first=None if record.chosen_first is None else not record.chosen_first,
        gold=None if record.gold is None else -record.gold + 0.0,
    )


def _weighted_share(record: Preference, weight: Mapping[Voter, float]) -> float:
    """Return the weighted share of votes for `chosen`; a tie counts half, and votes of no weight at all are a tie."""
    weights = [weight[voter] for voter in record.voters or (Voter(),) * len(record.raters)]
    total = sum(weights)
    if total == 0:
        return 0.5
    return sum(w * (0.5 + float(np.sign(v)) / 2) for w, v in zip(weights, record.raters, strict=True)) / total


def _voter_weights(
    voted: Sequence[Preference], weights: Weights, where: str
) -> tuple[dict[Voter, float], str]:
    """Return the weight of every voter, and how it was found."""
    voters = {voter for record in voted for voter in record.voters} | {Voter()}
    if weights == "gold":
        return _gold_weights(voted, voters, where)
    if weights is None:
        if all(voter.weight is None for voter in voters):
            raise UserError(
                "data.raters is weighted, and no vote has a weight",
                where=where,
                fix="set data.rater_weights to {name or group: weight} or to gold, or add weights to the rows",
            )
        return {
            voter: 1.0 if voter.weight is None else voter.weight for voter in voters
        }, "weights in the rows"
    known = {voter.name for voter in voters} | {voter.group for voter in voters}
    if unknown := [name for name in weights if name not in known]:
        named = ", ".join(sorted(known - {""})[:MAX_NOTED]) or "none"
        raise UserError(
            f"{unknown[0]!r} is no rater and no group of raters; there are {named}",
            where="data.rater_weights",
            fix="name raters or groups of the rows",
        )
    by_voter = {voter: weights.get(voter.name, weights.get(voter.group, 1.0)) for voter in voters}
    return by_voter, "weights of data.rater_weights, 1 for others"


def _gold_weights(
    voted: Sequence[Preference], voters: set[Voter], where: str
) -> tuple[dict[Voter, float], str]:
    """Weight each rater by the log-odds of being right on golden rows, (right + 1) ÷ (n + 2); never below 0.

    Log-odds weights make the weighted majority the most probable side when raters err independently.
    Source: Nitzan and Paroush 1982, International Economic Review 23:289.
    """
    right: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for record in voted:
        for voter, vote in zip(record.voters, record.raters, strict=False) if record.gold else ():
            counts[voter.name] += 1
            right[voter.name] += float(np.sign(vote)) == float(np.sign(record.gold or 0.0))
    if not counts or not any(counts):
        raise UserError(
            "data.rater_weights is gold, and no golden row has votes of named raters",
            where=where,
            fix=FIX_NAMES,
        )
    accuracy = {name: (right[name] + 1) / (counts[name] + 2) for name in {voter.name for voter in voters}}
    by_name = {name: max(0.0, math.log(p / (1 - p))) for name, p in accuracy.items()}
    listed = ", ".join(f"{name} {right[name]}/{n}" for name, n in counts.most_common(MAX_NOTED))
    return {voter: by_name[voter.name] for voter in voters}, f"weights by golden rows right: {listed}"


def _posterior(voted: Sequence[Preference], where: str) -> tuple[list[float], str]:
    """Return P(chosen is better) + P(tie) / 2 of each record by Dawid and Skene's model."""
    names = sorted({voter.name for record in voted for voter in record.voters if voter.name})
    if not names or any(
        len(record.voters) != len(record.raters) or not all(v.name for v in record.voters) for record in voted
    ):
        raise UserError(
            "data.raters is dawid_skene, and some votes do not say whose they are", where=where, fix=FIX_NAMES
        )
    index = {name: i for i, name in enumerate(names)}
    # The classes are the two responses in an order that the votes did not decide: as shown, else by their hash.
    # In a file with a shown order, a row that has no side kept that order.
    shown = any(record.chosen_first is not None for record in voted)
    swapped = [
        (not record.chosen_first if record.chosen_first is not None else False)
        if shown
        else _rejected_is_first(record)
        for record in voted
    ]
    ties = any(vote == 0 for record in voted for vote in record.raters)
    votes = [
        (i, index[voter.name], 2 if vote == 0 else int((vote > 0) == swap))
        for i, (record, swap) in enumerate(zip(voted, swapped, strict=True))
        for voter, vote in zip(record.voters, record.raters, strict=True)
    ]
    fit = dawid_skene(VoteTable.of(votes, len(voted), len(names), 2 + ties))
    first = fit.posterior[:, 0] + (fit.posterior[:, 2] / 2 if ties else 0.0)
    probabilities = [float(1 - p if swap else p) for p, swap in zip(first, swapped, strict=True)]
    right = fit.reliability()
    listed = ", ".join(f"{name} {right[i]:.2f}" for i, name in enumerate(names[:MAX_NOTED]))
    em_note = (
        f"converged in {fit.iterations} steps"
        if fit.converged
        else f"not converged in {fit.iterations} steps"
    )
    return probabilities, f"{em_note}; probability that a rater is right: {listed}"


def _rejected_is_first(record: Preference) -> bool:
    """Return whether `rejected` counts as the first response."""
    return hashlib.sha256(record.rejected.encode()).digest() < hashlib.sha256(record.chosen.encode()).digest()
