"""Mistakes for rows of docs/coverage.md that no other table breaks: a row is "met" only when its test turns red.

Each name begins with the number of the requirement.
"""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

AUDIT, COMPARE, VERDICT = (
    "evaluation/audit/test_audit.py",
    "evaluation/test_compare.py",
    "evaluation/test_verdict.py",
)
LAYOUTS, KEYS, PIPELINE = "data/test_layouts.py", "config/test_files.py", "end_to_end/test_pipeline.py"
MODES, CLOCK, DOCTOR = "train/test_ppo_modes.py", "plan/test_duration.py", "doctor/test_sabotaged_paper.py"

MODES_REF = f"{MODES}::test_a_reference_that_moves_is_the_policy_of_then"
MODES_BASE = f"{MODES}::test_another_model_may_be_the_reference"
MODES_KL = f"{MODES}::test_each_estimator_is_the_kl_penalty_of_a_token"

TABLE = [
    ("S0-02 a stage starts from the pipeline's model", "config/stages.py", "_Resolver._output: str(found.output)", "self.config.model_name", PIPELINE),
    ("S0-11 a token's numbers stand one token late", "run/credit_table.py", "_selected: zip(row, row_flags, strict=True)", "zip([row[0], *row[:-1]], row_flags, strict=True)", "inspection/test_recorded_by_training.py"),
    ("S0-26 dropped rows are not counted", "data/report.py", "DataReport.drop: self.dropped[name] += 1", "pass", LAYOUTS),
    ("S0-41 a response is missing in the table", "evaluation/suite.py", "_evaluate: write_rows(folder.responses, rows)", "write_rows(folder.responses, rows[1:])", PIPELINE),
    ("S0-44 cap hits are empty responses", "evaluation/compare.py", "_policy_figures: table.column(policy, 'cap_hit')", "table.column(policy, 'empty')", COMPARE),
    ("S0-45 a win may be by less than epsilon", "evaluation/compare.py", "_winners: stacked.max(axis=0) - epsilon", "stacked.max(axis=0)", COMPARE),
    ("S0-46 left and right of a pair are swapped", "evaluation/pairs.py", "pair_figures.difference: table.column(right, name) - table.column(left, name)", "table.column(left, name) - table.column(right, name)", COMPARE),
    ("S0-46 ties count as losses", "evaluation/estimates.py", "win_figures: int((signs < 0).sum())", "int((signs <= 0).sum())", COMPARE),
    ("S0-50 half of the rows are audited", "evaluation/audit/rows.py", "audit: texts[key_of(row)]", "next(iter(texts.values()))", AUDIT),
    ("S0-53 any high reward is a mismatch", "evaluation/audit/response.py", "flags: high and (repetitive or looping)", "high", AUDIT),
    ("S0-54 a loop is counted once too often", "maths/repetition.py", 'find_trailing_repetition: (i + 1) // period * period', "((i + 1) // period + 1) * period", AUDIT),
    ("S0-55 restatement is a share of the prompt", "evaluation/audit/response.py", "audit_response: run / len(spoken) if spoken else 0.0", "run / max(len(text.prompt_words), 1)", AUDIT),
    ("S0-60 a qualified win may be truncated", "evaluation/audit/queues.py", "_against_baseline: not found['cap_hit'] and found['repeated_4grams'] < thresholds.win_repetition", "found['repeated_4grams'] < thresholds.win_repetition", AUDIT),
    ("S0-60 beating the baseline is enough", "evaluation/audit/queues.py", "_against_baseline: limits.win_baseline_margin if name == baseline else limits.win_other_margin", "limits.win_baseline_margin if name == baseline else -1e9", AUDIT),
    ("S0-61 more truncation is called better", "evaluation/verdict.py", "_rate_sentence: {1: 'Worse', -1: 'Better', 0: 'Unclear'}", "{-1: 'Worse', 1: 'Better', 0: 'Unclear'}", VERDICT),
    ("S0-62 a reward alone is proof", "evaluation/verdict.py", "_verdict: up > 0 and real > 0", "up > 0", VERDICT),
    ("S0-62 an interval that touches 0 decides", "evaluation/verdict.py", "interval_sign: interval['low'] > 0", "interval['value'] > 0", VERDICT),
    ("S0-69 a run records no hash of its configuration", "run/manifest.py", "config_sha256: config", "{}", "run/test_manifest.py"),
    ("S1-08 a reward is not asked for", "config/rewarded_training.py", "RewardedTraining._rewarded: self.reward_model is None and not self.rewards", "False", "config/test_rewards.py"),
    ("S1-09 a random head needs no asking", "config/rewarded_training.py", "RewardModelSettings._one_source: self.random_for_debugging == bool(self.checkpoint_path)", "self.random_for_debugging and bool(self.checkpoint_path)", "test_config.py end_to_end/test_bad_input.py"),
    ("S1-10 a random reward is not stamped", "config/rewarded_training.py", "RewardedTraining.random_reward: self.reward_model is not None and self.reward_model.random_for_debugging", "False", PIPELINE),
    ("S1-32 the response is read with the prompt column", "data/parse.py", 'parse_prompt_rows.read_turns: fields.first_value(row, column)', "fields.first_value(row, next(reversed(row)))", LAYOUTS),
    ("S1-36 another default rate", "config/ppo.py", "PPOTraining: lr: Rate = 1e-06", "lr: Rate = 1e-05", KEYS),
    ("S1-37 another default clip", "config/ppo.py", "PPOSettings: clip_range: Positive = 0.2", "clip_range: Positive = 0.3", KEYS),
    ("S1-38 another default KL coefficient", "config/ppo.py", "PPOSettings: kl_coef: NonNegative = 0.1", "kl_coef: NonNegative = 0.05", KEYS),
    ("S1-40 another default limit", "config/ppo.py", "PPOSettings: max_gen_len: Size = 64", "max_gen_len: Size = 128", KEYS),
    ("S4-26 another default discount", "config/ppo.py", "PPOSettings: lam: Fraction = 0.95", "lam: Fraction = 1.0", KEYS),
    ("S1-43 other folder names", "config/stages.py", "_Resolver._stage: f'{index + 1:02d}_{stage.full_name}'", "f'{index:02d}_{stage.full_name}'", PIPELINE),
    ("S2-01 a multiple is claimed", "evaluation/verdict.py", "_kl_sentence: f'Note: {text}.'", "f'Note: {text}, twice as good.'", VERDICT),
    ("S2-10 a label's sides are swapped", "data/pair_layouts.py", 'a_b_label_reader.read: (fields.first_text(row, here[0]), fields.first_text(row, here[1]))', '(fields.first_text(row, here[1]), fields.first_text(row, here[0]))', LAYOUTS),
    ("S2-34 any KL coefficient is fine", "doctor/ppo_settings.py", "kl_coefficient: not 0.001 <= settings.kl_coef <= 1", "False", DOCTOR),
    ("S2-35 the baseline is the value of the last token", "train/ppo/targets.py", "_advantages: torch.where(first, old.values, 0.0)", "old.values", MODES),
    ("S2-35 every token trains the critic", "train/ppo/targets.py", '_advantages: first & policy_mask', 'policy_mask', MODES),
    ("S3-18 groups need not have learnt", 'train/ppo/targets.py', '_advantages: torch.where(response_mask, per_response[:, None], 0.0)', 'torch.where(response_mask, total[:, None], 0.0)', MODES),
    ("S2-36 the critic's head is that of raw scores", "train/ppo/critic.py", "build_critic: rewards.head.weight * rewards.scale", "rewards.head.weight", "train/ppo/test_critic.py"),
    ("S4-21 the reference moves at every update", "train/ppo/reference.py", 'Reference.update_if_due: updates_done % self._every == 0', "True", MODES_REF),
    ("S4-21 base is the supervised model", "train/ppo/reference.py", "load_reference: name == 'sft'", "name in ('sft', 'base')", MODES_BASE),
    ("S4-23 every estimator is k1", 'train/ppo/targets.py', '_kl_estimate: ESTIMATORS[settings.kl_estimator]', "ESTIMATORS['k1']", MODES_KL),
    ("S2-43 epochs cost nothing", "plan/duration.py", "_ppo: settings.epochs * learn", "learn", CLOCK),
    ("S2-49 the longer response is the rejected one", "data/diversity.py", 'describe_lengths: (chosen > rejected) == (pair.label > 0.5)', "(chosen < rejected) == (pair.label > 0.5)", "test_data_check.py data/test_diversity.py"),
    ("S2-55 a schedule ends an update early", 'train/ppo/kl_control.py', 'KLCoefficient.for_update: scheduled_coefficient(s.kl_control, s.kl_coef, s.kl_coef_final, number, s.updates)', 'scheduled_coefficient(s.kl_control, s.kl_coef, s.kl_coef_final, number + 1, s.updates)', "train/ppo/test_kl_control.py"),
    ("S2-75 the response begins at the last newline", "data/response_layouts.py", "text: whole.strip().partition('\\n')", "whole.strip().rpartition('\\n')", LAYOUTS),
    ("S2-77 padding is kept", "data/token_pairs.py", "_side: row.get(mask) is not None", "False", LAYOUTS),
    ("S2-93 an update that moved too far is kept", 'train/ppo/kl_control.py', 'UpdateRollback.check: restore()', 'pass', "train/ppo/test_kl_control.py"),
    ("S2-93 the budget keeps the policy outside", 'train/ppo/kl_control.py', 'KLBudget.check: restore(self._within)', 'pass', "train/ppo/test_kl_control.py"),
    ("S0-42 a judge without a value is worth 0", "evaluation/scorers.py", '_part_scores: row.scores[0].value', "row.scores[0].value or 0.0", "end_to_end/test_judges.py"),
    ("S0-42 judges score the responses of the first policy", "evaluation/scorers.py", '_part_scores: generated.rollouts[start:start + size]', 'next(iter(responses.values())).rollouts[start:start + size]', "end_to_end/test_judges.py"),
    ("S2-94 a judge's change is not paired", "train/ppo/heldout.py", 'HeldOutEvaluator._judge_metrics: self.baseline_scores.get(name, values)', "values", "train/test_best_checkpoint.py"),
    ("S2-94 a flat guard is an alarm", "health/reward_rules.py", "_hacking: name.startswith(GUARD_METRIC_PREFIX) and not fell", "False", "health/test_findings.py"),
    ("S2-94 a reward model as judge reads under the reward's adapter", "reward/build.py", "RewardLoader._source: f'{role}_{name}'", "'reward'", "end_to_end/test_judges.py"),
    ("S4-35 the coefficient stays", 'train/ppo/stage.py', 'PPOStage._rollback_or_adapt_kl: self.kl.coefficient.adapt(kl_mean, len(batch.tokens))', 'pass', "train/ppo/test_kl_control.py"),
]  # fmt: skip

COVERAGE = [Mutant(*row) for row in TABLE]
