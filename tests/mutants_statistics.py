"""Mistakes in the statistics of comparisons: intervals, tests, regressions, what counts as a unit."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

SLOW, ORACLES, PAIRS = (
    "maths/test_statistics_definitions.py",
    "maths/test_statistics_oracles.py",
    "evaluation/test_pairs.py",
)

DEGENERATE = "maths/test_clustered_intervals.py"

FEW = "evaluation/test_few_prompts.py"

BOOTSTRAP = [
    ("two clusters have an interval", "enough_clusters: clusters >= MIN_CLUSTERS", "clusters >= 2", f"{FEW}::test_bootstrap_intervals_need_the_least_number_of_clusters"),
    ("BCa of two clusters", "bca_interval: not enough_clusters(clusters)", "False", f"{FEW}::test_bootstrap_intervals_need_the_least_number_of_clusters"),
    ("the seed is ignored", "_draw_counts: np.random.default_rng(seed)", "np.random.default_rng(0)", "maths/test_statistics.py::test_the_seed_decides"),
    ("replicates that do not vary give a point", "percentile_interval: found.constant", "False", f"{DEGENERATE}::test_a_mean_of_equal_values_has_no_interval"),
    ("draws of other clusters in each column", "resample_ratios: np.hstack([top, bottom])", "np.hstack([top, bottom[::-1]])", f"{SLOW}::test_replicates_are_ratios_of_the_drawn_clusters"),
    ("percentiles of z for few clusters", "critical_value: clusters is None", "True", f"{SLOW}::test_expanded_percentiles_are_hesterbergs"),
    ("percentiles without √(C / (C − 1))", "critical_value: t * np.sqrt(clusters / (clusters - 1))", "t", f"{SLOW}::test_expanded_percentiles_are_hesterbergs"),
    ("bca without acceleration", "bca_interval: float((deviation ** 3).sum()) / (6 * spread ** 1.5)", "0.0", f"{SLOW}::test_bca_is_its_definition {ORACLES}::test_bootstrap_intervals_equal_scipy"),
    ("bca accelerates the other way", "bca_interval: left.mean() - left", "left - left.mean()", f"{SLOW}::test_bca_is_its_definition {ORACLES}::test_bootstrap_intervals_equal_scipy"),
    ("jackknife keeps the cluster", "jackknife_ratio: top.sum() - top", "top.sum() - 0 * top", f"{SLOW}::test_bca_is_its_definition"),
]  # fmt: skip

INTERVALS = [
    ("rows count, not clusters", "clustered_jeffreys: float(((top - share * bottom) ** 2).sum()) / total ** 2", "share * (1 - share) / total", f"{SLOW}::test_copies_of_a_row_in_its_cluster_are_no_evidence"),
    ("effective n without t", "clustered_jeffreys: (z / t) ** 2", "1.0", f"{SLOW}::test_clustered_jeffreys_is_its_definition"),
    ("beta without its half", "clustered_jeffreys: share * n + 0.5", "share * n + 1.0", f"{SLOW}::test_clustered_jeffreys_is_its_definition"),
    ("rule of three of two", "rule_of_three: 3.0 / n", "2.0 / n", f"{SLOW}::test_rule_of_three"),
]  # fmt: skip

PAIRED = [
    ("five differences have an interval", "hodges_lehmann: 2.0 ** (1 - units) > 1 - confidence", "False", f"{DEGENERATE}::test_a_few_differences_have_no_hodges_lehmann_interval"),
    ("two equal differences are certain", "hodges_lehmann: is_constant(given)", "False", f"{DEGENERATE}::test_a_few_differences_have_no_hodges_lehmann_interval"),
    ("a value is not paired with itself", "hodges_lehmann: n * (n + 1) // 2", "n * (n - 1) // 2 + 1", f"{SLOW}::test_hodges_lehmann_is_the_median_of_all_averages"),
    ("the interval is one-sided", "hodges_lehmann: special.ndtri(0.5 + confidence / 2)", "special.ndtri(confidence)", f"{SLOW}::test_the_interval_of_hodges_lehmann_inverts_the_signed_rank_test"),
    ("clusters are ignored by the signed ranks", "_cluster_inflation: (sums ** 2).sum() / (ranks ** 2).sum()", "1.0", f"{SLOW}::test_copies_within_a_cluster_leave_the_interval_of_hodges_lehmann"),
    ("cluster error without C / (C − 1)", "clustered_standard_error: len(labels) / (len(labels) - 1) * (sums ** 2).sum()", "(sums ** 2).sum()", f"{SLOW}::test_clustered_standard_error_is_its_formula"),
    ("cluster sums of raw values", "clustered_standard_error: sample - sample.mean()", "sample", f"{SLOW}::test_clustered_standard_error_is_its_formula"),
    ("effect size over the standard error", "cohen_dz: float(values.mean()) / spread", "float(values.mean()) / spread * len(values) ** 0.5", f"{SLOW}::test_effect_sizes_without_a_spread"),
]  # fmt: skip

STYLE = "maths/test_style_control.py"

REGRESSIONS = [
    ("maths/statistics/style_control.py", "style differences are absolute", "relative_difference: second - first", "np.abs(second - first)", STYLE),
    ("maths/statistics/style_control.py", "style differences are centred", "style_controlled_win_rate: column / column.std()", "(column - column.mean()) / column.std()", STYLE),
    ("evaluation/style.py", "markup in code counts", "count_styles: split_fences(text).outside", "text", STYLE),
    ("evaluation/flip.py", "effects of the exchanged pair turn", "_flip_controlled: -found['theta']", "found['theta']", "evaluation/test_verdict.py::test_a_pair_from_the_other_side_is_what_comparing_in_that_order_gives"),
    ("maths/statistics/controlled_rate.py", "refits of equal outcomes are certain", "win_rate_at_equal: len(names) == 1 or is_constant(labels)", "False", f"{DEGENERATE}::test_equal_outcomes_leave_the_length_controlled_rate_as_uncertain_as_the_rate"),
    ("evaluation/estimates.py", "a change without a case is certain", "Units.means: limits.get(name)", "(0.0, 0.0)", "evaluation/test_pairs.py::test_nothing_that_does_not_vary_is_certain"),
    ("evaluation/flip.py", "the other side's bounds are not exchanged", "_complement: 1 - rate['high']", "1 - rate['low']", "evaluation/test_verdict.py::test_a_pair_from_the_other_side_is_what_comparing_in_that_order_gives"),
    ("evaluation/flip.py", "losses keep the wins' rate", "_flip_wins: pair['loss_rate']", "pair['win_rate']", "evaluation/test_verdict.py::test_a_pair_from_the_other_side_is_what_comparing_in_that_order_gives"),
    ("maths/statistics/multiplicity.py", "q-values step down", "benjamini_hochberg: len(p_values) / rank * p_values[i]", "len(p_values) * p_values[i]", f"{SLOW}::test_q_values_by_hand"),
    ("maths/statistics/multiplicity.py", "q-values are not monotone", "benjamini_hochberg: min(smallest, len(p_values) / rank * p_values[i])", "min(1.0, len(p_values) / rank * p_values[i])", f"{SLOW}::test_q_values_by_hand"),
    ("maths/statistics/variance.py", "noise of samples counts as prompts", "split_variance: float(table.mean(axis=1).var(ddof=1)) - within / samples", "float(table.mean(axis=1).var(ddof=1))", f"{SLOW}::test_the_variance_of_prompts_and_samples_is_found"),
    ("maths/statistics/power.py", "power one-sided", "_quantiles: z(0.5 + confidence / 2)", "z(confidence)", f"{ORACLES}::test_prompts_for_a_win_rate_equal_statsmodels"),
    ("maths/statistics/logistic.py", "no prior", "fit_logistic.derivatives: observed - expected @ features - l2 * beta", "observed - expected @ features", f"{ORACLES}::test_logistic_regression_with_a_prior_equals_scikit_learn {SLOW}::test_separated_outcomes_have_a_finite_fit_with_a_prior_and_none_without"),
    ("maths/statistics/logistic.py", "weights of the rows are lost", "fit_logistic: weights * labels", "labels + 0 * weights", f"{SLOW}::test_a_fit_with_weights_is_a_fit_of_copies"),
    ("maths/statistics/controlled_rate.py", "predicted at the real lengths", "win_rate_at_equal: np.zeros_like(controlled)", "controlled", f"{SLOW}::test_wins_by_length_alone_are_no_wins_at_equal_length"),
    ("maths/statistics/controlled_rate.py", "the refits forget their draws", "win_rate_at_equal.refit: counts[:, index]", "np.ones_like(counts)[:, index]", f"{SLOW}::test_without_differences_of_length_it_is_the_win_share"),
    ("maths/statistics/controlled_rate.py", "t widens refits that are wide already", "win_rate_at_equal: critical_value(confidence, None)", "critical_value(confidence, len(names))", f"{SLOW}::test_the_interval_is_the_spread_of_refits_written_slowly"),
    ("maths/statistics/length_control.py", "lengths match by difference", "length_matched: np.abs(ratio) < limit", "ratio < limit", f"{SLOW}::test_lengths_match_within_a_tenth"),
    ("maths/statistics/bradley_terry.py", "ties are no evidence of strength", "fit_bradley_terry: won + tied", "won", f"{SLOW}::test_rao_kupper_is_its_likelihood"),
    ("maths/statistics/bradley_terry.py", "ties without their parameter", "_derivatives: 2 * total_ties / (1 - decay)", "2 * total_ties", f"{SLOW}::test_the_strengths_of_a_population_are_found"),
    ("maths/statistics/bradley_terry.py", "policies that never met are fitted", "check_connected: len(groups) > 1", "len(groups) > 9", f"{SLOW}::test_policies_that_never_met_are_named"),
    ("maths/statistics/newton.py", "steps leave the domain", "maximize_concave: step[~valid] /= 2", "step[~valid] *= 0", f"{SLOW}::test_newtons_steps_stay_in_the_domain"),
    ("maths/statistics/newton.py", "steps are never halved", "maximize_concave: slope > 1e-09", "slope > 1e300", f"{SLOW}::test_newtons_steps_do_not_oscillate"),
]  # fmt: skip

COMPARISONS = [
    ("evaluation/estimates.py", "too few prompts are called equal", "Units.means: enough_clusters(clusters)", "True", f"{FEW}::test_means_of_too_few_prompts_have_no_interval"),
    ("evaluation/pair_tables.py", "the reasons of slices are forgotten", "_reasons: isinstance(found, list)", "False", f"{FEW}::test_tables_and_sentences_say_why"),
    ("evaluation/estimates.py", "a prompt's samples are prompts", "Units.means: np.bincount(self.clusters, judged.astype(np.float64))", "np.bincount(self.clusters, known.sum(axis=1).astype(np.float64))", "evaluation/test_compare.py::test_several_samples_are_no_more_evidence_than_their_prompts"),
    ("evaluation/estimates.py", "ties are half of the decided", "win_figures: known & (signs != 0)", "known", f"{PAIRS}::test_three_win_rates_differ_in_what_a_tie_counts"),
    ("evaluation/pairs.py", "repeatability counts ties", "_within_repeatability: size > rules.tie_epsilon", "size >= rules.tie_epsilon", f"{PAIRS}::test_the_rows_within_the_repeatability_are_counted"),
    ("evaluation/pairs.py", "scorers disagree over ties too", "_disagreement: ~np.isnan(product) & (product != 0)", "~np.isnan(product)", f"{PAIRS}::test_scorers_disagree_where_they_prefer_different_policies"),
    ("evaluation/pairs.py", "lengths are left minus right", "_length: (second - first).ravel()", "(first - second).ravel()", f"{PAIRS}::test_the_length_control_is_that_of_the_estimator"),
    ("evaluation/compare.py", "Holm over one pair", "_adjust: holm([one['sign_test_p'] for one in found])", "[one['sign_test_p'] for one in found]", f"{PAIRS}::test_holm_goes_over_the_pairs_and_benjamini_hochberg_over_the_slices_of_one"),
    ("evaluation/compare.py", "strengths over the last policy", "_strengths: fitted.b[0] - fitted.b[0, 0]", "fitted.b[0] - fitted.b[0, -1]", f"{PAIRS}::test_strengths_follow_the_wins"),
    ("evaluation/response_table.py", "a prompt is always its own cluster", "build_table: prompt if cluster is None else _cluster_of(row, cluster)", "prompt", f"{PAIRS}::test_clusters_of_prompts_are_the_units"),
    ("evaluation/response_table.py", "one row with tokens is enough", "_length_unit: all((row.get('response_tokens') is not None for row in rows))", "any((row.get('response_tokens') is not None for row in rows))", f"{PAIRS}::test_one_response_without_tokens_has_all_counted_in_words"),
    ("evaluation/slices.py", "rare values are dropped", "_by_column: (small := len(counts) - len(kept)) > 0", "False", f"{PAIRS}::test_rare_values_of_a_column_are_put_together"),
]  # fmt: skip

STATISTICS = [
    *(Mutant(name, f"maths/statistics/{file}", old, new, tests)
      for file, table in (("bootstrap.py", BOOTSTRAP), ("intervals.py", INTERVALS), ("paired.py", PAIRED))
      for name, old, new, tests in table),
    *(Mutant(name, file, old, new, tests) for file, name, old, new, tests in (*REGRESSIONS, *COMPARISONS)),
]  # fmt: skip
