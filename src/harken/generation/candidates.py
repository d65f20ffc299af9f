"""Choose pairs among the scored responses to one prompt. Pure: no file, no model.

Let the responses to a prompt be in the order of the table, with scores s. A pair is (chosen, rejected):

    best-worst   the first response of the highest score, and the first of the lowest among those of other text
    all          every two responses, the higher score chosen
    margin       as all, where the scores differ by at least m
    threshold    every response with s ≥ t chosen over every response with s < t
    best         no pair: the first response of the highest score (rejection sampling: Touvron et al. 2023, Llama 2,
                 section 3.2.3, arXiv:2307.09288; Dong et al. 2023, RAFT, arXiv:2304.06767)

Scores that differ by at most `tie_epsilon` are a tie; the response that stands first is then its `chosen`. Responses of
equal text are never paired, and one pair of texts is written once for a prompt. Best and worst of k as a pair: Dong et
al. 2024, RLHF Workflow, arXiv:2405.07863; all pairs of a ranking: Ouyang et al. 2022, arXiv:2203.02155, section 3.5.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from harken.config import PairsConfig


@dataclass(frozen=True, slots=True)
class Candidate:
    """Hold one scored response. `row` is its place in the table."""

    row: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class ChosenPair:
    """Hold two responses of different text. `strength` is 0 for a tie, which training reads with label 1/2."""

    chosen: Candidate
    rejected: Candidate
    strength: float


def choose_pairs(
    candidates: Sequence[Candidate], config: PairsConfig, counts: Counter[str]
) -> list[ChosenPair]:
    """Return the pairs of one prompt, in the order of the table.

    `counts` gains, for pairs that are not written: `ties_dropped`, `identical`, `repeated` and `below_margin`; and
    `ties_kept` for ties that are.
    """
    found: list[ChosenPair] = []
    seen: set[frozenset[str]] = set()
    for pair in _compared(candidates, config):
        first, second = sorted(pair, key=lambda one: one.row)
        tie = abs(first.score - second.score) <= config.tie_epsilon
        chosen, rejected = (first, second) if tie or first.score >= second.score else (second, first)
        difference = chosen.score - rejected.score
        texts = frozenset((_text(first), _text(second)))
        if len(texts) == 1:
            counts["identical"] += 1
        elif texts in seen:
            counts["repeated"] += 1
        elif tie and config.ties == "drop":
            counts["ties_dropped"] += 1
        elif not tie and config.margin is not None and difference < config.margin:
            counts["below_margin"] += 1
        else:
            seen.add(texts)
            if tie:
                counts["ties_kept"] += 1
            strength = difference if config.strength == "difference" else 1.0
            found.append(ChosenPair(chosen, rejected, 0.0 if tie else strength))
    return found


def choose_best(
    candidates: Sequence[Candidate], threshold: float | None, counts: Counter[str]
) -> Candidate | None:
    """Return the first response of the highest score.

    None, counted as `below_threshold`, if its score is below `threshold`.
    """
    best = max(candidates, key=lambda one: one.score)
    if threshold is not None and best.score < threshold:
        counts["below_threshold"] += 1
        return None
    return best


def _compared(candidates: Sequence[Candidate], config: PairsConfig) -> Iterator[tuple[Candidate, Candidate]]:
    """Yield the responses that the rule compares, before ties, equal texts and the margin are looked at."""
    if config.how == "best-worst":
        if len(candidates) > 1:
            best = max(candidates, key=lambda one: one.score)
            others = [one for one in candidates if _text(one) != _text(best)]
            # Without another text the pair is counted as identical.
            rest = others or [one for one in candidates if one is not best]
            yield best, min(rest, key=lambda one: one.score)
    elif config.how == "threshold":
        assert config.threshold is not None
        good = [one for one in candidates if one.score >= config.threshold]
        bad = [one for one in candidates if one.score < config.threshold]
        yield from ((left, right) for left in good for right in bad)
    else:
        yield from combinations(candidates, 2)


def _text(candidate: Candidate) -> str:
    """Return the text by which responses are equal: training strips them before it compares."""
    return candidate.text.strip()
