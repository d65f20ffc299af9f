"""Run `harken report`: build one page from a pipeline, runs, an evaluation, a sweep, or files of responses.

A folder with `pipeline.yml` is a pipeline. A folder with `config.yml` is a run if that has a `training` section, an
evaluation if it has `policies` (of the suites of sycophancy if it has `suite`, too), and a folder of responses if
`harken generate` or `harken score` wrote it. Any other folder
stands for the runs and the evaluation directly inside it, as that of a sweep does. A file has responses.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harken.config import files as config_files
from harken.config.audit import AuditSettings
from harken.errors import UserError
from harken.evaluation.summary import read_summary
from harken.explorer.page_training import TITLES
from harken.pipeline import report_pipeline
from harken.pipeline.page import (
    SPLIT_PAGE,
    file_roles,
    report_page,
    unfinished_contents,
    write_page,
)
from harken.pipeline.page_contents import PageContents
from harken.pipeline.page_files import read_files
from harken.pipeline.page_sycophancy import write_sycophancy_page
from harken.pipeline.roles import BASE, PolicyComparison, PolicyRoles
from harken.run.config_lock import read_locked_config
from harken.run.folder import EvaluationFolder, PipelineFolder, ResponsesFolder, RunFolder
from harken.run.moved import is_same_place
from harken.run.pipeline_record import read_pipeline
from harken.run.sycophancy_folder import SycophancyFolder

PAGE = Path("05_report") / "report.html"
UNFINISHED_PAGE = "unfinished_report.html"
"""The page of a pipeline that is not finished: that of its report stage would stand for a finished stage."""
MAX_NAMES = 4
"""Names of runs in a title."""
ORDER = ("sft", "reward", "classifier", "dpo", "online_dpo", "ppo")
"""Training types in the order of a pipeline's stages."""


@dataclass
class FoundFolders:
    """Hold the runs (with their training type), evaluations, pipelines and response files in the given paths."""

    runs: list[tuple[str, RunFolder]] = field(default_factory=list)
    evaluations: list[EvaluationFolder] = field(default_factory=list)
    pipelines: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    sycophancy: list[SycophancyFolder] = field(default_factory=list)

    def add(self, other: FoundFolders) -> None:
        """Add the contents of `other`; a folder that is named twice counts once."""
        known = {run.root.resolve() for _, run in self.runs} | {
            one.root.resolve() for one in self.evaluations
        }
        self.runs += [(kind, run) for kind, run in other.runs if run.root.resolve() not in known]
        self.evaluations += [one for one in other.evaluations if one.root.resolve() not in known]
        self.pipelines += other.pipelines
        named = {file.resolve() for file in self.files}
        self.files += [file for file in other.files if file.resolve() not in named]
        suites = {folder.root.resolve() for folder in self.sycophancy}
        self.sycophancy += [one for one in other.sycophancy if one.root.resolve() not in suites]


def report(paths: Sequence[Path], output_dir: Path | None = None, *, split: bool = False) -> Path:
    """Rebuild the page of a pipeline, or build one from the runs and the evaluation, or the response files, in `paths`.

    Without an evaluation the page shows only training; without runs, only the comparison. The page is written to
    `output_dir`, by default to 05_report/ in the common parent of all named folders, and for one response file to a
    folder beside it. An unfinished pipeline is shown as far as it is, in UNFINISHED_PAGE beside its stages.
    `split` writes index.html with large parts in shards/ beside it: responses, and the tokens of every recorded update.
    Raises UserError if the paths contain no results, several evaluations, or things that do not belong on one page.
    """
    found = FoundFolders()
    for path in paths:
        found.add(_find(path))
    if found.sycophancy:
        return _sycophancy(found, paths, output_dir, split)
    if found.files:
        return _files(found, paths, output_dir, split)
    if found.pipelines:
        return _pipeline(found, paths, output_dir, split)
    _require_one_evaluation(found, paths)
    return _write((output_dir or _common_folder(paths) / PAGE.parent) / _page_name(split), found, split)


def _page_name(split: bool) -> str:
    return SPLIT_PAGE if split else PAGE.name


def _find(path: Path) -> FoundFolders:
    """Identify a folder, or else the folders directly inside it."""
    if path.is_file():
        _require_file_of_responses(path)
        return FoundFolders(files=[path])
    if not path.is_dir():
        raise UserError(
            "no such file or folder",
            where=str(path),
            fix="name a run, an evaluation, a pipeline or a file of responses",
        )
    if (found := _identify(path)) is not None:
        return found
    inside = FoundFolders()
    for child in sorted(child for child in path.iterdir() if child.is_dir()):
        if (found := _identify(child)) is not None:
            inside.add(found)
    if inside.runs or inside.evaluations:
        inside.pipelines, inside.sycophancy = [], []  # a page of runs has no place for the suites
        return inside
    if inside.pipelines:
        names = ", ".join(str(one) for one in inside.pipelines)
        raise UserError(
            f"this folder contains pipelines: {names}",
            where=str(path),
            fix=f"name one of them: harken report {inside.pipelines[0]}",
        )
    if (found := _identify(path.parent)) is not None and found.runs:
        raise UserError(
            "this folder is part of a run", where=str(path), fix=f"run: harken report {path.parent}"
        )
    raise UserError(
        "not a run, an evaluation or a pipeline, and none is directly inside",
        where=str(path),
        fix="name a folder that `harken train`, `harken eval` or `harken pipeline` wrote, or the files of responses "
        "one by one",
    )


