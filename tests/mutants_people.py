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
    Mutant("Dawid-Skene: reliability without the prevalence", EM, "DawidSkene.reliability: np.einsum('k,rkk->r', self.prevalence, self.confusion)", "self.confusion[:, 0, 0]", f"{SKENE}::test_reliability_weights_the_classes_by_how_frequent_they_are"),
    Mutant("alpha: interval distance without its square", "maths/statistics/agreement.py", "_distances: (values[:, None] - values[None, :]) ** 2", "abs(values[:, None] - values[None, :])", f"{AGREE}::test_alpha_equals_the_package"),
    Mutant("Fleiss: chance of one category", INTERVALS, "fleiss_interval: (categories ** 2).sum(axis=1)", "(categories ** 2).max(axis=1)", f"{HABITS}::test_intervals_are_those_of_resampled_rows"),
    Mutant("Cohen: chance without the second rater", INTERVALS, "cohen_interval: np.einsum('di,di->d', tables.sum(axis=1), tables.sum(axis=2))", "(tables.sum(axis=1) ** 4).sum(axis=1)", f"{HABITS}::test_intervals_are_those_of_resampled_rows"),
    Mutant("perfect agreement is certain", INTERVALS, "_interval: rule_of_three(rows)", "0", f"{HABITS}::test_perfect_agreement_and_few_rows_are_no_point"),
    Mutant("drift: the halves overlap", RATERS, "drift_between_halves: cases[middle:]", "cases", f"{HABITS}::test_drift_is_fishers_test_of_two_halves"),
    Mutant("leaning: agreement counts", RATERS, "departures: mine != theirs", "True", f"{HABITS}::test_a_leaning_is_what_departs_from_the_others"),
]  # fmt: skip

ROWS, REPORT = "data/test_rated_rows.py", "data/test_rater_agreement.py"
READ, SCALE, FIGURES, VERDICT = (
    "data/raters/rated_rows.py",
    "data/raters/vote_scale.py",
    "data/raters/agreement_report.py",
    "data/raters/calibration_verdict.py",
)

RELIABLE = "data/raters/reliability.py"
AGREEMENT = [
    Mutant("labels: the earlier vote stays", READ, "_last_by_rater: sorted(votes, key=lambda vote: vote.order)", "sorted(votes, key=lambda vote: vote.order, reverse=True)", f"{ROWS}::test_a_later_vote_of_a_rater_replaces_an_earlier_one"),
    Mutant("labels: strengths are verdicts", READ, "RatedRows.verdict: self.kind == 'comparisons'", "False", f"{ROWS}::test_individual_preferences_keep_their_scale_and_names"),
    Mutant("labels: 0 and 1 are guessed", SCALE, "_require_clear_numbers: layout == 'columns' and len(votes) < MIN_VOTES_FOR_SIDES", "layout == 'columns'", f"{ROWS}::test_files_that_cannot_be_read_say_how_to_mend_it"),
    Mutant("labels: the shorter response is the longer", READ, "_Reader._first_longer: len(first) > len(second)", "len(first) < len(second)", f"{REPORT}::test_the_published_kappas_of_pandalm {ROWS}::test_columns_of_raters_are_comparisons_where_there_are_two_responses"),
    Mutant("agreement: kappa of rows that one rater alone has", FIGURES, "_kappas: votes[a].keys() & votes[b].keys()", "list(votes[a].keys() & votes[b].keys())[:10]", f"{REPORT}::test_kappa_of_two_raters_is_of_the_rows_that_both_labelled"),
    Mutant("agreement: disagreement that never varies is agreement", "maths/statistics/agreement.py", "alpha_interval: value < 1", "False", f"{REPORT}::test_raters_who_always_disagree_alike_are_no_go"),
    Mutant("agreement: of many pairs the first are kept", FIGURES, "_kappas: -shared[pair]", "0", f"{REPORT}::test_of_many_raters_those_with_the_most_rows_are_listed"),
    Mutant("labels: a quoted response is a word", READ, "_Reader._side_of_text: len(same) == 1", "False", f"{ROWS}::test_responses_may_be_called_a_and_b_or_be_quoted"),
    Mutant("labels: a response that both sides have is the first", READ, "_Reader._side_of_text: len(same) == 1", "same", f"{ROWS}::test_a_text_that_both_responses_have_names_neither"),
    Mutant("labels: only the first row has responses", READ, "_Reader.__init__: _sides(rows)", "_sides(rows[:1])", f"{ROWS}::test_an_empty_first_row_hides_no_responses"),
    Mutant("labels: gold that cannot be read is not counted", READ, "_Reader._gold: number is None", "False", f"{ROWS}::test_gold_that_cannot_be_read_is_counted_and_shown"),
    Mutant("reliability: two raters are enough", RELIABLE, "rater_reliability: len(names) < MIN_RATERS", "False", f"{REPORT}::test_two_raters_or_scores_have_no_estimated_reliability"),
    Mutant("reliability: raters are mixed up", RELIABLE, "rater_reliability: rater_index[vote.rater]", "len(names) - 1 - rater_index[vote.rater]", f"{REPORT}::test_raters_of_known_reliability_are_within_their_printed_intervals"),
    Mutant("agreement: a rater is among the others", FIGURES, '_majority_of_others: vote.rater != rater', "True", f"{REPORT}::test_agreement_with_the_others_by_hand"),
    Mutant("agreement: drift of the rows is drift of the raters", FIGURES, '_rater_habits: departures(is_tie, others_tie)', "is_tie", f"{REPORT}::test_rows_that_change_are_no_drift_of_the_raters"),
    Mutant("agreement: the second side is the first", FIGURES, '_chose_first: value < 0', "value > 0", f"{REPORT}::test_a_planted_habit_is_found_in_its_rater_alone"),
    Mutant("calibration: the value decides", VERDICT, "calibration_verdict: alpha['low'] >= thresholds.alpha", "alpha['value'] >= thresholds.alpha", f"{REPORT}::test_go_and_no_go_of_a_calibration_round"),
    Mutant("calibration: failed gold goes on", VERDICT, "_rater: gold['value'] >= thresholds.gold", "True", f"{REPORT}::test_go_and_no_go_of_a_calibration_round"),
    Mutant("calibration: all rows decide", "data/raters/measure.py", "measure_raters: rated.rows[:calibration]", "rated.rows", f"{REPORT}::test_the_gate_is_an_exit_code_and_the_first_rows_decide"),
]  # fmt: skip

