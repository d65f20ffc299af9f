"""Mistakes in the report card of a reward model: calibration, agreement, intervals, probes, faults, the gate."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

CALIBRATION = [
    ("temperature multiplied", "preference_probability: np.asarray(gaps, dtype=np.float64) / temperature", "np.asarray(gaps, dtype=np.float64) * temperature"),
    ("folded by the label", "fold_pairs: p >= 0.5", "label >= 0.5"),
    ("outcome not folded", "fold_pairs: np.where(first, label, 1 - label)", "label"),
    ("likelihood of the other side", "negative_log_likelihood: np.logaddexp(0, -z)", "np.logaddexp(0, z)"),
    ("soft labels rounded", "negative_log_likelihood: (1 - label) * np.logaddexp(0, z)", "(label < 0.5) * np.logaddexp(0, z)"),
    ("Brier without the square", "brier_score: (p - y) ** 2", "np.abs(p - y)"),
    ("bins of equal width", 'equal_mass_bins: np.quantile(p, np.arange(1, count) / count, method="inverted_cdf")', "np.linspace(0.5, 1, count + 1)[1:-1]"),
    ("bins of a single pair", "equal_mass_bins: len(p) // MIN_PAIRS_PER_BIN", "len(p)"),
    ("bins weighted equally", "brier_parts: np.average((mean_p - mean_y) ** 2, weights=size)", "np.average((mean_p - mean_y) ** 2)"),
    ("resolution around one half", "brier_parts: mean_y - y.mean()", "mean_y - 0.5"),
    ("covariance counted once", "brier_parts: 2 * np.mean(inside_p * inside_y)", "np.mean(inside_p * inside_y)"),
    ("ECE signed", "calibration_error: np.abs(np.add.reduceat(outcomes - p, starts, axis=-1))", "np.add.reduceat(outcomes - p, starts, axis=-1)"),
    ("null of guessing", "calibration_error: random.random(len(p)) < p", "random.random(len(p)) < 0.5"),
    ("p-value of the other tail", "calibration_error: null >= observed", "null <= observed"),
    ("temperature upside down", "fit_temperature: 1 / optimize.brentq(slope, hottest, coldest, xtol=1e-13, rtol=1e-13)", "optimize.brentq(slope, hottest, coldest, xtol=1e-13, rtol=1e-13)"),
    ("temperature of a model that disagrees", "fit_temperature: slope(0.0) >= 0", "False"),
]  # fmt: skip

AGREEMENT = [
    ("a rater among the others", "rater_ceiling: np.sign(signs.sum() - signs)", "np.sign(signs.sum() + 0 * signs)"),
    ("ties of the others count", "rater_ceiling: (signs != 0) & (others != 0)", "signs != 0"),
    ("nominal distance", "krippendorff_alpha: (middle[:, None] - middle[None, :]) ** 2", "(middle[:, None] != middle[None, :]) * 1.0"),
    ("interval distance", "krippendorff_alpha: np.cumsum(marginal) - marginal / 2", "np.array(values)"),
]  # fmt: skip

PROPORTIONS = [
    ("clusters ignored", "clustered_wilson_interval: min(share * (1 - share) / variance, total) if variance else total", "total"),
    ("narrower than independent trials", "clustered_wilson_interval: min(share * (1 - share) / variance, total)", "share * (1 - share) / variance"),
    ("copies count at a share of one", "clustered_wilson_interval: float(clusters)", "total"),
    ("no small-sample correction", "clustered_wilson_interval: clusters / (clusters - 1)", "1.0"),
    ("residuals around zero", "clustered_wilson_interval: (right - share * n) ** 2", "right ** 2"),
]  # fmt: skip

TABLES = {
    ("maths/statistics/calibration.py", "maths/test_calibration.py"): CALIBRATION,
    ("maths/statistics/agreement.py", "maths/test_agreement.py"): AGREEMENT,
    ("maths/statistics/proportions.py", "maths/test_proportions.py"): PROPORTIONS,
}

CARD = [
    Mutant(name, file, old, new, tests)
    for (file, tests), rows in TABLES.items()
    for name, old, new in rows
]  # fmt: skip