def _identify(path: Path) -> FoundFolders | None:
    if PipelineFolder(path).config.is_file():
        return FoundFolders(pipelines=[path])
    if not RunFolder(path).config.is_file():
        return None
    config = read_locked_config(RunFolder(path).config)
    training = config.get("training")
    if isinstance(training, Mapping):
        return FoundFolders(runs=[(str(training.get("type")), RunFolder(path))])
    if config.get("suite") == "sycophancy":
        return FoundFolders(sycophancy=[SycophancyFolder(path)])
    if "policies" in config and "tie_epsilon" in config:
        return FoundFolders(evaluations=[EvaluationFolder(path)])
    responses = ResponsesFolder(path).responses
    return FoundFolders(files=[responses]) if responses.is_file() else None


def _require_file_of_responses(path: Path) -> None:
    """Raise UserError for a file that belongs to a folder which has a page of its own."""
    if path.suffix in (".yml", ".yaml"):
        raise UserError(
            "this is a configuration, not a file of responses",
            where=str(path),
            fix=f"name the folder that was written with it, such as {path.parent}",
        )


def _pipeline(found: FoundFolders, paths: Sequence[Path], output_dir: Path | None, split: bool) -> Path:
    others = [str(run.root) for _, run in found.runs] + [str(one.root) for one in found.evaluations]
    if len(set(found.pipelines)) > 1 or others:
        raise UserError(
            f"a pipeline has its own page, and cannot be combined with other folders: "
            f"{', '.join(others or map(str, found.pipelines))}",
            where=str(found.pipelines[0]),
            fix=f"run: harken report {found.pipelines[0]}",
        )
    root = found.pipelines[0]
    config, stages = read_pipeline(root)
    if output_dir is not None:
        raise UserError(
            f"the page of a pipeline is written to {report_page(root, stages)}",
            where="--output-dir",
            fix="remove this option",
        )
    unfinished = [stage for stage in stages if stage.type != "report" and not stage.finished]
    begun = [stage for stage in stages if stage.root.is_dir() and RunFolder(stage.root).config.is_file()]
    if not unfinished or not begun:
        return report_pipeline(root, split=split)
    page = root / UNFINISHED_PAGE
    write_page(page, page.with_suffix(".json"), unfinished_contents(root, config, stages), split=split)
    return page


def _sycophancy(found: FoundFolders, paths: Sequence[Path], output_dir: Path | None, split: bool) -> Path:
    """Write the page of an evaluation of the suites of sycophancy, which stands alone."""
    others = [
        *(str(run.root) for _, run in found.runs),
        *(str(one.root) for one in found.evaluations),
        *(str(one.root) for one in found.sycophancy[1:]),
        *map(str, [*found.pipelines, *found.files]),
    ]
    folder = found.sycophancy[0]
    if others:
        raise UserError(
            f"the suites of sycophancy have a page of their own, and cannot be combined with {', '.join(others)}",
            where=str(folder.root),
            fix=f"run: harken report {folder.root}",
        )
    if not folder.results.is_file():
        raise UserError(
            "this evaluation is not finished",
            where=str(folder.root),
            fix="run the same `harken eval --suite sycophancy` with this --output-dir again to resume it",
        )
    page = (output_dir or folder.root / PAGE.parent) / _page_name(split)
    return write_sycophancy_page(page, folder, split=split)


def _files(found: FoundFolders, paths: Sequence[Path], output_dir: Path | None, split: bool) -> Path:
    others = [str(run.root) for _, run in found.runs] + [
        *(str(one.root) for one in found.evaluations),
        *map(str, found.pipelines),
    ]
    if others:
        raise UserError(
            f"a file of responses and other results do not belong on one page: {', '.join(others)}",
            where=str(found.files[0]),
            fix=f"run: harken report {found.files[0]}",
        )
    files = read_files(found.files)
    title = ", ".join(files.policies)
    contents = PageContents(
        title=title,
        name=title,
        runs={},
        kinds={},
        path=", ".join(map(str, paths)),
        files=files,
        roles=file_roles(files),
    )
    if output_dir is None:
        (first, *more) = found.files
        output_dir = _common_folder(paths) / PAGE.parent if more else first.with_name(f"{first.stem}_report")
    page = output_dir / _page_name(split)
    write_page(page, page.with_name(PipelineFolder(page.parent).results.name), contents, split=split)
    return page


