"""Mistakes in copies of metrics, in metrics by group, in balanced rows and in checkpoints that are opened as models."""

# ruff: noqa: E501  one mistake a line reads better than a wrapped table

from mutant import Mutant

SINKS, GROUPS, BALANCE, STEPS = (
    "run/test_sinks.py",
    "train/test_sft.py train/test_reward_model.py train/dpo/test_stage.py",
    "data/test_balance.py",
    "models/test_checkpoint_folder.py",
)

# Mistake, file, what stands there, what is planted, the tests that must see it.
TABLE = [
    ("columns of the first step alone", "run/sinks.py", "metrics_as_csv: dict.fromkeys((name for row in rows for name in row))", "dict.fromkeys(rows[0])", SINKS),
    ("null is written as None", "run/sinks.py", "_cell: '' if value is None else value", "str(value)", SINKS),
    ("wandb is online by default", "config/trackers.py", "WandbSettings: mode: Literal['offline', 'online'] = 'offline'", "mode: Literal['offline', 'online'] = 'online'", SINKS),
    ("all runs have one id", "run/sinks.py", "WandbSink.__init__: str(folder).encode()", "b''", SINKS),
    ("a resumed run is a new one", "run/sinks.py", "WandbSink.__init__: 'allow'", "'never'", SINKS),
    ("steps are counted by wandb", "run/sinks.py", "WandbSink.log: self._run.log(dict(metrics), step=step)", "self._run.log(dict(metrics), step=1)", SINKS),
    ("wandb's run is not finished", "run/sinks.py", "WandbSink.close: self._run.finish()", "pass", SINKS),
    ("a missing wandb shows after training began", "run/sinks.py", "require_packages: settings.wandb is None", "True", SINKS),
    ("wandb is imported for every run", "run/sinks.py", "open_sinks: (wandb := settings.wandb) is not None", "(wandb := settings.wandb or WandbSettings(project='x')) is not None", SINKS),
    ("a sink that fails ends the run", "run/tracking.py", "_ignore_errors: return None", "raise", SINKS),
    ("NaN goes to the sinks", "run/tracking.py", "Tracker._record: _logged(sink, step, finite)", "_logged(sink, step, line)", SINKS),
    ("a group's mean is not weighted", "train/groups.py", "mean_by_group: None if weights is None else [weights[i] for i in own]", "None", GROUPS),
    ("languages are domains", "train/groups.py", "by_domain_and_language: [row.language for row in rows]", "[row.domain for row in rows]", GROUPS),
    ("ties count in a group's accuracy", "train/dpo/metrics.py", "accuracies_by_group: example.label != 0.5", "True", GROUPS),
    ("a held-out row's loss is another's", "train/sft.py", "SupervisedStage._held_out_losses: sums[row] = -float(own)", "sums[0] = -float(own)", GROUPS),
    ("as many rows as the largest group", "data/sources.py", "_chosen: min(map(len, groups.values()))", "max(map(len, groups.values()))", BALANCE),
    ("the limit is not shared", "data/sources.py", "_chosen: data.limit // len(groups)", "data.limit", BALANCE),
    ("the first rows of each group", "data/sources.py", "_chosen: seeds.permutation(len(own), seed, 'balance', name)", "range(len(own))", BALANCE),
    ("rows left out are not counted", "data/sources.py", "_chosen: report.drop_kept(report.path, 'over_balance')", "pass", BALANCE),
    ("one group is balanced", "data/sources.py", "_chosen: len(groups) < 2", "False", BALANCE),
    ("the oldest checkpoint is the newest", "run/checkpoint.py", "newest_checkpoint: steps[0]", "steps[-1]", STEPS),
    ("an adapter of another scale", "models/checkpoint_folder.py", "checkpoint_adapter_folder.build: lora['alpha']", "2 * lora['alpha']", STEPS),
    ("another start is not noticed", "models/resolve.py", "_base_of_run: base.lineage_fingerprint != started.get('fingerprint')", "False", STEPS),
]  # fmt: skip

METRICS = [Mutant(f"metrics: {name}", file, old, new, tests) for name, file, old, new, tests in TABLE]
