"""Mistakes in what is recorded of every token, shown of it, and computed from it again."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutants_record import Mutant

INSPECT = [
    Mutant("credit table: every number one token late", "run/credit_table.py", "_selected: zip(row, row_flags, strict=True)", "zip(row, [*row_flags[1:], row_flags[0]], strict=True)", "run/test_credit_table.py"),
    Mutant("credit table: numbers lose half their digits", "run/credit_table.py", "<module>: pa.list_(pa.float32())", "pa.list_(pa.float16())", "run/test_credit_table.py"),
    Mutant("trace: the ratio upside down", "inspect/tokens.py", "token_rows: new - old", "old - new", "inspect/test_tokens.py"),
    Mutant("trace: one clip for both sides", "inspect/tokens.py", "token_rows: step.settings.clip_range_high or step.settings.clip_range", "step.settings.clip_range", "inspect/test_tokens.py"),
    Mutant("trace: the worst answer called the best", "inspect/tokens.py", "choose: -step.rollouts[row]['reward']", "step.rollouts[row]['reward']", "inspect/test_tokens.py"),
    Mutant("trace: a token may move the cursor", "inspect/trace_table.py", "visible.shown: 'CZ'", "'Z'", "inspect/test_trace_table.py"),
    Mutant("replay: the configured coefficient for the recorded one", "inspect/replay_settings.py", "coefficient: ppo_settings(config).kl_coef if asked else float(step.credit[0]['kl_coefficient'])", "ppo_settings(config).kl_coef", "inspect/test_replay.py"),
    Mutant("replay: ended answers taken for cut ones", "inspect/recompute.py", "step_tensors: row['stop'] == 'length'", "row['stop'] != 'length'", "inspect/test_replay.py"),
    Mutant("replay: scores keep their recorded clip", "inspect/recompute.py", "rescore: value = clipped(value, settings.score_clip)", "pass", "inspect/test_replay.py"),
    Mutant("replay: scores keep their recorded weight", "inspect/recompute.py", "rescore: weight_of.get(source, recorded_weight)", "recorded_weight", "inspect/test_replay.py"),
    Mutant("replay: penalties counted twice", "inspect/recompute.py", "rescore: source not in _RULES", "True", "inspect/test_replay.py"),
    Mutant("replay: signs compared where nothing is learnt", "inspect/replay_report.py", "sign_changes: before.assigned.learnable & after.assigned.learnable", "before.assigned.learnable | True", "inspect/test_replay.py"),
]  # fmt: skip
