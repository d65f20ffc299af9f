"""Compare two folders: the settings in which they differ, and their results, paired where prompts are shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harken.config import EvaluationConfig, RunConfig
from harken.errors import UserError
from harken.evaluation import compare, tables
from harken.evaluation.compare_probes import compare_probes
from harken.evaluation.run_summary import read_metrics, summarize_run
from harken.evaluation.settings_diff import INTENDED, MEANING, Difference, by_effect, confounding, differences
from harken.evaluation.summary import read_responses, read_scored_responses, read_summary
from harken.run import manifest
from harken.run.config_lock import read_locked_config
from harken.run.folder import EvaluationFolder, PipelineFolder, ResponsesFolder, RunFolder
from harken.run.pipeline_record import read_pipeline
from harken.run.sycophancy_folder import SycophancyFolder
from harken.run.tables import read_rows
from harken.run.terminal import columns, format_table

MAX_VALUE_WIDTH = 40
"""Characters of a setting's value in the table."""
_RESPONSES = "a folder of responses"
_SUITES = "an evaluation of sycophancy"
_UNFINISHED = "One of the evaluations is not finished, so no results are compared."
_FIX = "name the folders of two runs, two evaluations or two pipelines"


@dataclass(frozen=True)
class FolderComparison:
    """The differences of two folders of one kind. `result` is text for a terminal."""

    title: str
    found: list[Difference]
    verdict: str
    result: str

    def text(self, width: int | None = None) -> str:
        """Return all of it as text of at most `width` columns (those of the terminal)."""
        width = columns() if width is None else width
        blocks = [f"== {self.title}", _table(self.found, width), self.verdict, self.result]
        return "\n\n".join(block for block in blocks if block) + "\n"


def compare_folders(left: Path, right: Path) -> list[FolderComparison]:
    """Compare two runs, two evaluations, or two pipelines stage by stage.

    Raises UserError for one folder given twice, for folders of different kinds, and for one that is neither a run, an
    evaluation nor a pipeline.
    """
    kinds = [_kind(left), _kind(right)]
    if kinds[0] != kinds[1]:
        raise UserError(f"this is {kinds[1]}, but {left} is {kinds[0]}", where=str(right), fix=_FIX)
    if left.resolve() == right.resolve():
        raise UserError(f"this is the same folder as {left}", where=str(right), fix=_FIX)
    if kinds[0] == _SUITES:
        return [_compare_suites(SycophancyFolder(left), SycophancyFolder(right))]
    if kinds[0] == "an evaluation":
        return [_compare_evaluations(EvaluationFolder(left), EvaluationFolder(right))]
    if kinds[0] == _RESPONSES:
        return [compare_responses(ResponsesFolder(left), ResponsesFolder(right))]
    if kinds[0] != "a pipeline":
        return [_compare_runs(RunFolder(left), RunFolder(right), f"{left} and {right}")]
    return _compare_pipelines(left, right)


def _compare_pipelines(left: Path, right: Path) -> list[FolderComparison]:
    """Compare the stages that have the same name and type and have begun in both pipelines."""
    right_roots = {(stage.name, stage.type): stage.root for stage in read_pipeline(right)[1]}
    comparisons = []
    for stage in read_pipeline(left)[1]:
        left_root, right_root = stage.root, right_roots.get((stage.name, stage.type))
        if right_root is None:
            continue
        if (
            isinstance(stage.config, RunConfig)
            and RunFolder(left_root).config.exists()
            and RunFolder(right_root).config.exists()
        ):
            comparisons.append(_compare_runs(RunFolder(left_root), RunFolder(right_root), stage.name))
        sides = EvaluationFolder(left_root), EvaluationFolder(right_root)
        if isinstance(stage.config, EvaluationConfig) and all(side.summary.exists() for side in sides):
            comparisons.append(_compare_evaluations(*sides))
    if not comparisons:
        raise UserError(
            f"no stage of {left} and {right} has the same name and type and has begun in both",
            where=str(right),
            fix="name the folders of two runs or two evaluations",
        )
    return comparisons


def _kind(path: Path) -> str:
    if PipelineFolder(path).config.is_file():
        return "a pipeline"
    if RunFolder(path).config.is_file():
        config = read_locked_config(RunFolder(path).config)
        if config.get("type") in ("generate", "score"):
            return _RESPONSES
        if config.get("suite") == "sycophancy":
            return _SUITES
        if "policies" in config:
            return "an evaluation"
        if isinstance(config.get("training"), Mapping):
            return f"a run of type {config['training'].get('type')}"
    problem = "not a run, an evaluation or a pipeline" if path.is_dir() else "no such folder"
    raise UserError(problem, where=str(path), fix=_FIX)


def _compare_runs(left: RunFolder, right: RunFolder, title: str) -> FolderComparison:
    differing = differences(_run_settings(left), _run_settings(right))
    return FolderComparison(title, differing, confounding(differing), _run_results(left, right))


