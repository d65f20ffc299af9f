"""Mistakes in what a person reads of a run: charts, page, results, comparisons; most show in a composed run alone."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

PAGE, CHARTS = "end_to_end/test_page.py", "explorer/test_charts.py"

REPORT = [
    Mutant("page: no response is audited", "pipeline/page.py", "_page_inputs: audit.audit(rows, responses.baseline, contents.audit_settings) if rows else {}", "{}", f"{PAGE}::test_the_page_flags_responses_as_the_audit_does"),
    Mutant("page: flags have no meaning", "pipeline/page.py", '_page_inputs: audit.FLAG_MEANINGS', "{}", f"{PAGE}::test_the_page_flags_responses_as_the_audit_does"),
    Mutant("page: no versions", "pipeline/page_run.py", "run_facts: manifest.recorded_versions(record)", "record.get('versions', {})", f"{PAGE}::test_every_stage_shows_versions_lineage_roles_and_data"),
    Mutant("page: no role table", "pipeline/page_run.py", "run_facts: record.get('roles', [])", "[]", f"{PAGE}::test_every_stage_shows_versions_lineage_roles_and_data"),
    Mutant("results: pairs of one start are left out of the count", "pipeline/comparisons.py", "comparison_sentences: comparison.before in trained", "comparison.after in trained", "pipeline/test_comparisons.py"),
    Mutant("results: no pair of trained policies is named", "pipeline/comparisons.py", "_brief_sentences: not sentence.startswith(verdict.NO_DIFFERENCE)", "False", "pipeline/test_comparisons.py"),
    Mutant("results: the verdict does not know the KL", "pipeline/comparisons.py", "comparison_sentences: verdict.late_kl(metrics.get(comparison.kl_of, ())) if comparison.kl_of else None", "None", f"{PAGE}::test_the_page_and_results_agree_with_the_configuration"),
    Mutant("results: no accuracy of the reward model", "evaluation/tables.py", "results: _only(accuracies)", "None", f"{PAGE}::test_the_page_and_results_agree_with_the_configuration"),
    Mutant("evaluation: tie_epsilon is ignored", "evaluation/suite.py", "_compare: config.tie_epsilon", "0.0", f"{PAGE}::test_the_evaluation_compares_under_its_own_settings"),
    Mutant("evaluation: the seed of the intervals is ignored", "evaluation/suite.py", "_compare: config.seed", "0", f"{PAGE}::test_the_evaluation_compares_under_its_own_settings"),
    Mutant("charts: no alarm lines", "explorer/charts.py", "chart_data: [{'value': value, 'label': label} for value, label in chart.marks]", "[]", CHARTS),
    Mutant("charts: every part of the reward is a judge", "explorer/charts.py", "_family_charts: family.caption", "FAMILIES[0].caption", CHARTS),
    Mutant("charts: the judge's metric has another name", "explorer/charts.py", "<module>: 'eval/judge_'", "'eval/gold_'", f"{PAGE}::test_every_chart_shows_a_metric_that_a_run_writes"),
    Mutant("charts: a metric that nobody writes", "explorer/charts.py", "<module>: 'eval/margin'", "'eval/margins'", f"{PAGE}::test_every_chart_shows_a_metric_that_a_run_writes"),
    Mutant("training: the role table is not printed", "train/launch.py", "_train: print_roles(rows)", "pass", f"{PAGE}::test_a_run_prints_its_role_table"),
    Mutant("reward model: no mean and spread of its rewards", "train/reward_model.py", "RewardStage.step_metrics: {'reward/mean': float(scores.mean()), 'reward/std': float(scores.std())}", "{}", f"{PAGE}::test_every_chart_shows_a_metric_that_a_run_writes"),
    Mutant("verdict: the tests never disagree", "evaluation/verdict.py", "disagreement_sentence: few or signs == interval_sign(pair['reward'])", "True", "evaluation/test_verdict.py"),
    Mutant("verdict: the p is not adjusted", "evaluation/verdict.py", "disagreement_sentence: votes if pair['holm_p'] < SIGNIFICANT else 0", "votes", "evaluation/test_verdict.py"),
    Mutant("compare: a tie is half a win", "evaluation/estimates.py", "win_figures: units.rate(signs > 0, known)", "units.rate((signs + 1) / 2, known)", "evaluation/test_compare.py evaluation/test_tables.py"),
    Mutant("trace: an update that was not measured is suggested", "inspection/recorded.py", "new_logprobs_hint: row['new_logprobs'] is not None", "True", "inspection/test_trace_table.py"),
    Mutant("report: any run's policy is PPO's", "report.py", "_made_by: name in models and any((is_same_place(str(models[name]), place, folder) for place in places))", "name in models", "end_to_end/test_report.py::test_the_verdict_identifies_policies_by_their_runs"),
    Mutant("page: scorers never disagree", "explorer/page_examples.py", "_disagreements: abs(reward - score)", "0.0", "explorer/test_page_data.py"),
    Mutant("page: a response without a reward wins", "explorer/page_examples.py", "_winner: any((row['reward'] is None for row in rows))", "False", "explorer/test_page_data.py"),
    Mutant("page: the reference's log-probabilities are the policy's", "inspection/page_tokens.py", "<module>: 'logprob_reference'", "'logprob_old'", "end_to_end/test_report_anything.py::test_the_numbers_of_tokens_are_those_of_trace"),
    Mutant("page: an unfinished run is not called so", "pipeline/page_run.py", "state_sentence: state == 'completed'", "state != 'failed'", "end_to_end/test_report_anything.py::test_an_unfinished_run_is_shown_as_far_as_it_is"),
    Mutant("page: the table of runs lists equal settings", "pipeline/page_trials.py", "_varying: len(set(values.values())) > 1", "True", "end_to_end/test_report_anything.py::test_several_runs_of_one_kind_are_compared"),
    Mutant("held out: no response is kept", "train/ppo/heldout.py", "HeldOutEvaluator.measure: scored[:KEPT_RESPONSES]", "scored[:0]", "end_to_end/test_report_anything.py::test_checkpoints_have_the_held_out_responses_of_every_evaluation"),
    Mutant("bands: the KL is healthy up to the alarm", "explorer/bands.py", "<module>: _LIMITS.kl_warning", "_LIMITS.kl_unhealthy", "explorer/test_bands.py"),
    Mutant("page: an unreadable file is not named", "pipeline/page.py", "write_page: (contents.notice, _leak(summary), *contents.warnings, unreadable.notice())", "(contents.notice, _leak(summary), *contents.warnings, '')", "end_to_end/test_report_anything.py::test_a_file_that_cannot_be_read_is_left_out_with_a_notice"),
    Mutant("page: returns are values", "inspection/critic.py", "critic_data: fmean(returns)", "fmean((value for value, _ in part))", "inspection/test_critic.py"),
    Mutant("split: shards hold the first examples alone", "explorer/shards.py", "write_split_page: examples[start:start + EXAMPLES_PER_SHARD]", "examples[:EXAMPLES_PER_SHARD]", "explorer/test_split.py"),
]  # fmt: skip
