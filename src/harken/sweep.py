"""Run `harken sweep`: train PPO for every combination of settings and seeds, and compare the results."""

from __future__ import annotations

import gc
import hashlib
import re
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from harken.config import RunConfig
from harken.config import files as config_files
from harken.config import yaml as config_yaml
from harken.config.ppo import PPOTraining
from harken.config.stages import PipelineStage, resolve_stages
from harken.config.yaml import Settings
from harken.errors import UserError
from harken.evaluation import run_summary
from harken.evaluation.run_summary import RunSummary
from harken.explorer.frontier import Panel, Point, write_frontier
from harken.run import atomic
from harken.run.folder import RunFolder
from harken.run.manifest import config_sha256
from harken.run.terminal import show
from harken.run.tracking import say
from harken.train.launch import train

MAX_RUNS = 50
"""Larger grids need --yes, because they are probably a mistake."""
MAX_VALUE_NAME = 40
"""Maximum number of characters of one value in a folder name."""
CHANGES_REWARD = (
    *("training.reward", "data.", "training.ppo.score_clip", "training.ppo.truncated"),
    *("training.ppo.missing_eos", "training.ppo.length_penalty", "training.ppo.repetition_penalty"),
    "training.ppo.overlong",
)
"""Prefixes of keys that change the definition of the reward or the prompts."""
CHANGES_KL = ("training.ppo.reference", "training.ppo.temperature", "model_name")
"""Prefixes of keys that change the policy or reference of the KL."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of the grid. `keys` maps short names of the swept settings to their values as written."""

    folder: Path
    keys: dict[str, str]
    seed: int
    config: RunConfig

    @property
    def group(self) -> str:
        """The settings, without the seed."""
        return ", ".join(f"{key} {value}" for key, value in self.keys.items()) or "as configured"

    @property
    def finished(self) -> bool:
        """Whether the run is finished."""
        return RunFolder(self.folder).final.exists()


def sweep(
    name: str,
    over: Sequence[str],
    output: Path,
    seeds: str | None = None,
    overrides: Sequence[str] = (),
    source: Path | None = None,
    stage: str | None = None,
    *,
    yes: bool = False,
) -> int:
    """Train the grid into folders of `output`, print a table, and return how many runs failed.

    Finished runs are kept and unfinished ones resumed. A failed run is reported, and the others are still trained.
    `sweep.json` and `frontier.html` are updated after every run. Arguments as in `plan`.
    Raises UserError before training if a setting is wrong, or if the grid exceeds `MAX_RUNS` without `yes`.
    """
    runs = plan_runs(name, over, output, seeds, overrides, source, stage)
    if len(runs) > MAX_RUNS and not yes:
        raise UserError(
            f"{len(runs)} runs are more than {MAX_RUNS}",
            where="--over",
            fix="use fewer values, or --yes to run all",
        )
    say(announcement(runs, None if source is None else ppo_stage(name, source, stage).root))
    notes = cautions([parse_axis(text)[0] for text in over])
    settings = {
        "config": name,
        "from": source and str(source),
        "over": dict(map(parse_axis, over)),
        "set": [*overrides],
    }
    outcomes: list[RunSummary] = []
    for count, run in enumerate(runs, start=1):
        say(f"\n== {count}/{len(runs)} {run.folder.name}")
        outcomes.append(_train(run))
        _write_results(output, settings | {"notes": notes}, runs[:count], outcomes)
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    show(run_summary.format_run_groups(_outcomes_by_settings(runs, outcomes)))
    for run, outcome in zip(runs, outcomes, strict=True):
        if outcome.state != "completed":
            show(f"{outcome.state}: {run.folder.name}: {outcome.why}")
    for note in notes:
        show(note)
    show(f"\nfigures   {output / 'sweep.json'}")
    if len(failed) < len(runs):
        show(f"frontier  {output / 'frontier.html'}")
    return len(failed)


def plan_runs(
    name: str,
    over: Sequence[str],
    output: Path,
    seeds: str | None = None,
    overrides: Sequence[str] = (),
    source: Path | None = None,
    stage: str | None = None,
) -> list[PlannedRun]:
    """List and validate the runs of the grid. Seeds vary fastest, then the last `--over`.

    `over` has items ``key=value,value`` with keys of a PPO run; `overrides` apply to every run. `name` is a PPO run, or
    with `source` a pipeline whose PPO stage starts from the models of that finished pipeline; `stage` names the stage
    if it has several. `seeds` is ``839,840``; by default the configuration's seed. Raises UserError for invalid or
    duplicate runs.
    """
    axes = [parse_axis(text) for text in over]
    if not axes and seeds is None:
        raise UserError(
            "nothing to sweep",
            fix="name a setting and its values, as in --over training.ppo.kl_coef=0.01,0.1,1",
        )
    if repeated := {key for key, _ in axes if [k for k, _ in axes].count(key) > 1 or key == "seed"}:
        fix = "give seeds as --seeds 839,840" if "seed" in repeated else "give all its values in one --over"
        raise UserError("this key cannot be swept twice", where=f"--over {repeated.pop()}=…", fix=fix)
    load = _loader(name, source, stage)
    runs: list[PlannedRun] = []
    folders: dict[str, str] = {}
    for chosen in product(*([(key, value) for value in values] for key, values in axes)):
        for seed in [None] if seeds is None else _seeds(seeds):
            settings = [f"{key}={value}" for key, value in chosen]
            config = load([*overrides, *settings, *([] if seed is None else [f"seed={seed}"])])
            if not isinstance(config.training, PPOTraining):
                raise UserError(
                    f"only PPO runs can be swept, and this is {config.training.type!r}", where=name
                )
            keys = {_short(key): value for key, value in chosen}
            folder = output / folder_name(keys, config.seed)
            content = config_sha256(config.model_dump(mode="json", exclude={"output_dir"}))
            if content in folders:
                raise UserError(
                    f"{folders[content]} and {folder.name} are the same run",
                    where="--over",
                    fix="remove one of them",
                )
            folders[content] = folder.name
            config = config.model_copy(update={"output_dir": str(folder)})
            runs.append(PlannedRun(folder, keys, config.seed, config))
    return runs


