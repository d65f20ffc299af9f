"""Mistakes in what is computed from several raters' labels: agreement, Dawid-Skene, habits, aggregation, packs."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

SKENE, HABITS, AGREE = (
    "maths/test_dawid_skene.py",
    "maths/test_rater_statistics.py",
    "maths/test_agreement.py",
)
EM, RATERS, INTERVALS = (
    "maths/statistics/dawid_skene.py",
    "maths/statistics/rater_habits.py",
    "maths/statistics/agreement_intervals.py",
)

STATISTICS = [
    Mutant("Dawid-Skene: the prior is left out", EM, "_maximise: np.swapaxes(counts, 0, 1) + smoothing", "np.swapaxes(counts, 0, 1)", f"{SKENE}::test_it_equals_an_em_in_plain_loops"),
    Mutant("Dawid-Skene: the prevalence is left out", EM, "_log_joint: joint + log_prevalence", "joint", f"{SKENE}::test_it_equals_an_em_in_plain_loops"),
    Mutant("Dawid-Skene: true and voted are swapped", EM, "_log_joint: log_confusion[votes.rater, k, votes.label]", "log_confusion[votes.rater, votes.label, k]", f"{SKENE}::test_it_equals_an_em_in_plain_loops"),
    Mutant("Dawid-Skene: stops at the first step", EM, "_fit: value - before <= tolerance * total", "value - before <= np.inf", f"{SKENE}::test_it_equals_an_em_in_plain_loops {SKENE}::test_the_log_posterior_never_falls_and_one_step_more_changes_nothing"),
    Mutant("Dawid-Skene: intervals of items that are not resampled", EM, "reliability_intervals: _fit(votes, counts, fit.posterior, prior, 100, 1e-07)", "_fit(votes, np.ones(votes.items), fit.posterior, prior, 100, 1e-07)", f"{SKENE}::test_simulated_raters_are_recovered_within_their_intervals"),
    Mutant("Dawid-Skene: reliability without the prevalence", EM, "DawidSkene.reliability: np.einsum('k,rkk->r', self.prevalence, self.confusion)", "self.confusion[:, 0, 0]", f"{SKENE}::test_simulated_raters_are_recovered_within_their_intervals"),
    Mutant("alpha: interval distance without its square", "maths/statistics/agreement.py", "_distances: (values[:, None] - values[None, :]) ** 2", "abs(values[:, None] - values[None, :])", f"{AGREE}::test_alpha_equals_the_package"),
    Mutant("Fleiss: chance of one category", INTERVALS, "fleiss_interval: (categories ** 2).sum(axis=1)", "(categories ** 2).max(axis=1)", f"{HABITS}::test_intervals_are_those_of_resampled_rows"),
    Mutant("Cohen: chance without the second rater", INTERVALS, "cohen_interval: np.einsum('di,di->d', tables.sum(axis=1), tables.sum(axis=2))", "(tables.sum(axis=1) ** 4).sum(axis=1)", f"{HABITS}::test_intervals_are_those_of_resampled_rows"),
    Mutant("perfect agreement is certain", INTERVALS, "_interval: rule_of_three(rows)", "0", f"{HABITS}::test_perfect_agreement_and_few_rows_are_no_point"),
    Mutant("drift: the halves overlap", RATERS, "drift_between_halves: cases[middle:]", "cases", f"{HABITS}::test_drift_is_fishers_test_of_two_halves"),
    Mutant("leaning: agreement counts", RATERS, "leaning: mine if mine != theirs else None", "mine", f"{HABITS}::test_a_leaning_is_what_departs_from_the_others"),
]  # fmt: skip

PEOPLE = [*STATISTICS]
