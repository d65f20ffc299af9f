"""Mistakes in comparing runs, and in what is said of preference data."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

GRID, OUTCOME = "test_sweep.py::test_the_grid_in_order", "evaluation/test_run_summary.py"

SWEEP = [
    Mutant("sweep: every run has the same seed", "sweep.py", "plan_runs: [] if seed is None else [f'seed={seed}']", "[]", GRID),
    Mutant("sweep: settings for every run are dropped", "sweep.py", "plan_runs: [*overrides, *settings, *([] if seed is None else [f'seed={seed}'])]", "[*settings, *([] if seed is None else [f'seed={seed}'])]", GRID),
    Mutant("sweep: a failed run passes for a good one", "sweep.py", "sweep: return len(failed)", "return 0", "test_sweep.py::test_errors_of_any_kind_let_the_others_have_their_turn"),
    Mutant("sweep: values that look alike share a folder", "sweep.py", 'folder_name.safe: plain == value and len(value) <= MAX_VALUE_NAME', "plain", "test_sweep.py::test_a_folder_of_its_own_for_every_value"),
    Mutant("outcome: the start of a run for its end", "evaluation/run_summary.py", 'summarize_run: lines[-LATE_UPDATES:]', "lines[:LATE_UPDATES]", OUTCOME),
    Mutant("outcome: deviation for standard error", "evaluation/run_summary.py", 'mean_figures: stdev(values) / math.sqrt(len(values))', "stdev(values)", OUTCOME),
    Mutant("frontier: a twin of equal reward and more KL stands on the front", "explorer/frontier.py", "pareto: points[i].reward > last.reward", "points[i].reward >= last.reward", "explorer/test_frontier.py"),
    Mutant("diversity: the chosen side always wins", "data/diversity.py", 'describe_lengths: (chosen > rejected) == (pair.label > 0.5)', "chosen > rejected", "data/test_diversity.py"),
]  # fmt: skip