def parse_axis(text: str) -> tuple[str, list[str]]:
    """Parse ``key=a,b`` to the key and its values as written. A comma within [] or {} belongs to a value.

    Raises UserError for any other form, and for an empty value.
    """
    key, _, values_text = text.partition("=")
    values, depth = [""], 0
    for letter in values_text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            values.append("")
        else:
            values[-1] += letter
    values = [value.strip() for value in values]
    if not key or not all(values):
        raise UserError(
            "not of the form key=value,value",
            where=f"--over {text}",
            fix="write it as in training.lr=1e-6,1e-5",
        )
    return key, values


def folder_name(keys: dict[str, str], seed: int) -> str:
    """Return a name like ``kl_coef=0.1_seed=839``, the same in every grid. Values that do not fit are hashed."""

    def safe(value: str) -> str:
        cleaned = re.sub(r"[^\w.+-]+", "-", value)
        if cleaned == value and len(value) <= MAX_VALUE_NAME:
            return value
        return f"{cleaned[:MAX_VALUE_NAME]}-{hashlib.sha256(value.encode()).hexdigest()[:6]}"

    parts = [f"{re.sub(r'[^a-z0-9_.]+', '-', key)}={safe(value)}" for key, value in keys.items()]
    return "_".join([*parts, f"seed={seed}"])


def announcement(runs: Sequence[PlannedRun], stage: Path | None) -> str:
    """Report how many runs there are and how many are finished; estimate the time of the rest from recorded runs.

    `stage` is the folder of the pipeline's own stage.
    """
    pending = [run for run in runs if not run.finished]
    text = f"sweep: {len(runs)} runs, {len(runs) - len(pending)} of them finished"
    timed = [run.folder for run in runs] + ([stage] if stage else [])
    lines = ((folder, run_summary.read_metrics(RunFolder(folder))) for folder in timed)
    folder, metrics = next(((f, m) for f, m in lines if m), (None, []))
    if folder is None or not pending:
        return text
    seconds = median(line["seconds"] for line in metrics)
    updates = [_updates(run.config) for run in pending]
    return (
        f"{text}. An update took {seconds:.1f} s in {folder}: about {_time(seconds * median(updates))} per run, "
        f"{_time(seconds * sum(updates))} in total"
    )


def cautions(keys: Sequence[str]) -> list[str]:
    """Warn about results that are not comparable between runs that differ in these keys."""
    warnings = []
    if changed := [key for key in keys if key.startswith(CHANGES_REWARD)]:
        warnings.append(f"caution: {', '.join(changed)} redefines the reward: compare judges, not rewards")
    if changed := [key for key in keys if key.startswith(CHANGES_KL)]:
        warnings.append(
            f"caution: {', '.join(changed)} changes the policy or reference of the KL: KLs are not comparable"
        )
    return warnings


def _loader(name: str, source: Path | None, stage: str | None) -> Callable[[list[str]], RunConfig]:
    """Return a function from overrides to a configuration: of the run `name`, or of a PPO stage of that pipeline."""
    if source is None:
        if stage is not None:
            raise UserError(
                "--stage names a stage of a pipeline",
                where=f"--stage {stage}",
                fix="add --from and its folder",
            )
        return lambda overrides: _load_run(name, overrides)
    config = ppo_stage(name, source, stage).config
    settings = Settings(config.model_dump(mode="json"), {(): name})

    def load(overrides: list[str]) -> RunConfig:
        changed = config_yaml.expand(config_yaml.override(settings, overrides))
        return config_files.validate_settings(RunConfig, changed.data, name)

    return load


