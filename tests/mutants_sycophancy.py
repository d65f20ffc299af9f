"""Mistakes in the evaluation of sycophancy, its detectors, the rewards against it, and steering."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

RATES, PROBES, SUITE = "sycophancy/test_rates.py", "sycophancy/test_probes.py", "sycophancy/test_suite.py"
DETECTORS, STEERING = "sycophancy/test_detectors.py", "sycophancy/test_steering.py"
OUTCOME = "sycophancy/test_outcome.py"
CLASSIFIED, CLASSIFIER, LOSS = (
    "data/test_classified.py",
    "train/test_classifier.py",
    "maths/test_classifier_loss.py",
)
PIPELINES = "sycophancy/test_in_pipelines.py"
PAGE = "explorer/test_sycophancy_page.py"

SYCOPHANCY = [
    Mutant("sycophancy's page: more errors are better", "pipeline/page_sycophancy.py", "_word: high < 0", "high > 0", f"{PAGE}::test_the_verdict_follows_the_intervals_of_the_rates"),
    Mutant("sycophancy's page: a difference without an interval decides", "pipeline/page_sycophancy.py", "_word: low is None or high is None or low <= 0 <= high", "low is not None and low <= 0 <= high", f"{PAGE}::test_the_verdict_follows_the_intervals_of_the_rates"),
    Mutant("sycophancy's page: turned counts probes that preferred the error before", "pipeline/page_sycophancy.py", "flags_of: row['neutral_log_odds'] <= 0 < row['log_odds']", "0 < row['log_odds']", f"{PAGE}::test_a_number_leads_to_the_probes_that_it_counts"),
    Mutant("sycophancy: the neutral log odds are not subtracted", "sycophancy/rates.py", "suite_estimates: r.log_odds - r.neutral_log_odds", "r.log_odds", f"{RATES}::test_a_policy_that_prefers_long_targets_has_no_shift"),
    Mutant("sycophancy: copies of a question count as independent", "sycophancy/rates.py", "rate: len(names) == len(hits)", "True", f"{RATES}::test_probes_of_one_question_are_not_independent"),
    Mutant("sycophancy: policies are not paired by probe", "sycophancy/rates.py", "difference: [r.id for r in before] != [r.id for r in after]", "False", f"{RATES}::test_differences_are_paired_by_probe"),
    Mutant("sycophancy: the user is never right", "sycophancy/probe.py", "Probe.user_is_right: self.suite in STUBBORNNESS", "False", f"{PROBES}::test_a_fact_becomes_probes_of_both_directions"),
    Mutant("sycophancy: agreement counts against an honest policy", "sycophancy/outcome.py", "read_outcome: agrees == user_is_right", "agrees != user_is_right", f"{OUTCOME}::test_agreement_is_honest_where_the_user_is_right"),
    Mutant("sycophancy: negation is not read", "sycophancy/outcome.py", "_stated: not _NEGATIONS.search(plain_words(clause))", "True", f"{OUTCOME}::test_what_is_stated_decides"),
    Mutant("sycophancy: doubt of its own answer counts as a correction", "sycophancy/outcome.py", "opening_agreement: _DOUBT.search(opening)", "False", f"{OUTCOME}::test_what_is_stated_decides"),
    Mutant("sycophancy: the wrong target is added", "generation/sycophancy.py", "_shard: (probe.faulty, probe.honest)", "(probe.honest, probe.faulty)", f"{SUITE}::test_log_odds_are_those_of_the_model"),
    Mutant("sycophancy: the reference has no row", "generation/sycophancy.py", "_run: config.reference == 'auto'", "False", f"{SUITE}::test_the_reference_of_an_adapter_gets_its_own_row"),
    Mutant("sycophancy: the penalty is added", "reward/sycophancy.py", "SycophancyReward.__init__: -weight", "weight", f"{DETECTORS}::test_the_reward_is_lowered_by_sycophancy_and_raised_by_honesty"),
    Mutant("sycophancy: prompts without a truth are scored", "reward/sycophancy.py", "SycophancyReward.require_details: require_known(self.detector, prompts, f'training.rewards, {self.name}')", "None", f"{DETECTORS}::test_prompts_without_a_truth_are_refused_before_the_first_response"),
    Mutant("sycophancy: contrast has the wrong sign", "sycophancy/model_detectors.py", "ContrastDetector.score: ('claim', 'reference')", "('reference', 'claim')", f"{DETECTORS}::test_contrast_is_the_likelihood_ratio_of_claim_and_reference"),
    Mutant("sycophancy: the classifier's score counts as faulty", "sycophancy/detector.py", "ClassifierDetector.score: Verdict(float(1 - p), float(p))", "Verdict(float(p), float(1 - p))", f"{DETECTORS}::test_the_classifier_is_a_reward_model_of_honesty"),
    Mutant("classifier: labels are flipped", "data/classified.py", "parse_classified_rows.read: label == meaning.positive", "label != meaning.positive", f"{CLASSIFIED}::test_the_positive_label_is_that_of_the_good_responses"),
    Mutant("classifier: the sides of a pair are swapped", "data/classified.py", "_both_sides.read: comparison.score < 0", "comparison.score > 0", f"{CLASSIFIED}::test_both_sides_of_a_pair_are_used_and_ties_are_not"),
    Mutant("classifier: 1 is taken for good", "data/labelled_texts.py", "judge_labels: numbers_are_clear and (not names) and set(counts) in ({'0', '1'}, {'-1', '1'}, {'true', 'false'})", "not names and set(counts) in ({'0', '1'}, {'-1', '1'}, {'true', 'false'})", f"{CLASSIFIED}::test_labels_that_may_mean_either_are_refused_and_the_fix_works"),
    Mutant("classifier: the log-odds have the wrong sign", "train/classifier.py", "ClassifierStage.losses: scores[0]", "-scores[0]", f"{CLASSIFIER}::test_it_learns_and_its_scores_are_log_odds_of_the_positive_label"),
    Mutant("classifier: class weights are swapped", "train/classifier.py", "ClassifierStage.losses: torch.where(labels > 0, positive, negative)", "torch.where(labels > 0, negative, positive)", f"{CLASSIFIER}::test_the_loss_of_a_step_by_hand"),
    Mutant("classifier: precision of the good responses", "train/classifier.py", "ClassifierStage._evaluate_held_out: special.expit(-log_odds)", "special.expit(log_odds)", f"{CLASSIFIER}::test_held_out_metrics_are_those_of_scikit_learn"),
    Mutant("classifier: the baseline is the positive label", "train/classifier.py", "ClassifierStage._evaluate_held_out: max(labels.mean(), 1 - labels.mean())", "labels.mean()", f"{CLASSIFIER}::test_the_baseline_of_accuracy_is_the_more_frequent_held_out_label"),
    Mutant("classifier: weights are not balanced", "maths/classifier_loss.py", "class_weights: not balanced", "balanced", f"{LOSS}::test_balanced_weights_are_scikit_learns"),
    Mutant("classifier: labels are no part of its data", "train/launch.py", "_scalar_head: load_data.lineage(config, *responses, *labels)", "load_data.lineage(config, *responses)", f"{CLASSIFIER}::test_other_labels_are_other_rows"),
    Mutant("classifier: scores are centred", "train/classifier.py", "ClassifierStage._calibrate: return 'log_odds'", "self.model.offset = 1.0", f"{CLASSIFIER}::test_it_learns_and_its_scores_are_log_odds_of_the_positive_label"),
    Mutant("classifier: its head starts as a reward model's", "train/classifier.py", "ClassifierStage.initial_deviation: 0.1 * super().initial_deviation(width)", "super().initial_deviation(width) * 5", f"{CLASSIFIER}::test_training_starts_near_even_odds"),
    Mutant("auc: ties count as lost", "maths/statistics/auc.py", "auc_interval: stats.rankdata(values)", "stats.rankdata(values, method='min')", f"{LOSS}::test_the_area_is_scikit_learns_with_ties"),
    Mutant("auc: clusters are not summed", "maths/statistics/auc.py", "auc_interval: np.bincount(index, influence) ** 2", "influence ** 2", f"{LOSS}::test_copies_of_a_cluster_add_no_information"),
    Mutant("detect: a column cluster is not read", "sycophancy/labelled.py", "_labelled: cluster or asked", "asked", f"{DETECTORS}::test_responses_of_one_cluster_are_about_one_question"),
    Mutant("detect: the question is the first turn, of the system too", "sycophancy/labelled.py", "_labelled: m.role == 'user'", "True", f"{DETECTORS}::test_rows_with_one_system_turn_are_about_different_questions"),
    Mutant("detect: a word of a faulty label counts as honest", "sycophancy/labelled.py", "_is_faulty: {'1', 'true', *NEGATIVE}", "{'1', 'true', *POSITIVE}", f"{DETECTORS}::test_a_label_may_be_a_number_a_truth_value_or_a_word"),
    Mutant("detect: a limit may leave one label", "reward/detect.py", "evaluate_detectors: require_both_labels(rows, f'{path}, {limit} questions', 'raise --limit, or choose another --seed')", "None", f"{DETECTORS}::test_a_limit_that_leaves_one_label_is_refused"),
    Mutant("sycophancy: a shorter answer is marked first", "sycophancy/outcome.py", "_stated: len(plain_words(a))", "-len(plain_words(a))", f"{OUTCOME}::test_an_answer_within_the_other_one_is_not_counted"),
    Mutant("sycophancy: punctuation of an answer ends a clause", "sycophancy/outcome.py", "_as_written: c not in gap", "True", f"{OUTCOME}::test_answers_with_punctuation_are_found"),
    Mutant("sycophancy: an answer may span two sentences", "sycophancy/outcome.py", "_as_written: c not in gap", "False", f"{OUTCOME}::test_punctuation_between_the_words_of_an_answer_keeps_them_apart"),
    Mutant("sycophancy: repeated questions are independent", "sycophancy/read.py", "_clustered: first.setdefault(plain_words(fact.question) or fact.question, fact.id)", "fact.id", f"{PROBES}::test_rows_that_repeat_a_question_are_one_cluster"),
    Mutant("sycophancy: one answer may be right and wrong", "sycophancy/read.py", "_different: same_answer(fact.truth[0], fact.claim[0])", "False", f"{PROBES}::test_rows_of_no_layout_are_refused_with_their_place"),
    Mutant("sycophancy: a steered policy is a reference", "generation/sycophancy.py", "_add_references: name not in steered_policies", "True", f"{SUITE}::test_a_steered_policy_is_not_the_reference_of_another"),
    Mutant("sycophancy: NaN counts as honest", "sycophancy/log_odds.py", "target_logprobs: not math.isfinite(value)", "False", f"{SUITE}::test_log_probabilities_that_are_not_finite_are_refused"),
    Mutant("sycophancy: rows may exceed the positions", "sycophancy/log_odds.py", "require_positions: tokens > limit", "False", f"{SUITE}::test_more_tokens_than_the_model_has_positions_are_refused"),
    Mutant("sycophancy: a NaN of a detector is a reward", "reward/sycophancy.py", "SycophancyReward.score: require_finite(self.name, rollouts, values)", "values", f"{DETECTORS}::test_a_probability_that_is_nan_is_no_reward"),
    Mutant("sycophancy: a misspelt suite takes the user for wrong", "sycophancy/detector.py", "require_known: suite not in SUITES", "False", f"{DETECTORS}::test_a_misspelt_suite_is_refused"),
    Mutant("compare: other probes of the suites are paired", "evaluation/compare_probes.py", "compare_probes: key in sides[1]", "True", f"{PIPELINES}::test_two_evaluations_of_the_suites_are_paired_by_probe"),
    Mutant("compare: the changes of the suites have the wrong sign", "evaluation/compare_probes.py", "_table: difference(before, after)", "difference(after, before)", f"{PIPELINES}::test_two_evaluations_of_the_suites_are_paired_by_probe"),
    Mutant("doctor: a detector that is not trained yet is not replaced", "doctor/stages.py", "_replace_rewards.without: part.get('model_name')", "None", f"{PIPELINES}::test_the_doctor_replaces_a_detector_that_is_not_trained_yet"),
    Mutant("plan: the model of a detector is the policy's", "plan/job.py", "_reader: shape_of(find_model(path).config)", "policy", f"{PIPELINES}::test_the_plan_counts_a_detector_of_another_size"),
    Mutant("steering: rollouts do not record it", "rollout/in_process.py", "InProcessEngine.generate: self.steering is not None", "False", f"{STEERING}::test_recorded_log_probabilities_are_those_of_the_steered_model"),
    Mutant("steering: responses are not steered", "rollout/in_process.py", "InProcessEngine.generate: steered(self.backbone, self.steering)", "steered(self.backbone, None)", f"{STEERING}::test_recorded_log_probabilities_are_those_of_the_steered_model"),
    Mutant("steering: a direction of any model is taken for its own", "sycophancy/model_detectors.py", "warn_if_fitted_elsewhere: fitted_on is None or fitted_on in ancestor_fingerprints(source)", "True", "sycophancy/test_direction.py"),
    Mutant("steering: the start of a run is another model", "models/ancestors.py", "ancestor_fingerprints: str(lineage['fingerprint'])", "''", "sycophancy/test_direction.py"),
    Mutant("steering: only one generation is known", "models/ancestors.py", "ancestor_fingerprints: waiting.append(Path(folder))", "pass", "sycophancy/test_direction.py"),
    Mutant("steering: a checkpoint's run is not found", "models/ancestors.py", "ancestor_fingerprints: [Path(source.name).expanduser(), *(link.folder for link in links)]", "[link.folder for link in links]", "sycophancy/test_direction.py"),
    Mutant("steering: another direction is taken for the same", "reward/detect.py", "_require_same: recorded[key] != value", "False", "sycophancy/test_direction.py"),
    Mutant("steering: the rows of a direction are not compared", "reward/detect.py", "write_direction: hashlib.sha256(repr(texts).encode('utf-8', 'surrogatepass')).hexdigest()", "''", "sycophancy/test_direction.py"),
    Mutant("steering: a damaged direction is kept", "reward/detect.py", "_written_direction: return None", "raise", "sycophancy/test_direction.py"),
    Mutant("steering: a direction is written into a run", "reward/detect.py", "_written_direction: require_no_results(folder, [folder / DIRECTION_FACTS])", "pass", "sycophancy/test_direction.py"),
    Mutant("steering: the hook stays", "models/steering.py", "_added: handle.remove()", "None", f"{STEERING}::test_the_layer_moves_by_strength_times_the_difference"),
    Mutant("steering: PPO trains on steered rollouts", "rollout/engine.py", "require_unsteered: steering is not None", "False", f"{STEERING}::test_training_refuses_a_steered_engine"),
]  # fmt: skip
