"""Measure baselines of a reward model on a preference file: "the longer response wins", and a bag of words.

    python benchmarks/reward_baselines.py TRAIN TEST

Bag of words: the difference of log(1 + count) between the two responses, words seen at least 5 times, logistic
regression without an intercept, L2 strength chosen on a tenth of the training pairs. Accuracies with 95 % Wilson
intervals; a tie in length counts half.
"""

from __future__ import annotations

import math
import re
import sys
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy import optimize, sparse, special

from harken.config.base import DataConfig
from harken.data.sources import load_preferences
from harken.maths.statistics.intervals import wilson_interval
from harken.records import Preference

WORD = re.compile(r"[a-z']+|[0-9]+|[^\sa-z0-9]")


def pairs_of(path: str) -> list[Preference]:
    """Read the preferences of a file."""
    rows, _ = load_preferences(DataConfig(path=path), path, 839)
    return [row for row in rows if isinstance(row, Preference)]


def features(pairs: Sequence[Preference], words: dict[str, int]) -> sparse.csr_matrix:
    """Return [pairs, words]: log(1 + count) in the chosen response minus that in the rejected one."""
    rows, columns, values = [], [], []
    for number, pair in enumerate(pairs):
        for text, sign in ((pair.chosen, 1.0), (pair.rejected, -1.0)):
            for word, count in Counter(WORD.findall(text.lower())).items():
                if word in words:
                    rows.append(number)
                    columns.append(words[word])
                    values.append(sign * math.log1p(count))
    return sparse.csr_matrix((values, (rows, columns)), shape=(len(pairs), len(words)))


def fit(x: sparse.csr_matrix, strength: float) -> np.ndarray:
    """Fit weights that maximise the likelihood of "chosen wins" under an L2 penalty."""

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margin = x @ w
        slope = -(x.T @ special.expit(-margin)) + strength * w
        return float(np.logaddexp(0, -margin).sum() + 0.5 * strength * w @ w), slope

    return optimize.minimize(loss, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B").x


def right(x: sparse.csr_matrix, w: np.ndarray) -> float:
    """Count pairs whose chosen response scores higher; ties count half."""
    margin = x @ w
    return float((margin > 0).sum() + 0.5 * (margin == 0).sum())


def main(train_path: str, test_path: str) -> None:
    """Print both accuracies."""
    train, test = pairs_of(train_path), pairs_of(test_path)
    longer = sum(
        1.0 if len(p.chosen) > len(p.rejected) else 0.5 * (len(p.chosen) == len(p.rejected)) for p in test
    )
    counts = Counter(w for p in train for t in (p.chosen, p.rejected) for w in set(WORD.findall(t.lower())))
    words = {word: i for i, (word, n) in enumerate(sorted(counts.items())) if n >= 5}
    words = {word: i for i, word in enumerate(words)}
    x = features(train, words)
    weight_dtype = np.arange(len(train)) % 10 == 0
    best = max(
        (right(x[weight_dtype], fit(x[~weight_dtype], s)), -s) for s in (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
    )
    bag = right(features(test, words), fit(x, -best[1]))
    for name, hits in (("longer wins", longer), (f"bag of {len(words)} words", bag)):
        low, high = wilson_interval(round(hits), len(test))
        print(f"{name:<22}{hits / len(test):.1%}  [{low:.1%}, {high:.1%}]  of {len(test)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
