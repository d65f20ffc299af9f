"""Compare a reward model with models that are too simple to be worth optimising: length, and a bag of words.

The bag of words is a logistic regression without an intercept on log(1 + count) in the chosen response minus that in
the rejected one. It is fitted on the training pairs if there are any, else on the other half of the prompts.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse, special

from harken.card.scored import RewardArray, ScoredPairs, Section, interval_section
from harken.data.parse import Pair
from harken.maths.statistics.intervals import clustered_mean_interval
from harken.records import Preference

_WORD = re.compile(r"\w+|[^\w\s]")
MIN_COUNT = 3
"""Minimum number of pairs in which a word occurs."""
MAX_TRAINING_PAIRS = 5000
"""Maximum number of training pairs, from the first, for baselines and the learning curve."""
WORD_L2 = 3.0


def baselines(scored: ScoredPairs, training: Sequence[Pair]) -> dict[str, Section]:
    """Compute the accuracy of each baseline on the same pairs, and how much better the reward model is.

    `difference`: accuracy of the model minus that of the baseline, with a 95 % interval clustered by prompt. A tie of
    the baseline counts half. Without text (pre-tokenised pairs) there is no bag of words.
    """
    if not scored.decided.any():
        return {}
    sections = {"longer_wins": _compare(scored, np.sign(scored.preferred_longer))}
    if all(isinstance(pair, Preference) for pair in scored.pairs):
        texts = [pair for pair in training if isinstance(pair, Preference)][:MAX_TRAINING_PAIRS]
        margins = _bag_of_words_margins(scored, texts)
        sections["bag_of_words"] = _compare(scored, np.sign(margins) * scored.side)
        sections["bag_of_words"]["fitted_on"] = (
            f"{len(texts):,} training pairs" if texts else "the other half of the prompts"
        )
    return sections


def _compare(scored: ScoredPairs, verdict: NDArray[Any]) -> Section:
    """Compare with a baseline's `verdict`: 1 where it agrees with the label, -1 where it does not, 0 for a tie."""
    right = (1 + verdict) / 2
    accuracy = scored.accuracy(right)
    assert accuracy is not None
    decided = scored.decided
    difference = clustered_mean_interval(
        (scored.correct - right)[decided], scored.prompts[decided], limits=(-1.0, 1.0)
    )
    return accuracy | {"difference": interval_section(difference, accuracy["prompts"])}


def _bag_of_words_margins(scored: ScoredPairs, training: Sequence[Preference]) -> RewardArray:
    """Return the margins of a bag of words, fitted on other prompts than those it is applied to."""
    pairs = [pair for pair in scored.pairs if isinstance(pair, Preference)]
    if training:
        return _margins(training, pairs)
    margins = np.zeros(len(pairs))
    for half in (0, 1):
        in_half = scored.prompts % 2 == half
        training_pairs = [pair for pair, is_applied in zip(pairs, in_half, strict=True) if not is_applied]
        test_pairs = [pair for pair, is_applied in zip(pairs, in_half, strict=True) if is_applied]
        if training_pairs and test_pairs:
            margins[in_half] = _margins(training_pairs, test_pairs)
    return margins


def _margins(training: Sequence[Preference], pairs: Sequence[Preference]) -> RewardArray:
    counts = Counter(word for pair in training for word in {*_words(pair.chosen), *_words(pair.rejected)})
    words = {word: i for i, word in enumerate(sorted(word for word, n in counts.items() if n >= MIN_COUNT))}
    if not words:
        return np.zeros(len(pairs))
    weights = fit_pair_weights(
        _features(training, words), np.array([pair.label for pair in training], dtype=np.float64), WORD_L2
    )
    margins: RewardArray = _features(pairs, words) @ weights
    return margins


def fit_pair_weights(x: Any, label: RewardArray, l2: float) -> RewardArray:
    """Fit weights w that minimise the cross-entropy of σ(x·w) and the labels, plus l2/2·‖w‖².

    `x` [pairs, features] may be sparse. There is no intercept: swapping the sides of a pair must flip the verdict.
    """

    def objective(w: RewardArray) -> tuple[float, RewardArray]:
        z = x @ w
        loss = float((label * np.logaddexp(0, -z) + (1 - label) * np.logaddexp(0, z)).sum())
        return loss + 0.5 * l2 * float(w @ w), x.T @ (special.expit(z) - label) + l2 * w

    fitted: RewardArray = optimize.minimize(objective, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x
    return fitted


def _features(pairs: Sequence[Preference], words: dict[str, int]) -> Any:
    rows, columns, values = [], [], []
    for index, pair in enumerate(pairs):
        for text, sign in ((pair.chosen, 1.0), (pair.rejected, -1.0)):
            for word, count in Counter(_words(text)).items():
                if word in words:
                    rows.append(index)
                    columns.append(words[word])
                    values.append(sign * math.log1p(count))
    return sparse.csr_matrix((values, (rows, columns)), shape=(len(pairs), len(words)))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
