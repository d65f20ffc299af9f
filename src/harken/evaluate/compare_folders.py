"""Compare two folders: the settings in which they differ, and their results, paired where prompts are shared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harken.config import EvaluationConfig, RunConfig
from harken.errors import UserError
from harken.evaluate import compare, tables
from harken.evaluate.run_summary import read_metrics, summarize_run
from harken.evaluate.settings_diff import INTENDED, MEANING, Difference, by_effect, confounding, differences
from harken.evaluate.summary import read_responses, read_scored_responses, read_summary
from harken.run import manifest
from harken.run.config_lock import read_locked_config
from harken.run.folder import EvaluationFolder, PipelineFolder, ResponsesFolder, RunFolder
from harken.run.pipeline_record import read_pipeline
from harken.run.terminal import columns, format_table

MAX_VALUE_WIDTH = 40
"""Characters of a setting's value in the table."""
_RESPONSES = "a folder of responses"
_FIX = "name the folders of two runs, two evaluations or two pipelines"


@dataclass(frozen=True)
class FolderComparison:
    """Hold what two folders of one kind differ in. `result` is text for a terminal."""

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
    if kinds[0] == "an evaluation":
        return [_compare_evaluations(EvaluationFolder(left), EvaluationFolder(right))]
    if kinds[0] == _RESPONSES:
        return [compare_responses(ResponsesFolder(left), ResponsesFolder(right))]
    if kinds[0] != "a pipeline":
        return [_compare_runs(RunFolder(left), RunFolder(right), f"{left} and {right}")]
    return _compare_pipelines(left, right)


def _compare_pipelines(left: Path, right: Path) -> list[FolderComparison]:
    """Compare the stages of one name and type, as far as both have begun."""
    others = {(stage.name, stage.type): stage.root for stage in read_pipeline(right)[1]}
    found = []
    for stage in read_pipeline(left)[1]:
        one, other = stage.root, others.get((stage.name, stage.type))
        if other is None:
            continue
        if (
            isinstance(stage.config, RunConfig)
            and RunFolder(one).config.exists()
            and RunFolder(other).config.exists()
        ):
            found.append(_compare_runs(RunFolder(one), RunFolder(other), stage.name))
        sides = EvaluationFolder(one), EvaluationFolder(other)
        if isinstance(stage.config, EvaluationConfig) and all(side.summary.exists() for side in sides):
            found.append(_compare_evaluations(*sides))
    if not found:
        raise UserError(
            f"no stage of {left} and {right} has the same name and type and has begun in both",
            where=str(right),
            fix="name the folders of two runs or two evaluations",
        )
    return found


def _kind(path: Path) -> str:
    if PipelineFolder(path).config.is_file():
        return "a pipeline"
    if RunFolder(path).config.is_file():
        config = read_locked_config(RunFolder(path).config)
        if config.get("type") in ("generate", "score"):
            return _RESPONSES
        if "policies" in config:
            return "an evaluation"
        if isinstance(config.get("training"), Mapping):
            return f"a run of type {config['training'].get('type')}"
    problem = "not a run, an evaluation or a pipeline" if path.is_dir() else "no such folder"
    raise UserError(problem, where=str(path), fix=_FIX)


def _compare_runs(left: RunFolder, right: RunFolder, title: str) -> FolderComparison:
    found = differences(_run_settings(left), _run_settings(right))
    return FolderComparison(title, found, confounding(found), _run_results(left, right))


def _run_settings(run: RunFolder) -> dict[str, Any]:
    """Return the configuration with what the manifest records: fingerprints of models and data, and versions."""
    record = manifest.read_manifest(run.manifest)
    settings = {key: value for key, value in read_locked_config(run.config).items() if key != "output_dir"}
    lineage = manifest.read_lineage(run.manifest)
    return settings | {"lineage": lineage, "versions": manifest.recorded_versions(record)}


def _run_results(left: RunFolder, right: RunFolder) -> str:
    """Return the figures of both runs side by side. They are means over other prompts, so they are not paired."""
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
        found = {
            name: value for name, value in line.items() if name.startswith("eval/") and value is not None
        }
        if found:
            return found
    return {}


def _compare_evaluations(left: EvaluationFolder, right: EvaluationFolder) -> FolderComparison:
    settings = [read_locked_config(one.config) for one in (left, right)]
    found = differences(*({k: v for k, v in one.items() if k != "output_dir"} for one in settings))
    title = f"{left.root} and {right.root}"
    verdict = confounding(found, intended=INTENDED)
    if not (left.summary.exists() and right.summary.exists()):
        return FolderComparison(
            title, found, verdict, "One of the evaluations is not finished, so no results are compared."
        )
    return FolderComparison(title, found, verdict, _paired_results(left, right, settings))