def _run_settings(run: RunFolder) -> dict[str, Any]:
    """Return the configuration with the manifest's fingerprints of models and data, and versions."""
    record = manifest.read_manifest(run.manifest)
    settings = {key: value for key, value in read_locked_config(run.config).items() if key != "output_dir"}
    lineage = manifest.read_lineage(run.manifest)
    return settings | {"lineage": lineage, "versions": manifest.recorded_versions(record)}


def _run_results(left: RunFolder, right: RunFolder) -> str:
    """Return the figures of both runs side by side. They are means over different prompts, so they are not paired."""
    training = read_locked_config(left.config).get("training")
    kind = training.get("type") if isinstance(training, Mapping) else None
    if kind == "ppo":
        sides = [summarize_run(run).figures for run in (left, right)]
    else:
        sides = [_last_evaluation(run) for run in (left, right)]
    names = [name for name in sides[0] if name in sides[1]]
    cells = {
        "figure": names,
        str(left.root): [f"{sides[0][name]:.4g}" for name in names],
        str(right.root): [f"{sides[1][name]:.4g}" for name in names],
        "difference": [f"{sides[1][name] - sides[0][name]:+.4g}" for name in names],
    }
    note = "Not paired and without intervals: compare the policies with harken eval before you conclude."
    return f"{format_table(cells, width=columns())}\n\n{note}" if names else ""


def _last_evaluation(run: RunFolder) -> dict[str, float]:
    """Return the held-out metrics of the last line that has any."""
    for line in reversed(read_metrics(run)):
        heldout_metrics = {
            name: value for name, value in line.items() if name.startswith("eval/") and value is not None
        }
        if heldout_metrics:
            return heldout_metrics
    return {}


def _compare_evaluations(left: EvaluationFolder, right: EvaluationFolder) -> FolderComparison:
    settings = [read_locked_config(folder.config) for folder in (left, right)]
    differing = differences(*({k: v for k, v in folder.items() if k != "output_dir"} for folder in settings))
    title = f"{left.root} and {right.root}"
    verdict = confounding(differing, intended=INTENDED)
    if not (left.summary.exists() and right.summary.exists()):
        return FolderComparison(title, differing, verdict, _UNFINISHED)
    return FolderComparison(title, differing, verdict, _paired_results(left, right, settings))


def _compare_suites(left: SycophancyFolder, right: SycophancyFolder) -> FolderComparison:
    settings = [read_locked_config(folder.config) for folder in (left, right)]
    differing = differences(*({k: v for k, v in folder.items() if k != "output_dir"} for folder in settings))
    title, verdict = f"{left.root} and {right.root}", confounding(differing, intended=INTENDED)
    if not (left.manifest.exists() and right.manifest.exists()):
        return FolderComparison(title, differing, verdict, _UNFINISHED)
    result = compare_probes(
        read_rows(left.responses), read_rows(right.responses), (str(left.root), str(right.root))
    )
    return FolderComparison(title, differing, verdict, result)


def compare_responses(left: ResponsesFolder, right: ResponsesFolder) -> FolderComparison:
    """Compare two folders of generated or scored responses: their settings, and rewards where both have them."""
    settings = [read_locked_config(folder.config) for folder in (left, right)]
    differing = differences(*settings)
    title, verdict = f"{left.root} and {right.root}", confounding(differing, intended=INTENDED)
    rows_by_side = [
        read_scored_responses(folder.responses) if folder.manifest.exists() else []
        for folder in (left, right)
    ]
    if not all(rows and all(row.get("reward") is not None for row in rows) for rows in rows_by_side):
        note = "No rewards are compared: both need a score for every response (harken score)."
        return FolderComparison(title, differing, verdict, note)
    policies = [list(dict.fromkeys(row["policy"] for row in rows)) for rows in rows_by_side]
    judges = [
        name.removeprefix("score_")
        for name in rows_by_side[0][0]
        if name.startswith("score_") and name in rows_by_side[1][0]
    ]
    blocks = []
    for left_policy, right_policy in _pairs(*policies):
        names = (f"{left_policy} ({left.root})", f"{right_policy} ({right.root})")
        shared, note = _shared_rows(rows_by_side, (left_policy, right_policy), names)
        blocks += [note] if note else []
        if shared:
            blocks.append(tables.tables(compare.compare(shared, judges=judges)).rstrip())
    empty = "No policy of one name has a response to the same prompt in both."
    return FolderComparison(title, differing, verdict, "\n\n".join(blocks) or empty)


