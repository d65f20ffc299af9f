"""Write the page and the headline figures of runs and their evaluation; those of a pipeline from its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harken.card.gate import failed_gate_warning
from harken.card.write import read_card_file
from harken.config import EvaluationConfig, RunConfig
from harken.config.audit import AuditSettings
from harken.config.stage_types import STAGE_TYPES
from harken.config.stages import PipelineStage
from harken.errors import UserError
from harken.evaluate import audit, overoptimisation, tables, trained_prompts, verdict
from harken.evaluate.headline_numbers import headline_numbers
from harken.evaluate.run_health import health_sentences
from harken.evaluate.run_summary import read_metrics
from harken.evaluate.summary import FIX, read_data_reports, read_responses, read_summary
from harken.explorer import accounts
from harken.explorer.build import build_report
from harken.explorer.page_training import TITLES
from harken.pipeline.roles import PolicyRoles, policy_roles
from harken.run import atomic, checksums, json_io, manifest
from harken.run.config_lock import read_locked_config
from harken.run.folder import EvaluationFolder, PipelineFolder, RunFolder
from harken.run.json_io import Schema, validate
from harken.run.pipeline_record import read_pipeline
from harken.run.status import read_status
from harken.run.terminal import show

NO_EVALUATION = "Note: these folders contain no evaluation, so the page shows only training."


@dataclass(frozen=True)
class PageContents:
    """Hold what a page shows: training runs by name, and an evaluation with the roles of its policies."""

    title: str
    name: str
    """The name in `results.json`."""
    runs: Mapping[str, RunFolder]
    kinds: Mapping[str, str]
    """Training type of each run."""
    titles: Mapping[str, str] = field(default_factory=dict)
    """Title of a run on the page, where that of its type is not enough."""
    evaluation: EvaluationFolder | None = None
    roles: PolicyRoles = field(default_factory=lambda: PolicyRoles({}, ()))
    audit_settings: AuditSettings = field(default_factory=AuditSettings)
    notice: str = ""
    """Shown in `results.json` and on the page."""
    warnings: Sequence[str] = ()
    """Shown after the notice and the warning of trained prompts."""

    def of_kind(self, kind: str) -> dict[str, RunFolder]:
        """Return the runs of a training type."""
        return {name: run for name, run in self.runs.items() if self.kinds[name] == kind}


def report_pipeline(root: Path) -> Path:
    """Write the page and `results.json` of a pipeline from its files, and print the verdict.

    The page shows every training run and the last evaluation. Raises UserError if a stage is not finished, or a file
    is missing or damaged.
    """
    config, stages = read_pipeline(root)
    folder = PipelineFolder(root)
    before = [stage for stage in stages if stage.type != "report"]
    for stage in before:
        _require_finished(stage)
    trained = [stage for stage in before if isinstance(stage.config, RunConfig)]
    names = _run_names(trained)
    runs = {names[stage.name]: RunFolder(stage.root) for stage in trained}
    contents = PageContents(
        title=config.title or config.name,
        name=config.name,
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
    evaluations = [stage for stage in before if isinstance(stage.config, EvaluationConfig)]
    if evaluations:
        contents = _with_evaluation(contents, stages, evaluations[-1], names)
    write_page(report_page(root, stages), folder.results, contents, seal=folder.config)
    return report_page(root, stages)


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


def write_page(page: Path, figures: Path, contents: PageContents, *, seal: Path | None = None) -> None:
    """Write the page and the headline figures, and print tables and verdict.

    `seal` is the configuration of a pipeline, whose folder gets new checksums of it, of the figures and of the page.
    """
    runs = contents.runs
    metrics = {name: read_metrics(run) for name, run in runs.items()}
    info = {name: run_facts(run) for name, run in runs.items()}
    for name, title in contents.titles.items():
        info[name]["title"] = title
    summary, rows = None, []
    if contents.evaluation is not None:
        summary = read_summary(contents.evaluation.summary)
        rows = read_responses(contents.evaluation.responses, summary)
    judge = next(iter(summary["judges"]), None) if summary else None
    headline = _headline(summary, contents.roles, metrics, judge) if summary else [NO_EVALUATION]
    ppo = contents.of_kind("ppo")
    for name, run in ppo.items():
        found = over_optimisation(run, metrics[name], info[name])
        headline += [_of_run(line, name) for line in found] if len(ppo) > 1 else found
    for name in runs:
        kind, dtype = contents.kinds[name], str(info[name]["config"].get("dtype"))
        title_of_run = contents.titles.get(name) or TITLES.get(kind, kind)
        headline += health_sentences(title_of_run, kind, dtype, metrics[name])
    results = tables.results(
        summary,
        roles=contents.roles.policies,
        compared=[(one.after, one.before) for one in contents.roles.comparisons],
        metrics=metrics,
        kinds=contents.kinds,
        judge=judge,
        headline=headline,
    )
    notice = " ".join(part for part in (contents.notice, _leak(summary), *contents.warnings) if part)
    audited = audit.audit(rows, summary["baseline"], contents.audit_settings) if summary else {}
    sections = page_accounts(contents.of_kind("reward"), contents.evaluation)
    if seal is not None:
        checksums.remove_checksums(seal.parent)  # everything has been read; the files change from here on
    page.parent.mkdir(parents=True, exist_ok=True)
    trained_on = (summary or {}).get("trained_on", {})
    atomic.write_json(figures, results | {"name": contents.name, "notice": notice, "trained_on": trained_on})
    build_report(
        page,
        title=contents.title,
        notice=" ".join(part for part in (notice, *frozen_weight_warnings(runs)) if part),
        summary=summary,
        responses=rows,
        stage_metrics=metrics,
        stage_info=info,
        headline=headline,
        audited=audited,
        flags=audit.FLAG_MEANINGS,
        accounts=sections,
        queues=audit.QUEUES if summary else {},
        numbers=_numbers(summary, contents.roles, judge) if summary else (),
    )
    if seal is not None:
        checksums.write_checksums(seal.parent, [seal, figures, page])
    if summary:
        show(tables.tables(summary))
    show("\n".join(headline))
    show(f"\nfigures  {figures}\nreport   {page}")


def _headline(
    summary: Mapping[str, Any],
    roles: PolicyRoles,
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
    judge: str | None,
) -> list[str]:
    """Return the sentences of every comparison; a note that all of them share stands once."""
    policies = roles.policies
    if not roles.comparisons:
        return [
            f"Note: {summary['policies'][0]} is the only policy of the evaluation, so there is no comparison."
        ]
    lines: list[str] = []
    for one in roles.comparisons:
        lines += verdict.headline(
            summary,
            policies[one.first] if one.first else None,
            policies[one.before],
            policies[one.after],
            judge,
            verdict.late_kl(metrics.get(one.kl_of, ())) if one.kl_of else None,
        )
    shared = verdict.power_note(summary)
    return [*(line for line in dict.fromkeys(lines) if line != shared), shared]


def _numbers(summary: Mapping[str, Any], roles: PolicyRoles, judge: str | None) -> list[dict[str, Any]]:
    """Return the large numbers of the first comparison, or of the only policy."""
    if not roles.comparisons:
        return headline_numbers(summary, None, summary["policies"][0], judge)
    first = roles.comparisons[0]
    return headline_numbers(summary, roles.policies[first.before], roles.policies[first.after], judge)


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


def frozen_weight_warnings(stages: Mapping[str, RunFolder]) -> list[str]:
    """Return a warning for each stage whose frozen weights changed."""
    moved = {name: manifest.changed_frozen_components(run) for name, run in stages.items()}
    return [
        f"Warning: frozen weights ({', '.join(names)}) changed during the {name} stage: its figures are not reliable."
        for name, names in moved.items()
        if names
    ]


def page_accounts(
    rewards: Mapping[str, RunFolder], evaluation: EvaluationFolder | None
) -> Sequence[dict[str, Any]]:
    """Return the page's sections on the reward models' cards and the audit, as far as their files exist."""
    cards = {
        name: checksums.read_verified_text(run.card.markdown)
        for name, run in rewards.items()
        if run.card.markdown.is_file()
    }
    found = evaluation.audit if evaluation else None
    return accounts.accounts(cards, json_io.read_object(found) if found and found.is_file() else None)


def over_optimisation(
    run: RunFolder, metrics: Sequence[Mapping[str, Any]], info: dict[str, Any]
) -> list[str]:
    """Add the charts of reward and judges against KL to a PPO run's facts, and return what they say in sentences."""
    points = overoptimisation.checkpoint_points(metrics)
    curve = overoptimisation.read_best_of_n(run.best_of_n / "curve.json")
    info["charts"] = overoptimisation.charts(points, curve)
    return overoptimisation.sentences(points, curve)


def run_facts(run: RunFolder) -> dict[str, Any]:
    """Collect the facts of a run for the page: configuration, data, lineage, role table and versions.

    Raises UserError if a file is missing or damaged.
    """
    record = manifest.read_manifest(run.manifest)
    manifest.read_lineage(run.manifest)
    return {
        "config": _config(run),
        "data": read_data_reports(run.data_report),
        "lineage": record["lineage"],
        "roles": record.get("roles", []),
        "versions": manifest.recorded_versions(record),
        "status": read_status(run),
        "run": str(run.root),
        **({"card": read_card_file(run.card)} if run.card.card.is_file() else {}),
    }


class _Training(Schema):
    type: str


class _Configuration(Schema):
    training: _Training


def _config(run: RunFolder) -> dict[str, Any]:
    config = read_locked_config(run.config)
    validate(config, _Configuration, str(run.config), FIX)
    return config