def compare_responses(left: ResponsesFolder, right: ResponsesFolder) -> FolderComparison:
    """Compare two folders of generated or scored responses: their settings, and rewards where both have them."""
    settings = [read_locked_config(one.config) for one in (left, right)]
    found = differences(*settings)
    title, verdict = f"{left.root} and {right.root}", confounding(found, intended=INTENDED)
    both = [read_scored_responses(one.responses) if one.manifest.exists() else [] for one in (left, right)]
    if not all(rows and all(row.get("reward") is not None for row in rows) for rows in both):
        note = "No rewards are compared: both need a score for every response (harken score)."
        return FolderComparison(title, found, verdict, note)
    policies = [list(dict.fromkeys(row["policy"] for row in rows)) for rows in both]
    judges = [
        name.removeprefix("score_") for name in both[0][0] if name.startswith("score_") and name in both[1][0]
    ]
    blocks = []
    for before, after in _pairs(*policies):
        names = (f"{before} ({left.root})", f"{after} ({right.root})")
        shared, note = _shared_rows(both, (before, after), names)
        blocks += [note] if note else []
        if shared:
            blocks.append(tables.tables(compare.compare(shared, judges=judges)).rstrip())
    empty = "No policy of one name has a response to the same prompt in both."
    return FolderComparison(title, found, verdict, "\n\n".join(blocks) or empty)


def _paired_results(
    left: EvaluationFolder, right: EvaluationFolder, settings: Sequence[Mapping[str, Any]]
) -> str:
    """Compare each policy of one name with itself, on the prompts and samples that both evaluations have."""
    summaries = [read_summary(one.summary) for one in (left, right)]
    rows = [
        read_responses(one.responses, summary) for one, summary in zip((left, right), summaries, strict=True)
    ]
    pairs = _pairs(*(summary["policies"] for summary in summaries))
    blocks = []
    scorers = [summary.get("scorer", "reward_model") for summary in summaries]
    prints = [_scorer_print(one) for one in settings]
    if scorers[0] != scorers[1] or prints[0] != prints[1]:
        blocks.append(
            "Warning: the first scorers differ, so rewards, wins and losses below compare two scales. Truncation and "
            "repetition can be compared."
        )
    for before, after in pairs:
        names = (f"{before} ({left.root.name})", f"{after} ({right.root.name})")
        if names[0] == names[1]:
            names = (f"{before} ({left.root})", f"{after} ({right.root})")
        shared, note = _shared_rows(rows, (before, after), names)
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
    """Return the seed of a recorded configuration, 0 where it has none that can be used."""
    seed = settings.get("seed")
    return seed if type(seed) is int and seed >= 0 else 0


def _pairs(left: Sequence[str], right: Sequence[str]) -> list[tuple[str, str]]:
    """Pair policies of one name; or the only policies of both."""
    if len(left) == len(right) == 1:
        return [(left[0], right[0])]
    return [(name, name) for name in left if name in right]


def _scorer_print(settings: Mapping[str, Any]) -> Any:
    prints = settings.get("fingerprints")
    prints = prints if isinstance(prints, Mapping) else {}
    return prints.get("reward model", settings.get("judges"))


def _shared_rows(
    rows: Sequence[Sequence[Mapping[str, Any]]], policies: tuple[str, str], names: tuple[str, str]
) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of both policies to the prompts that both have, under new names, and what is left out.

    A prompt is shared if its id and its messages are equal.
    """
    keyed = [
        {(row["prompt_id"], row["messages"], row["sample"]): row for row in side if row["policy"] == policy}
        for side, policy in zip(rows, policies, strict=True)
    ]
    both = [key for key in keyed[0] if key in keyed[1]]
    complete = _complete_prompts(both)
    both = [key for key in both if key[:2] in complete]
    shared = [{**side[key], "policy": name} for side, name in zip(keyed, names, strict=True) for key in both]
    return shared, _left_out(keyed, names, len(complete))


def _left_out(keyed: Sequence[Iterable[tuple[str, str, int]]], names: tuple[str, str], compared: int) -> str:
    """Return a sentence on the prompts that are not compared; "" when both sides have the same ones."""
    prompts = [len({key[:2] for key in side}) for side in keyed]
    if max(prompts) == compared:
        return ""
    counts = " and ".join(f"{name} responds to {count:,}" for name, count in zip(names, prompts, strict=True))
    return (
        f"Compared on {compared:,} shared prompts: {counts}. Prompts that only one has, that have other messages, or "
        "that have fewer shared samples than the others are left out."
    )


def _complete_prompts(keys: Sequence[tuple[str, str, int]]) -> set[tuple[str, str]]:
    """Return the prompts with the most shared samples; the comparison needs as many of every prompt."""
    counts: dict[tuple[str, str], int] = {}
    for prompt, messages, _ in keys:
        counts[prompt, messages] = counts.get((prompt, messages), 0) + 1
    most = max(counts.values(), default=0)
    return {prompt for prompt, count in counts.items() if count == most}


def _table(found: Sequence[Difference], width: int) -> str:
    """Return the differences by what they can change."""
    if not found:
        return "no setting differs"
    blocks = []
    for effect, own in by_effect(found).items():
        cells = {
            "setting": [one.key for one in own],
            "left": [_value(one.left) for one in own],
            "right": [_value(one.right) for one in own],
        }
        title = f"{effect}: {MEANING[effect]}"
        blocks.append(f"{title}\n{format_table(cells, width=width, longest=MAX_VALUE_WIDTH)}")
    return "\n\n".join(blocks)


def _value(value: Any) -> str:
    text = "–" if value is None else str(value)
    is_hash = isinstance(value, str) and len(value) == 64 and all(c in "0123456789abcdef" for c in value)
    return text[:12] if is_hash else text
