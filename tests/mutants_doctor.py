"""Mistakes in the preflight: causes that go unnamed, faults that pass."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

EXAMINE = "doctor/test_runner.py"
SICK = "doctor/test_sabotaged_models.py::test_the_cause_is_named"
PAPERS = "doctor/test_sabotaged_paper.py::test_the_cause_is_named"

DOCTOR = [
    Mutant("doctor: a warning exits with 0", "doctor/finding.py", "<module>: 1", "0", EXAMINE),
    Mutant("doctor: a fault is told by every check that meets it", "doctor/check.py", "StageChecks._failed: known is fault", "known is None", EXAMINE),
    Mutant("doctor: the scratch folder is the run's own", "doctor/runner.py", "diagnose: kind(run, stage.output, Path(scratch), stage.info)", "kind(run, stage.output, stage.output, stage.info)", EXAMINE),
    Mutant("doctor: greedy sampling passes", "doctor/sampling.py", "sampling_is_fair: not abs(away) <= VERY_FAR", "away > VERY_FAR", f"{SICK}[an_engine_that_is_greedy]"),
    Mutant("doctor: nothing is poisoned", "doctor/sampling.py", "loss_ignores_padding.poisoned: torch.nan", "0.0", f"{SICK}[whitening_that_multiplies_by_the_mask]"),
    Mutant("doctor: the step is not split", "doctor/sampling.py", 'split_invariance: context.zero_lr_step(context.batch, targets, context.ref_logprobs, budget=1)', 'context.zero_lr_step(context.batch, targets, context.reference_logprobs)', f"{SICK}[a_loss_averaged_by_micro_batch]"),
    Mutant("doctor: frozen weights may move", "doctor/ppo_context.py", 'PPOContext.update: error.names', "[]", f"{SICK}[a_base_that_moves]"),
    Mutant("doctor: an adapter's rate for every weight", "doctor/settings.py", 'learning_rate: ADAPTER_LR if context.config.lora else FULL_LR', 'ADAPTER_LR', f"{PAPERS}[the_rate_of_an_adapter_for_every_weight]"),
    Mutant("doctor: a reward worse than a coin passes", "doctor/reward.py", "reward_accuracy: high < 0.5", "high < 0.0", f"{SICK}[a_reward_head_turned_round]"),
]  # fmt: skip