AGGREGATED, COMBINE = "data/test_aggregate_raters.py", "data/raters/aggregate.py"

AGGREGATION = [
    Mutant("Dawid-Skene: chosen is a class", COMBINE, "_posterior: (vote > 0) == turn", "vote < 0", f"{AGGREGATED}::test_the_side_that_the_row_prefers_does_not_decide"),
    Mutant("Dawid-Skene: a tie favours the first response", COMBINE, "_posterior: fit.posterior[:, 2] / 2", "fit.posterior[:, 2]", f"{AGGREGATED}::test_ties_are_a_class_and_count_half"),
    Mutant("votes: merged without their side", COMBINE, "_merge_votes: sign if same else -sign + 0.0", "sign", f"{AGGREGATED}::test_weights_in_the_rows"),
    Mutant("labels: the better side stays rejected", COMBINE, '_with_label: probability >= 0.5', "True", f"{AGGREGATED}::test_weights_by_name_and_by_group"),
    Mutant("weights: the group goes before the name", COMBINE, '_voter_weights: weights.get(voter.name, weights.get(voter.group, 1.0))', "weights.get(voter.group, weights.get(voter.name, 1.0))", f"{AGGREGATED}::test_weights_by_name_and_by_group"),
    Mutant("weights: a tie counts nothing", COMBINE, "_weighted_share: 0.5 + float(np.sign(v)) / 2", "float(v > 0)", f"{AGGREGATED}::test_weights_by_name_and_by_group {AGGREGATED}::test_a_tie_is_half_a_vote"),
    Mutant("gold: raters who guess have weight", COMBINE, "_gold_weights: math.log(p / (1 - p))", "p", f"{AGGREGATED}::test_weights_by_golden_rows_are_log_odds"),
    Mutant("gold: votes decide golden rows", COMBINE, '_with_label: one.gold is not None', "False", f"{AGGREGATED}::test_weights_by_golden_rows_are_log_odds"),
]  # fmt: skip

