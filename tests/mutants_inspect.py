"""Mistakes in what is recorded of every token, shown of it, and computed from it again."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

INSPECT = [
    Mutant("credit table: every number one token late", "run/credit_table.py", "_selected: zip(row, row_flags, strict=True)", "zip(row, [*row_flags[1:], row_flags[0]], strict=True)", "run/test_credit_table.py"),
    Mutant("credit table: numbers lose half their digits", "run/credit_table.py", "<module>: pa.list_(pa.float32())", "pa.list_(pa.float16())", "run/test_credit_table.py"),
    Mutant("trace: the ratio upside down", "inspection/tokens.py", "_log_ratios: new - old", "old - new", "inspection/test_tokens.py"),
    Mutant("trace: one clip for both sides", "inspection/tokens.py", "token_rows: step.settings.clip_range_high or step.settings.clip_range", "step.settings.clip_range", "inspection/test_tokens.py"),
    Mutant("trace: the worst answer called the best", "inspection/tokens.py", "select_rows: -step.rollouts[row]['reward']", "step.rollouts[row]['reward']", "inspection/test_tokens.py"),
    Mutant("trace: a token may move the cursor", "run/terminal.py", "escape_invisible.escaped: 'CZ'", "'Z'", "inspection/test_trace_table.py"),
    Mutant("replay: the configured coefficient for the recorded one", "inspection/replay_settings.py", "replay_kl_coef: ppo_settings(config).kl_coef if asked else float(step.credit[0]['kl_coefficient'])", "ppo_settings(config).kl_coef", "inspection/test_replay.py"),
    Mutant("replay: ended answers taken for cut ones", "inspection/recompute.py", "step_tensors: row['stop'] == 'length'", "row['stop'] != 'length'", "inspection/test_replay.py"),
    Mutant("replay: scores keep their recorded clip", "inspection/recompute.py", 'rescore: value = clip_score(value, settings.score_clip)', "pass", "inspection/test_replay.py"),
    Mutant("replay: scores keep their recorded weight", "inspection/recompute.py", "rescore: weight_of.get(source, recorded_weight)", "recorded_weight", "inspection/test_replay.py"),
    Mutant("replay: penalties counted twice", "inspection/recompute.py", "rescore: source not in _RULES", "True", "inspection/test_replay.py"),
    Mutant("replay: signs compared where nothing is learnt", "inspection/replay_report.py", 'sign_changes: before.targets.policy_mask & after.targets.policy_mask', 'before.targets.policy_mask | True', "inspection/test_replay.py"),
]  # fmt: skip
