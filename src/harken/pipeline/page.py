"""Write the page and the headline figures of runs and their evaluation; those of a pipeline from its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from harken.card.gate import failed_gate_warning
from harken.config import EvaluationConfig, PipelineConfig, RunConfig
from harken.config.stage_types import STAGE_TYPES
from harken.config.stages import PipelineStage
from harken.errors import UserError
from harken.evaluation import audit, tables, trained_prompts
from harken.evaluation.run_health import final_report, health_sentences, opening_sentence
from harken.evaluation.run_summary import read_metrics
from harken.evaluation.summary import FIX, read_summary
from harken.explorer import text_sections
from harken.explorer.build import build_report
from harken.explorer.page_inputs import PageInputs
from harken.explorer.page_training import TITLES, overlay_data
from harken.explorer.shards import write_split_page
from harken.inspection.page_tokens import all_tokens, page_tokens
from harken.inspection.unreadable import UnreadableFiles
from harken.pipeline.comparisons import comparison_numbers, comparison_sentences
from harken.pipeline.page_contents import PageContents, ShownResponses
from harken.pipeline.page_files import FileContents
from harken.pipeline.page_made import made_facts
from harken.pipeline.page_rows import checkpoint_data
from harken.pipeline.page_run import (
    frozen_weight_warnings,
    missing_metrics_warning,
    over_optimisation,
    run_facts,
    state_sentence,
)
from harken.pipeline.page_trials import trial_data
from harken.pipeline.roles import PolicyComparison, PolicyRoles, policy_roles
from harken.run import atomic, checksums, json_io
from harken.run.folder import EvaluationFolder, PipelineFolder, RunFolder
from harken.run.pipeline_record import read_pipeline
from harken.run.terminal import show

NO_EVALUATION = "Note: these folders contain no evaluation, so the page shows only training."
SPLIT_PAGE = "index.html"
"""A page with files beside it: the name that a static host shows for its folder."""


def report_pipeline(root: Path, *, split: bool = False) -> Path:
    """Write the page and `results.json` of a pipeline from its files, and print the verdict.

    The page shows every training run and the last evaluation. `split` writes a second page, in several files, beside
    that of the pipeline. Raises UserError if a stage is not finished, or a file
    is missing or damaged.
    """
    config, stages = read_pipeline(root)
    folder = PipelineFolder(root)
    before = [stage for stage in stages if stage.type != "report"]
    for stage in before:
        _require_finished(stage)
    contents = _stage_contents(root, config, stages, before)
    page = report_page(root, stages)
    if split:
        page = page.with_name(SPLIT_PAGE)
        write_page(page, page.with_suffix(".json"), contents, split=True)
    else:
        write_page(page, folder.results, contents, pipeline_config=folder.config)
    return page


def unfinished_contents(root: Path, config: PipelineConfig, stages: Sequence[PipelineStage]) -> PageContents:
    """Return what the page of a pipeline that is not finished shows: the stages that have begun, and which are missing.

    Raises UserError if a file is damaged.
    """
    before = [stage for stage in stages if stage.type != "report"]
    begun = [stage for stage in before if _has_begun(stage)]
    missing = [stage.name for stage in before if not (stage.finished and stage in begun)]
    contents = _stage_contents(root, config, stages, begun)
    warning = f"Warning: the pipeline is not finished. Not finished: {', '.join(missing)}."
    return replace(contents, warnings=[warning, *contents.warnings])


def _has_begun(stage: PipelineStage) -> bool:
    if isinstance(stage.config, EvaluationConfig):
        return EvaluationFolder(stage.root).summary.is_file()
    return RunFolder(stage.root).manifest.is_file()


def _stage_contents(
    root: Path, config: PipelineConfig, stages: Sequence[PipelineStage], shown: Sequence[PipelineStage]
) -> PageContents:
    """Return the contents of a page with the runs and the last evaluation of `shown`."""
    trained = [stage for stage in shown if isinstance(stage.config, RunConfig)]
    names = _run_names([stage for stage in stages if isinstance(stage.config, RunConfig)])
    runs = {names[stage.name]: RunFolder(stage.root) for stage in trained}
    contents = PageContents(
        title=config.title or config.name,
        name=config.name,
        path=str(root),
        runs=runs,
        kinds={names[stage.name]: stage.type for stage in trained},
        titles={
            names[stage.name]: f"{TITLES.get(stage.type, stage.type)}: {stage.name}"
            for stage in trained
            if names[stage.name] != stage.type
        },
        notice=config.notice,
        warnings=[failed_gate_warning(RunFolder(stage.root)) for stage in trained if stage.type == "reward"],
    )
    evaluations = [stage for stage in shown if isinstance(stage.config, EvaluationConfig)]
    return _with_evaluation(contents, stages, evaluations[-1], names) if evaluations else contents


def file_roles(files: FileContents) -> PolicyRoles:
    """Return the roles of response files with scores: the last policy is compared with the first."""
    names = files.policies if files.summary else []
    compared = (PolicyComparison(names[-1], names[0]),) if len(names) > 1 else ()
    return PolicyRoles({name: name for name in names}, compared)


def report_page(root: Path, stages: Sequence[PipelineStage]) -> Path:
    """Return where the page of a pipeline is: in the report stage's folder, or in one after the last stage."""
    last = stages[-1]
    if last.type == "report":
        return last.output
    return root / f"{last.number + 1:02d}_report" / STAGE_TYPES["report"].output