CRITERIA = [
    Mutant("criteria: without their weights", "data/raters/criteria.py", "_score: weight * number", "number", "data/test_criteria.py::test_the_weights_decide_which_response_is_better"),
    Mutant("criteria: the scale grows with the weights", "data/raters/criteria.py", "_score: total / sum(weights.values())", "total", "data/test_criteria.py::test_the_weights_decide_which_response_is_better"),
    Mutant("criteria: a missing one is 0", "data/raters/criteria.py", "_score: number is None", "False", "data/test_criteria.py::test_an_annotation_that_lacks_a_criterion_is_dropped_and_counted"),
    Mutant("criteria: the row's own score stays", "data/raters/criteria.py", "_row: column == 'individual_preference'", "False", "data/test_criteria.py::test_several_annotations_are_several_raters"),
]  # fmt: skip

PACKS, TOOL = "review/test_tool_packs.py", "review/tool_packs.py"
EXPORTS, READ = "review/test_tool_exports.py", "review/tool_exports.py"
REAL = f"{EXPORTS}::test_an_export_of_the_tool_gives_the_raters_votes"

TOOL_PACKS = [
    Mutant("packs: left and right are swapped", TOOL, "_argilla_record: shown['left']", "shown['right']", f"{PACKS}::test_a_pack_has_every_task_and_names_no_policy"),
    Mutant("packs: Argilla shows markup as HTML", TOOL, "_argilla_record: _no_markup(text)", "text", f"{PACKS}::test_markup_in_a_response_is_text_in_argilla"),
    Mutant("exports: the invisible character is an edit", READ, "_words: text.replace(WORD_JOINER, '')", "text", f"{PACKS}::test_markup_in_a_response_is_text_in_argilla"),
    Mutant("exports: a skipped annotation is a vote", READ, "_label_studio: one.get('was_cancelled')", "False", REAL),
    Mutant("exports: the first annotation stands", READ, "votes_of_raters: sorted(own, key=lambda one: one.at)", "sorted(own, key=lambda one: one.at)[::-1]", REAL),
    Mutant("exports: every account is the rater", READ, "votes_of_raters: one.account == accounts[study.by_task[one.vote['task']][0]]", "True", REAL),
    Mutant("exports: the stars of JSON_MIN are lost", READ, "_strength: isinstance(value, list)", "False", REAL),
    Mutant("exports: a draft is a response", READ, "_flat_argilla: status[user] == 'submitted'", "True", REAL),
    Mutant("exports: a record without a submitted response counts", READ, "_nested_argilla: row.get('status') == 'pending'", "False", REAL),
    Mutant("exports: an account with half of the items is the rater", READ, "_accounts: counts[0][1] < MIN_ACCOUNT_SHARE * len(pairs)", "False", f"{EXPORTS}::test_items_of_one_rater_labelled_by_several_accounts_are_refused"),
    Mutant("exports: votes in the order of the file", READ, "votes_of_raters: sorted(own, key=lambda one: one.at)", "own", f"{EXPORTS}::test_votes_come_in_order_of_time"),
    Mutant("packs: votes on edited responses count", READ, "votes_of_raters: one.vote['task'] not in edited", "True", f"{PACKS}::test_votes_on_responses_that_were_edited_in_the_tool_are_left_out"),
    Mutant("packs: only the left response is compared", READ, "_edited: [_words(shown['left']), _words(shown['right'])]", "[_words(shown['left']), _words(texts[1])]", f"{PACKS}::test_votes_on_responses_that_were_edited_in_the_tool_are_left_out"),
    Mutant("packs: a later export is another vote", "review/page.py", "_revision: standing.uuid if standing else ''", "''", f"{PACKS}::test_a_later_export_revises"),
    Mutant("packs: the same export is another vote", "review/page.py", "_revision: standing is not None", "False", f"{PACKS}::test_an_export_becomes_votes_once"),
]  # fmt: skip

CEILING = [
    Mutant("card: by rater is by label", "card/ceiling.py", "_by_rater: 0.5 + float(np.sign(mine)) / 2", "pair.label", "card/test_sections.py::test_accuracy_by_rater_is_of_that_raters_own_votes"),
    Mutant("card: a rater is among the others", "card/ceiling.py", "_by_rater: np.sign(pair.raters).sum() - np.sign(mine)", "np.sign(pair.raters).sum()", "card/test_sections.py::test_accuracy_by_rater_is_of_that_raters_own_votes"),
]  # fmt: skip

PEOPLE = [*STATISTICS, *AGREEMENT, *AGGREGATION, *CRITERIA, *TOOL_PACKS, *CEILING]