def _require_one_evaluation(found: FoundFolders, paths: Sequence[Path]) -> None:
    """Raise UserError for several evaluations, and for one that is not finished."""
    where = ", ".join(map(str, paths))
    if len(found.evaluations) > 1:
        names = ", ".join(str(one.root) for one in found.evaluations)
        raise UserError(
            f"{len(found.evaluations)} evaluations: {names}",
            where=where,
            fix="name the runs and the one evaluation that belong together",
        )
    for one in found.evaluations:
        if not one.summary.is_file():
            raise UserError(
                "this evaluation is not finished",
                where=str(one.root),
                fix="run the same `harken eval` with this --output-dir again to resume it",
            )


def _common_folder(paths: Sequence[Path]) -> Path:
    if len(paths) == 1:
        return paths[0] if paths[0].is_dir() else paths[0].parent
    common = Path(os.path.commonpath([path.resolve() for path in paths]))
    return Path(os.path.relpath(common)) if common.is_relative_to(Path.cwd()) else common


def _write(page: Path, found: FoundFolders, split: bool) -> Path:
    order = sorted(found.runs, key=lambda one: ORDER.index(one[0]) if one[0] in ORDER else len(ORDER))
    often = Counter(kind for kind, _ in order)
    labels = _labels([run.root for _, run in order])
    named = [
        (kind if often[kind] == 1 else label, kind, run)
        for (kind, run), label in zip(order, labels, strict=True)
    ]
    evaluation = found.evaluations[0] if found.evaluations else None
    summary = read_summary(evaluation.summary) if evaluation else None
    title = ", ".join(summary["policies"]) if summary else _title([name for name, _, _ in named])
    contents = PageContents(
        title=title,
        name=title,
        runs={name: run for name, _, run in named},
        kinds={name: kind for name, kind, _ in named},
        titles={name: f"{TITLES.get(kind, kind)}: {name}" for name, kind, _ in named if often[kind] > 1},
        path=str(_common_folder([run.root for _, run in order] + [one.root for one in found.evaluations])),
        evaluation=evaluation,
    )
    if evaluation and summary:
        models = read_locked_config(evaluation.config).get("policies")
        models = models if isinstance(models, Mapping) else {}
        contents = replace(
            contents,
            roles=_roles(summary, models, dict(order), evaluation.root),
            audit_settings=_audit_settings(found),
        )
    write_page(page, page.with_name(PipelineFolder(page.parent).results.name), contents, split=split)
    return page


def _labels(roots: Sequence[Path]) -> list[str]:
    """Return short names of folders: their last parts, as many as it takes to tell them apart."""
    parts = [root.resolve().parts for root in roots]
    for length in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return list(map(str, roots))


def _title(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= MAX_NAMES else f"{len(names)} runs"


def _audit_settings(found: FoundFolders) -> AuditSettings:
    """Return the thresholds that the evaluation was audited with."""
    settings = read_locked_config(found.evaluations[0].config).get("audit")
    return config_files.validate_settings(
        AuditSettings,
        dict(settings) if isinstance(settings, Mapping) else {},
        str(found.evaluations[0].config),
    )


def _roles(
    summary: Mapping[str, Any], models: Mapping[str, Any], runs: Mapping[str, RunFolder], folder: Path
) -> PolicyRoles:
    """Find the base, SFT and PPO policies, as far as the run folders show, and what the verdict compares.

    It compares the PPO policy with the one it started from, or else the last policy with the first.
    """
    policies = list(summary["policies"])
    made = {
        kind: _made_by(run, models, policies, folder) for kind, run in runs.items() if kind in ("sft", "ppo")
    }
    known = {kind: name for kind, name in made.items() if name is not None}
    if known.get("ppo") == known.get("sft"):
        known.pop("ppo", None)
    base = next((name for name in policies if name not in known.values()), None)
    roles = ({BASE: base} if base is not None else {}) | known
    roles |= {name: name for name in policies if name not in roles.values() and name not in roles}
    by_policy = {policy: role for role, policy in roles.items()}
    if "ppo" not in known:
        pairs = (
            [PolicyComparison(by_policy[policies[-1]], by_policy[policies[0]])] if len(policies) > 1 else []
        )
    elif "sft" not in known:
        # The KL is measured against the model that PPO started from, which is not part of this evaluation.
        pairs = [PolicyComparison("ppo", BASE)]
    else:
        pairs = [PolicyComparison("ppo", "sft", BASE if base is not None else None, "ppo")]
    return PolicyRoles(roles, tuple(pairs))


def _made_by(run: RunFolder, models: Mapping[str, Any], policies: Sequence[str], folder: Path) -> str | None:
    """Return the policy whose model is the run or its final/, also after both were moved together (`run.moved`)."""
    places = [str(place.resolve()) for place in (run.final, run.root)]
    return next(
        (
            name
            for name in policies
            if name in models and any(is_same_place(str(models[name]), place, folder) for place in places)
        ),
        None,
    )