def _require_finished(stage: PipelineStage) -> None:
    is_evaluation = isinstance(stage.config, EvaluationConfig)
    done = EvaluationFolder(stage.root).summary.exists() if is_evaluation else stage.finished
    if not done:
        raise UserError(
            "no finished evaluation" if is_evaluation else f"stage {stage.name} is not finished",
            where=str(stage.root),
            fix="run the same `harken pipeline` with this folder again to resume it",
        )


def _run_names(stages: Sequence[PipelineStage]) -> dict[str, str]:
    """Return the name of each stage's run on the page: its type, or the stage's name where types repeat."""
    types = Counter(stage.type for stage in stages)
    names = {stage.name: stage.type if types[stage.type] == 1 else stage.name for stage in stages}
    return names if len(set(names.values())) == len(names) else {name: name for name in names}


def _with_evaluation(
    contents: PageContents,
    stages: Sequence[PipelineStage],
    evaluation: PipelineStage,
    names: Mapping[str, str],
) -> PageContents:
    """Return the contents with an evaluation. Raises UserError if it lacks one of its policies."""
    assert isinstance(evaluation.config, EvaluationConfig)
    folder = EvaluationFolder(evaluation.root)
    policies = read_summary(folder.summary)["policies"]
    generated = [name for name, one in evaluation.config.policies.items() if one.model_name is not None]
    if missing := [name for name in generated if name not in policies]:
        raise UserError(
            f"it compares {', '.join(policies)}, but not {missing[0]}", where=str(folder.summary), fix=FIX
        )
    roles = policy_roles(stages, evaluation, policies)
    compared = [replace(one, kl_of=names[one.kl_of] if one.kl_of else None) for one in roles.comparisons]
    return replace(
        contents,
        evaluation=folder,
        roles=PolicyRoles(roles.policies, tuple(compared)),
        audit_settings=evaluation.config.audit,
    )


def write_page(
    page: Path,
    figures: Path,
    contents: PageContents,
    *,
    pipeline_config: Path | None = None,
    split: bool = False,
) -> None:
    """Write the page and the headline figures, and print tables and verdict.

    `split` writes responses and the tokens of every recorded update to files beside the page.

    The folder of `pipeline_config`, a pipeline's configuration, gets new checksums of it, the figures and the page.
    """
    runs = contents.runs
    metrics = {name: read_metrics(run) for name, run in runs.items()}
    info = {name: run_facts(run) for name, run in runs.items()}
    for name, title in contents.titles.items():
        info[name]["title"] = title
    responses = ShownResponses.of(contents, metrics)
    summary, unreadable = responses.summary, responses.unreadable
    judge = next(iter(summary["judges"]), None) if summary else None
    headline = _verdict_lines(contents, responses, metrics, info, judge)
    results = tables.results(
        summary,
        roles=contents.roles.policies,
        compared=[(one.after, one.before) for one in contents.roles.comparisons],
        metrics=metrics,
        kinds=contents.kinds,
        judge=judge,
        headline=headline,
    )
    policies_of_runs = {name: run for name, run in responses.runs.items() if contents.kinds[name] == "ppo"}
    inputs = _page_inputs(contents, responses, metrics, info, headline, judge)
    if not split:
        inputs = replace(inputs, tokens=page_tokens(policies_of_runs, unreadable))
    notice = " ".join(
        part for part in (contents.notice, _leak(summary), *contents.warnings, unreadable.notice()) if part
    )
    inputs = replace(
        inputs, notice=" ".join(part for part in (notice, *frozen_weight_warnings(runs)) if part)
    )
    if pipeline_config is not None:
        # Everything has been read; the files change from here on.
        checksums.remove_checksums(pipeline_config.parent)
    page.parent.mkdir(parents=True, exist_ok=True)
    trained_on = (summary or {}).get("trained_on", {})
    atomic.write_json(figures, results | {"name": contents.name, "notice": notice, "trained_on": trained_on})
    build_report(page, inputs, write=_split_writer(policies_of_runs) if split else None)
    if pipeline_config is not None:
        checksums.write_checksums(pipeline_config.parent, [pipeline_config, figures, page])
    if summary:
        show(tables.tables(summary))
    show("\n".join([*headline, *([left_out] if (left_out := unreadable.notice()) else [])]))
    show(f"\nfigures  {figures}\nreport   {page}")


