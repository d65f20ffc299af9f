"""Choose pairs among the scored responses to one prompt. Pure: no file, no model.

Let the responses to a prompt be in the order of the table, with scores s. A pair is (chosen, rejected):

    best-worst   the first response of the highest score, and the first of the lowest among those of other text
    all          every two responses, the higher score chosen
    margin       as all, where the scores differ by at least m
    threshold    every response with s ≥ t chosen over every response with s < t
    best         no pair: the first response of the highest score (rejection sampling: Touvron et al. 2023, Llama 2,
                 section 3.2.3, arXiv:2307.09288; Dong et al. 2023, RAFT, arXiv:2304.06767)

Scores that differ by at most `tie_epsilon` are a tie; then the earlier response is `chosen`. Responses of
equal text are never paired, and each pair of texts is written once per prompt. Best and worst of k as a pair: Dong et
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
    """One scored response. `row` is its index in the table."""

    row: int
    text: str
    score: float


@dataclass(frozen=True, slots=True)
class ChosenPair:
    """Two responses with different texts. `strength` is 0 for a tie, whose label in training is 1/2."""

    chosen: Candidate
    rejected: Candidate
    strength: float


def choose_pairs(
    candidates: Sequence[Candidate], config: PairsConfig, counts: Counter[str]
) -> list[ChosenPair]:
    """Return the pairs of one prompt, in the order of the table.

    Counts pairs that are not written in `counts`: `ties_dropped`, `identical`, `repeated` and `below_margin`; and ties
    that are written: `ties_kept`.
    """
    chosen_pairs: list[ChosenPair] = []
    seen_texts: set[frozenset[str]] = set()
    for pair in _compared(candidates, config):
        first, second = sorted(pair, key=lambda candidate: candidate.row)
        tie = abs(first.score - second.score) <= config.tie_epsilon
        chosen, rejected = (first, second) if tie or first.score >= second.score else (second, first)
        difference = chosen.score - rejected.score
        texts = frozenset((_text(first), _text(second)))
        if len(texts) == 1:
            counts["identical"] += 1
        elif texts in seen_texts:
            counts["repeated"] += 1
        elif tie and config.ties == "drop":
            counts["ties_dropped"] += 1
        elif not tie and config.margin is not None and difference < config.margin:
            counts["below_margin"] += 1
        else:
            seen_texts.add(texts)
            if tie:
                counts["ties_kept"] += 1
            strength = difference if config.strength == "difference" else 1.0
            chosen_pairs.append(ChosenPair(chosen, rejected, 0.0 if tie else strength))
    return chosen_pairs


def choose_best(
    candidates: Sequence[Candidate], threshold: float | None, counts: Counter[str]
) -> Candidate | None:
    """Return the first response of the highest score.

    None, counted as `below_threshold`, if its score is below `threshold`.
    """
    best = max(candidates, key=lambda candidate: candidate.score)
    if threshold is not None and best.score < threshold:
        counts["below_threshold"] += 1
        return None
    return best


def _compared(candidates: Sequence[Candidate], config: PairsConfig) -> Iterator[tuple[Candidate, Candidate]]:
    """Yield the pairs that the rule compares, before ties, equal texts and the margin are checked."""
    if config.how == "best-worst":
        if len(candidates) > 1:
            best = max(candidates, key=lambda candidate: candidate.score)
            different = [candidate for candidate in candidates if _text(candidate) != _text(best)]
            # Without another text the pair is counted as identical.
            remaining = different or [candidate for candidate in candidates if candidate is not best]
            yield best, min(remaining, key=lambda candidate: candidate.score)
    elif config.how == "threshold":
        assert config.threshold is not None
        accepted = [candidate for candidate in candidates if candidate.score >= config.threshold]
        refused = [candidate for candidate in candidates if candidate.score < config.threshold]
        yield from ((left, right) for left in accepted for right in refused)
    else:
        yield from combinations(candidates, 2)


def _text(candidate: Candidate) -> str:
    """Return the stripped text, by which training compares responses."""
    return candidate.text.strip()
