"""Mistakes in pipelines of named stages: order, references, rounds, gates, roles, and what stands in for what."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

STAGE_TESTS, RUNNING, ROLE_TESTS = "config/test_stages.py", "pipeline/test_run.py", "pipeline/test_roles.py"
SHAPES = "end_to_end/test_pipeline_shapes.py"

STAGES = [
    Mutant("stages: numbered from zero", "config/stages.py", "_Resolver._stage: f'{index + 1:02d}_{stage.full_name}'", "f'{index:02d}_{stage.full_name}'", f"{STAGE_TESTS}::test_folders_are_numbered_in_order"),
    Mutant("stages: the pipeline's settings win over the stage's", "config/stages.py", "_Resolver._stage: key in kind.config.model_fields and key not in keys", "key in kind.config.model_fields", f"{STAGE_TESTS}::test_a_stage_takes_the_pipelines_settings_unless_it_has_its_own"),
    Mutant("stages: every round draws the same", "config/stages.py", "_Resolver._stage: keys[key] += stage.round - 1", "pass", f"{STAGE_TESTS}::test_a_group_runs_in_rounds_with_numbered_names"),
    Mutant("stages: a column is taken for a stage", "config/stages.py", "_Resolver._replaced: own if key in _COLUMN_KEYS else self._replaced(own, (*path, key), stage, used)", "self._replaced(own, (*path, key), stage, used)", f"{STAGE_TESTS}::test_names_of_columns_may_begin_with_the_sign_of_a_reference"),
    Mutant("stages: references in lists stay as they are", "config/stages.py", "_Resolver._replaced: [self._replaced(own, (*path, i), stage, used) for i, own in enumerate(value)]", "value", f"{STAGE_TESTS}::test_a_reference_is_the_output_of_an_earlier_stage_wherever_a_name_or_path_may_stand"),
    Mutant("stages: the round before is the first", "config/stages.py", "_Resolver._previous: self._result(stage.group, stage.round - 1)", "self._result(stage.group, 1)", f"{STAGE_TESTS}::test_a_group_runs_in_rounds_with_numbered_names"),
    Mutant("stages: a round's result is its last stage", "config/stages.py", "_Resolver._result: (policies or names)[-1]", "names[-1]", f"{STAGE_TESTS}::test_a_group_runs_in_rounds_with_numbered_names"),
    Mutant("stages: a reference within a round is to the first round", "config/stages.py", "_Resolver._output: f'{name}_{stage.round}' if stage.group else name", "f'{name}_1' if stage.group else name", f"{STAGE_TESTS}::test_a_group_runs_in_rounds_with_numbered_names"),
    Mutant("stages: any output fits anywhere", "config/stages.py", "_Resolver._check_kind: wanted and gives not in wanted", "False", f"{STAGE_TESTS}::test_a_mistake_is_one_line_with_a_fix"),
    Mutant("stages: two of one name", "config/stages.py", "_Resolver.resolve: stage.full_name in names[:index]", "False", f"{STAGE_TESTS}::test_a_mistake_is_one_line_with_a_fix"),
    Mutant("stages: the report anywhere", "config/stages.py", "_Resolver._stage: type_name == 'report' and index + 1 < len(self.written)", "False", f"{STAGE_TESTS}::test_a_mistake_is_one_line_with_a_fix"),
    Mutant("stages: a gate on anything", "config/stages.py", "_Resolver._stage: 'gate' in keys and type_name == 'reward'", "'gate' in keys", f"{STAGE_TESTS}::test_a_mistake_is_one_line_with_a_fix"),
    Mutant("stages: demonstrations are called pairs", "config/stage_types.py", "output_name: isinstance(config, PairsConfig) and config.how == 'best'", "False", f"{STAGE_TESTS}::test_demonstrations_are_the_output_of_pairs_that_keep_the_best"),
    Mutant("stages: the former keys are ignored", "config/files.py", "_pipeline: _refuse_flat_stages(settings)", "pass", f"{STAGE_TESTS}::test_stages_at_the_top_level_are_refused_with_the_new_form"),
    Mutant("pipeline: a gate is never asked", "pipeline/run.py", "run_pipeline: _require_gates(stage, stages, accept_changes)", "pass", RUNNING),
    Mutant("pipeline: a gate is asked of every stage", "pipeline/run.py", "_require_gates: any((one.finished for one in stages if name in one.uses))", "False", RUNNING),
    Mutant("pipeline: the order of stages may change", "pipeline/run.py", "order_differences: shared[0] == shared[1]", "True", RUNNING),
    Mutant("pipeline: gates are locked", "pipeline/run.py", "locked_settings: _without_gates(settings['stages'])", "settings['stages']", RUNNING),
    Mutant("pipeline: no checksums without a report", "pipeline/run.py", "run_pipeline: checksums.write_checksums(output, [folder.config])", "pass", RUNNING),
    Mutant("roles: a policy is compared with the model at the beginning", "pipeline/roles.py", "policy_roles: PolicyComparison(of_stage[name], evaluated[0], first, name if direct else None)", "PolicyComparison(of_stage[name], evaluated[-1], first, name if direct else None)", ROLE_TESTS),
    Mutant("roles: the KL is to whatever was evaluated", "pipeline/roles.py", "policy_roles: name if direct else None", "name", ROLE_TESTS),
    Mutant("roles: policies that others were trained from are judged too", "pipeline/roles.py", "policy_roles: any((name in chain for chain in ancestors.values()))", "False", ROLE_TESTS),
    Mutant("roles: two policies of a type share a role", "pipeline/roles.py", "policy_roles: types[kind] == 1", "True", ROLE_TESTS),
    Mutant("doctor: what an earlier stage will make is looked for", "doctor/stages.py", "_checked: run.model_name in missing", "False", f"{SHAPES}::test_the_doctor_starts_from_the_nearest_model_that_exists"),
    Mutant("doctor: the beginning stands in for every model", "doctor/stages.py", "_trained_start: one.finished", "False", f"{SHAPES}::test_the_doctor_starts_from_the_nearest_model_that_exists"),
    Mutant("doctor: rows that do not exist are read", "doctor/stages.py", "_checked: next((missing[path] for path in paths if path in missing), None)", "None", f"{SHAPES}::test_the_doctor_leaves_out_a_stage_whose_rows_do_not_exist_yet"),
    Mutant("sweep: any PPO stage", "sweep.py", "ppo_stage: one.type == 'ppo' and wanted in (None, one.name)", "one.type == 'ppo'", f"{SHAPES}::test_a_sweep_takes_the_stage_that_is_named"),
    Mutant("compare: stages of one type are compared", "evaluation/compare_folders.py", "_compare_pipelines: others.get((stage.name, stage.type))", "next((root for (_, kind), root in others.items() if kind == stage.type), None)", f"{SHAPES}::test_pipelines_are_compared_by_the_names_of_their_stages"),
    Mutant("results: one KL for all runs", "evaluation/tables.py", "_only: known if len(known) > 1 else next(iter(known.values()), None)", "next(iter(known.values()), None)", "evaluation/test_tables.py"),
]  # fmt: skip