def _verdict_lines(
    contents: PageContents,
    responses: ShownResponses,
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
    info: Mapping[str, dict[str, Any]],
    judge: str | None,
) -> list[str]:
    """Collect the sentences of the verdict: of the comparison, then over-optimisation, health and states of runs.

    Without a comparison the most urgent sentence about a run comes first.
    """
    runs, summary = contents.runs, responses.summary
    headline = [*_evaluation_headline(contents, summary, metrics, judge), *responses.notes]
    states = [state_sentence(contents.run_title(name), info[name]["status"], metrics[name]) for name in runs]
    missing = [
        line
        for name in runs
        if (line := missing_metrics_warning(contents.run_title(name), info[name]["status"], metrics[name]))
    ]
    ppo = contents.of_kind("ppo")
    for name, run in ppo.items():
        lines = over_optimisation(run, metrics[name], info[name])
        headline += [_of_run(line, name) for line in lines] if len(ppo) > 1 else lines
    dtypes = {name: str(info[name]["config"].get("dtype")) for name in runs}
    for name in runs:
        headline += health_sentences(
            contents.run_title(name), contents.kinds[name], dtypes[name], metrics[name]
        )
    if summary is not None or contents.files is not None:
        return [*headline, *missing, *(line for line in states if not _is_note(line))]
    opening = opening_sentence(
        [
            (
                contents.run_title(name),
                final_report(contents.kinds[name], dtypes[name], metrics[name]),
                info[name]["status"].get("state") in ("completed", "stopped"),
            )
            for name in runs
        ]
    )
    if missing and not opening.startswith("Warning: "):
        opening = missing.pop(0)  # findings of the steps that are missing are not known
    return [opening, *sorted([*missing, *headline[1:], *states], key=_is_note), headline[0]]


def _page_inputs(
    contents: PageContents,
    responses: ShownResponses,
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
    info: Mapping[str, Mapping[str, Any]],
    headline: Sequence[str],
    judge: str | None,
) -> PageInputs:
    """Collect what the page shows, without its notice and tokens."""
    runs, summary, rows = contents.runs, responses.summary, responses.rows
    labels = [(contents.run_title(name, short=True), contents.kinds[name], metrics[name]) for name in runs]
    return PageInputs(
        title=contents.title,
        notice="",
        summary=summary,
        responses=rows,
        stage_metrics=metrics,
        stage_info=info,
        headline=headline,
        audited=audit.audit(rows, responses.baseline, contents.audit_settings) if rows else {},
        flags=audit.FLAG_MEANINGS,
        sections=page_sections(contents.of_kind("reward"), contents.evaluation),
        queues=audit.QUEUES if rows else {},
        numbers=comparison_numbers(summary, contents.roles, judge) if summary else (),
        made=made_facts(runs.values(), contents.evaluation, metrics.values(), contents.path),
        trials=trial_data(runs, contents.kinds, metrics, info),
        overlays=overlay_data(labels),
        checkpoints=checkpoint_data(responses.runs, responses.unreadable),
        reward=responses.reward,
    )


def _split_writer(runs: Mapping[str, RunFolder]) -> Callable[[Path, str, Mapping[str, Any]], Path]:
    """Return a writer of a split page. Updates are read while it writes, so what it leaves out is known at the end."""
    unreadable = UnreadableFiles()
    steps = (step.to_dict() for name, run in runs.items() for step in all_tokens(name, run, unreadable))
    return partial(write_split_page, steps=steps, late_notice=unreadable.notice)


def _is_note(line: str) -> bool:
    return not line.startswith("Warning: ")


def _evaluation_headline(
    contents: PageContents,
    summary: Mapping[str, Any] | None,
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
    judge: str | None,
) -> list[str]:
    if summary is not None:
        return comparison_sentences(summary, contents.roles, metrics, judge)
    return [NO_EVALUATION] if contents.files is None else []


def _of_run(sentence: str, name: str) -> str:
    """Name the run that a sentence is about."""
    word, colon, rest = sentence.partition(": ")
    return f"{word}: {name}: {rest}" if colon else f"{name}: {sentence}"


def _leak(summary: Mapping[str, Any] | None) -> str:
    """Return the warning that policies were trained on evaluation prompts; "" if none was."""
    if summary is None:
        return ""
    leak = trained_prompts.trained_prompts_warning(summary.get("trained_on", {}), summary["prompts"])
    return f"Warning: {leak}." if leak else ""


def page_sections(
    rewards: Mapping[str, RunFolder], evaluation: EvaluationFolder | None
) -> Sequence[dict[str, Any]]:
    """Return the page's sections on the reward models' cards and the audit, as far as their files exist."""
    cards = {
        name: checksums.read_verified_text(run.card.markdown)
        for name, run in rewards.items()
        if run.card.markdown.is_file()
    }
    found = evaluation.audit if evaluation else None
    return text_sections.text_sections(
        cards, json_io.read_object(found) if found and found.is_file() else None
    )