def ppo_stage(name: str, source: Path, stage_name: str | None = None) -> PipelineStage:
    """Return the PPO stage of the pipeline `name` on the models of the finished pipeline in `source`.

    Raises UserError if it has no such stage, has several and none is called `stage_name`, or the models are missing.
    """
    stages = resolve_stages(config_files.load_pipeline(name, []), source)
    candidates = [stage for stage in stages if stage.type == "ppo" and stage_name in (None, stage.name)]
    names = ", ".join(stage.name for stage in stages if stage.type == "ppo")
    if len(candidates) != 1:
        problem = (
            f"no PPO stage is called {stage_name}" if stage_name else f"{len(candidates)} PPO stages: {names}"
        )
        fix = f"choose one with --stage: {names}" if names else "name a pipeline that has a PPO stage"
        raise UserError(problem if names else "there is no PPO stage", where=name, fix=fix)
    (ppo,) = candidates
    for stage in stages:
        if stage.name in ppo.uses and not stage.finished:
            raise UserError(
                "not a finished pipeline",
                where=f"--from {source}",
                fix=f"finish it first: {stage.output} is missing",
            )
    return ppo


def _load_run(name: str, overrides: list[str]) -> RunConfig:
    try:
        return config_files.load_run(name, overrides)
    except UserError as error:
        # For a pipeline, the error of `load_run` suggests `harken pipeline`.
        if error.fix != f"run: harken pipeline {name}":
            raise
        fix = "add the folder of a finished pipeline to sweep its PPO stage: --from outputs/demo"
        raise UserError("this is a pipeline", where=error.where, fix=fix) from None


def _seeds(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            "seeds are whole numbers", where=f"--seeds {text}", fix="write them as in --seeds 839,840"
        ) from None


def _short(key: str) -> str:
    return key.removeprefix("training.").removeprefix("ppo.")


def _updates(config: RunConfig) -> int:
    assert isinstance(config.training, PPOTraining)
    return config.training.ppo.updates


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _train(run: PlannedRun) -> RunSummary:
    """Train one run and return its outcome, or why it failed."""
    try:
        train(run.config, run.folder)
        return run_summary.summarize_run(RunFolder(run.folder))
    except UserError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001  reported below and in the exit code; the other runs still train
        traceback.print_exc()
        reason = f"{type(error).__name__}: {error}"
    finally:
        gc.collect()  # models have reference cycles: without this, the models of two runs would be in memory
    say(f"failed: {run.folder.name}: {reason}")
    return RunSummary("failed", reason, 0, {})


def _outcomes_by_settings(
    runs: Sequence[PlannedRun], outcomes: Sequence[RunSummary]
) -> list[tuple[dict[str, str], list[RunSummary]]]:
    """Group the outcomes that did not fail by settings, over all seeds."""
    groups: dict[tuple[str, ...], tuple[dict[str, str], list[RunSummary]]] = {}
    for run, outcome in zip(runs, outcomes, strict=True):
        group = groups.setdefault(tuple(run.keys.values()), (run.keys, []))
        if outcome.state != "failed":
            group[1].append(outcome)
    return list(groups.values())


def _write_results(
    output: Path, settings: dict[str, Any], runs: Sequence[PlannedRun], outcomes: Sequence[RunSummary]
) -> None:
    """Write sweep.json and frontier.html for the runs so far."""
    pairs = list(zip(runs, outcomes, strict=True))
    rows = [
        {"folder": run.folder.name, "keys": run.keys, "seed": run.seed, **asdict(outcome)}
        for run, outcome in pairs
    ]
    averages = [
        {
            "keys": keys,
            "figures": {name: asdict(mean) for name, mean in run_summary.mean_figures(group).items()},
        }
        for keys, group in _outcomes_by_settings(runs, outcomes)
    ]
    atomic.write_json(output / "sweep.json", settings | {"runs": rows, "means": averages})
    panels = []
    names = {name for outcome in outcomes for name in outcome.figures}
    judges = sorted(name for name in names if name.startswith(run_summary.JUDGE_PREFIX))
    for name, title, caption in (
        (
            run_summary.REWARD,
            "Reward",
            "Of the sampled responses, penalties included: the training objective.",
        ),
        (run_summary.HELD_OUT, "Held-out reward", "The same reward on held-out prompts."),
        *((name, name.removeprefix(run_summary.JUDGE_PREFIX), JUDGE_CAPTION) for name in judges),
    ):
        points = [
            Point(
                run.group,
                f"{run.group}, seed {run.seed}",
                outcome.figures[run_summary.KL],
                outcome.figures[name],
            )
            for run, outcome in pairs
            if {name, run_summary.KL} <= outcome.figures.keys()
        ]
        if points:
            panels.append(Panel(title, caption, tuple(points)))
    if panels:
        title = f"{Path(settings['config']).stem}: reward against KL"
        write_frontier(
            output / "frontier.html", title=title, notes=[FRONTIER_NOTE, *settings["notes"]], panels=panels
        )


JUDGE_CAPTION = (
    "A judge that the policy is not trained on. If the reward rises with the KL and this falls, the policy games the "
    "reward."
)
FRONTIER_NOTE = (
    "Each circle is a finished run. Filled circles are Pareto-optimal: no other run has as much reward with as little "
    "KL. The dashed line is the highest reward that any run reached within each KL. If rewards of responses were "
    "normally distributed, the optimum would be a straight line on this scale."
)
