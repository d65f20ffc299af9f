"""Mistakes in the preflight: causes that go unnamed, faults that pass."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

EXAMINE = "doctor/test_examine.py"
SICK = "doctor/test_sabotaged_models.py::test_the_cause_is_named"
PAPERS = "doctor/test_sabotaged_paper.py::test_the_cause_is_named"

DOCTOR = [
    Mutant("doctor: a warning exits with 0", "doctor/finding.py", '"warning": 1,', '"warning": 0,', EXAMINE),
    Mutant("doctor: a fault is told by every check that meets it", "doctor/check.py", "if known is fault), None)", "if known is None), None)", EXAMINE),
    Mutant("doctor: the scratch folder is the run's own", "doctor/examine.py", "kind(run, output, Path(scratch), around)", "kind(run, output, output, around)", EXAMINE),
    Mutant("doctor: greedy sampling passes", "doctor/sampling.py", "if not abs(away) <= VERY_FAR:", "if away > VERY_FAR:", f"{SICK}[an_engine_that_is_greedy]"),
    Mutant("doctor: nothing is poisoned", "doctor/sampling.py", "values.masked_fill(outside, torch.nan)", "values.masked_fill(outside, 0.0)", f"{SICK}[whitening_that_multiplies_by_the_mask]"),
    Mutant("doctor: the step is not split", "doctor/sampling.py", "subject.reference_logprobs, budget=1)", "subject.reference_logprobs)", f"{SICK}[a_loss_averaged_by_micro_batch]"),
    Mutant("doctor: frozen weights may move", "doctor/ppo_subject.py", "thawed = error.names", "thawed = []", f"{SICK}[a_base_that_moves]"),
    Mutant("doctor: an adapter's rate for every weight", "doctor/settings.py", "ranges = ADAPTER if subject.config.lora else WHOLE", "ranges = ADAPTER", f"{PAPERS}[the_rate_of_an_adapter_for_every_weight]"),
    Mutant("doctor: a reward worse than a coin passes", "doctor/reward.py", "if high < 0.5:", "if high < 0.0:", f"{SICK}[a_reward_head_turned_round]"),
]  # fmt: skip