def _paired_results(
    left: EvaluationFolder, right: EvaluationFolder, settings: Sequence[Mapping[str, Any]]
) -> str:
    """Compare the policies of the same name, on the prompts and samples that both evaluations have."""
    summaries = [read_summary(folder.summary) for folder in (left, right)]
    rows = [
        read_responses(folder.responses, summary)
        for folder, summary in zip((left, right), summaries, strict=True)
    ]
    pairs = _pairs(*(summary["policies"] for summary in summaries))
    blocks = []
    scorers = [summary.get("scorer", "reward_model") for summary in summaries]
    fingerprints = [_scorer_print(folder) for folder in settings]
    if scorers[0] != scorers[1] or fingerprints[0] != fingerprints[1]:
        blocks.append(
            "Warning: the first scorers differ, so rewards, wins and losses below compare two scales. Truncation and "
            "repetition can be compared."
        )
    for left_policy, right_policy in pairs:
        names = (f"{left_policy} ({left.root.name})", f"{right_policy} ({right.root.name})")
        if names[0] == names[1]:
            names = (f"{left_policy} ({left.root})", f"{right_policy} ({right.root})")
        shared, note = _shared_rows(rows, (left_policy, right_policy), names)
        blocks += [note] if note else []
        if not shared:
            continue
        judges = [judge for judge in summaries[0]["judges"] if judge in summaries[1]["judges"]]
        epsilon = max(summary["tie_epsilon"] for summary in summaries)
        summary = compare.compare(shared, judges=judges, tie_epsilon=epsilon, seed=_seed(settings[0]))
        blocks.append(tables.tables(summary).rstrip())
    if not pairs:
        blocks.append("No policy has the same name in both evaluations: rename the policies to pair them.")
    return "\n\n".join(blocks)


def _seed(settings: Mapping[str, Any]) -> int:
    """Return the seed of a recorded configuration, 0 where it has no valid one."""
    seed = settings.get("seed")
    return seed if type(seed) is int and seed >= 0 else 0


def _pairs(left: Sequence[str], right: Sequence[str]) -> list[tuple[str, str]]:
    """Pair policies of the same name, or the only policy of each side."""
    if len(left) == len(right) == 1:
        return [(left[0], right[0])]
    return [(name, name) for name in left if name in right]


def _scorer_print(settings: Mapping[str, Any]) -> Any:
    fingerprints = settings.get("fingerprints")
    fingerprints = fingerprints if isinstance(fingerprints, Mapping) else {}
    return fingerprints.get("reward model", settings.get("judges"))


def _shared_rows(
    rows: Sequence[Sequence[Mapping[str, Any]]], policies: tuple[str, str], names: tuple[str, str]
) -> tuple[list[dict[str, Any]], str]:
    """Return both policies' rows on shared prompts, under new names, and a sentence on what is left out.

    A prompt is shared if its id and its messages are equal.
    """
    rows_by_key = [
        {(row["prompt_id"], row["messages"], row["sample"]): row for row in side if row["policy"] == policy}
        for side, policy in zip(rows, policies, strict=True)
    ]
    shared_keys = [key for key in rows_by_key[0] if key in rows_by_key[1]]
    complete = _complete_prompts(shared_keys)
    shared_keys = [key for key in shared_keys if key[:2] in complete]
    shared = [
        {**side[key], "policy": name}
        for side, name in zip(rows_by_key, names, strict=True)
        for key in shared_keys
    ]
    return shared, _left_out(rows_by_key, names, len(complete))


def _left_out(
    keys_by_side: Sequence[Iterable[tuple[str, str, int]]], names: tuple[str, str], compared: int
) -> str:
    """Return a sentence on the prompts that are not compared; "" when both sides have the same ones."""
    prompts = [len({key[:2] for key in side}) for side in keys_by_side]
    if max(prompts) == compared:
        return ""
    counts = " and ".join(f"{name} responds to {count:,}" for name, count in zip(names, prompts, strict=True))
    return (
        f"Compared on {compared:,} shared prompts: {counts}. Prompts that only one has, that have other messages, or "
        "that have fewer shared samples than the others are left out."
    )


def _complete_prompts(keys: Sequence[tuple[str, str, int]]) -> set[tuple[str, str]]:
    """Return the prompts with the most shared samples; the comparison needs the same number for every prompt."""
    counts: dict[tuple[str, str], int] = {}
    for prompt, messages, _ in keys:
        counts[prompt, messages] = counts.get((prompt, messages), 0) + 1
    max_samples = max(counts.values(), default=0)
    return {prompt for prompt, count in counts.items() if count == max_samples}


def _table(differing: Sequence[Difference], width: int) -> str:
    """Format the differences, grouped by what they can change."""
    if not differing:
        return "no setting differs"
    blocks = []
    for effect, group in by_effect(differing).items():
        cells = {
            "setting": [difference.key for difference in group],
            "left": [_value(difference.left) for difference in group],
            "right": [_value(difference.right) for difference in group],
        }
        title = f"{effect}: {MEANING[effect]}"
        blocks.append(f"{title}\n{format_table(cells, width=width, longest=MAX_VALUE_WIDTH)}")
    return "\n\n".join(blocks)


def _value(value: Any) -> str:
    text = "–" if value is None else str(value)
    is_hash = isinstance(value, str) and len(value) == 64 and all(c in "0123456789abcdef" for c in value)
    return text[:12] if is_hash else text
