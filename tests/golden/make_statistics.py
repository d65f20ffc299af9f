"""Golden numbers from SciPy 1.17.1 and statsmodels 0.15.0: `python tests/golden/make_statistics.py`.

statsmodels is no dependency of this project; SciPy's bootstrap draws its own random numbers, so its bounds
agree with ours only to the noise of resampling.
"""

import json
from pathlib import Path

import numpy as np
import scipy
import statsmodels
from scipy.stats import binomtest, bootstrap
from statsmodels.stats.proportion import proportion_confint


def wilson():
    cases = [(0, 10), (1, 10), (5, 10), (10, 10), (97, 2017), (1375, 1917), (3, 4)]
    return [
        {
            "successes": k,
            "n": n,
            "confidence": c,
            "interval": proportion_confint(k, n, alpha=1 - c, method="wilson"),
        }
        for k, n in cases
        for c in (0.9, 0.95, 0.99)
    ]


def sign():
    cases = [(0, 0), (0, 5), (5, 0), (7, 7), (8, 2), (60, 40), (1100, 820)]
    return [
        {"wins": w, "losses": lost, "p": float(binomtest(w, w + lost, 0.5).pvalue) if w + lost else 1.0}
        for w, lost in cases
    ]


def resampled():
    random = np.random.default_rng(839)
    left = random.gamma(2.0, 1.5, 60)
    right = left + random.normal(0.3, 0.5, 60)
    one, pair = (
        bootstrap(
            (x,), np.mean, n_resamples=200_000, method="percentile", rng=np.random.default_rng(1), batch=5_000
        )
        for x in (left, right - left)
    )
    return {
        "left": left.tolist(),
        "right": right.tolist(),
        "mean_of_left": list(one.confidence_interval),
        "mean_of_difference": list(pair.confidence_interval),
    }


if __name__ == "__main__":
    made_with = {"scipy": scipy.__version__, "statsmodels": statsmodels.__version__, "numpy": np.__version__}
    golden = {"made_with": made_with, "wilson": wilson(), "sign_test": sign(), "bootstrap": resampled()}
    Path(__file__).with_name("statistics.json").write_text(json.dumps(golden) + "\n")
