"""Define `harken review`, with its verbs, and `harken hard-negatives`. Imports: see `cli.main`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harken.cli.default_verb import default_verb
from harken.cli.options import Set, output_dir_option, without_none
from harken.config import files as config_files
from harken.config.evaluation_options import policies_from
from harken.errors import UserError
from harken.run.counted import counted
from harken.run.folder import PipelineFolder, ReviewFolder
from harken.run.terminal import show

if TYPE_CHECKING:
    from harken.config.review import ReviewConfig
    from harken.review.study import Study

SERVE = "serve"
ReviewDir = Annotated[Path | None, output_dir_option("outputs/review", "--output-dir")]
"""Without the name --out, which is the file of an offline pack."""


review_commands = typer.Typer(cls=default_verb(SERVE), rich_markup_mode=None, no_args_is_help=True)
hard_negative_commands = typer.Typer(rich_markup_mode=None)

Paths = Annotated[
    list[str],
    typer.Argument(
        metavar="[NAME=]PATH...",
        help="An evaluation, a pipeline, files of responses, a folder of pairs, a PPO run (also while it trains), or "
        "the folder of a review.",
    ),
]
StudyPath = Annotated[Path, typer.Argument(metavar="REVIEW", help="The folder of a review.")]
Raters = Annotated[
    str | None, typer.Option(metavar="NAME,NAME", help="Who votes; each gets a link.", show_default="rater1")
]
Edge = Annotated[
    float | None,
    typer.Option(metavar="P", help="The win rate that the review should detect.", show_default="0.6"),
]
Items = Annotated[
    int | None,
    typer.Option(metavar="N", help="Pairs of responses to judge.", show_default="as many as --edge needs"),
]
ReviewFile = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="A YAML file with the keys of a review.")
]


@review_commands.callback()
def review() -> None:
    """Let people compare responses, blinded.

    Raters do not see which policy wrote a response. The votes become win rates and preference pairs.

    \b
    Examples:
      harken review outputs/04_eval --raters anna,ben   serve to two raters
      harken review plan outputs/04_eval --edge 0.55    how many votes are needed?
      harken review report outputs/review               lock, unblind and report
      harken review export outputs/review --out pairs.jsonl
    """


@review_commands.command(SERVE)
def serve_command(
    paths: Paths,
    raters: Raters = None,
    items: Items = None,
    edge: Edge = None,
    config_file: ReviewFile = None,
    set_: Set = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="PACK.html", help="Write a page for raters without a network, and serve nothing."
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to serve on.")] = "127.0.0.1",
    port: Annotated[
        int,
        typer.Option(metavar="N", min=0, max=65535, help="The port; 0: a free one, which later calls reuse."),
    ] = 0,
    accept: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Raters who may go on although their calibration failed."),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the links.")] = False,
    output_dir: ReviewDir = None,
) -> None:
    """Serve a review to raters on this machine.

    Ctrl-C ends the server; the same command continues the review. Responses are shown in pairs, without policies,
    rewards or names; the sides are balanced for every rater. Equal responses are left out. Every vote is on the disk
    before it is confirmed.

    \b
    Examples:
      harken review outputs/04_eval --raters anna,ben --output-dir outputs/review
      harken review outputs/demo                      the evaluation of a pipeline
      harken review base.jsonl ours.jsonl --items 200
      harken review outputs/03_ppo                    before and after PPO
      harken review outputs/review                    continue
      harken review outputs/04_eval --out pack.html   a file for offline raters
    """
    study, folder = ReviewRequest(paths, raters, items, edge, config_file, set_, output_dir).open()

    from harken.review.plan import study_lines
    from harken.review.votes import read_votes

    show("\n".join(study_lines(study, read_votes(folder.votes, study.hash))))
    if out is not None:
        from harken.review.page import write_packs

        for rater, path in write_packs(study, out).items():
            show(f"{rater}: {path}")
        show(
            "A pack is blinded less well than the server: its reader can look ahead and edit votes.\n"
            f"Votes come back with: harken review import {folder.root} VOTES.json"
        )
        return

    from harken.review.require import require_server

    require_server()

    from harken.review.server import serve_review

    serve_review(study, folder, host=host, port=port, accepted=_names(accept), browser=not no_browser)


@review_commands.command("plan")
def plan_command(
    paths: Paths,
    raters: Raters = None,
    items: Items = None,
    edge: Edge = None,
    config_file: ReviewFile = None,
    set_: Set = None,
    output_dir: ReviewDir = None,
) -> None:
    """Show how many votes a review needs.

    Also shows what the review of these responses would contain. Nothing is written.

    \b
    Examples:
      harken review plan outputs/04_eval --edge 0.55 --raters anna,ben,cleo
      harken review plan outputs/review               progress and calibration
    """
    from harken.review.plan import power_lines, study_lines
    from harken.review.study import plan_study, read_study
    from harken.review.votes import read_votes

    request = ReviewRequest(paths, raters, items, edge, config_file, set_, output_dir)
    if (folder := request.existing()) is not None:
        study = read_study(folder)
        show("\n".join(study_lines(study, read_votes(folder.votes, study.hash))))
        return
    config = request.config()
    show("\n".join([*power_lines(config), "", *study_lines(plan_study(config))]))


@review_commands.command("report")
def report_command(
    study: StudyPath,
    early: Annotated[
        bool, typer.Option("--early", help="Lock although items have no vote yet. A lock is final.")
    ] = False,
) -> None:
    """Lock and unblind a review, and report its results.

    Reports win rates and the agreement of raters. Writes report.html, report.md and report.json. Without agreement
    above chance there is no headline. A review of a training run also hands the votes to it: its health monitor
    compares them with the reward.

    \b
    Examples:
      harken review report outputs/review
      harken review report outputs/review --early
    """
    from harken.review.report import lock_and_report, report_lines

    folder = ReviewFolder(study)
    show("\n".join(report_lines(lock_and_report(folder, early=early))))
    pipeline = folder.root.resolve().parent
    following = (
        f"run the pipeline of {study.parent} again: it trains on the votes"
        if PipelineFolder(pipeline).config.is_file()
        else f"harken review export {study} --out pairs.jsonl"
    )
    show(f"\nreport   {folder.page}\nnext     {following}")


@review_commands.command("export")
def export_votes_command(
    study: StudyPath,
    out: Annotated[Path, typer.Option(metavar="FILE.jsonl", help="The pairs.")],
    ties: Annotated[
        Literal["drop", "keep"],
        typer.Option(help="keep: ties and contradicting votes as pairs of strength 0."),
    ] = "drop",
) -> None:
    """Write the votes of a review as preference pairs.

    The review must be locked; `harken train` reads the pairs. The prompts are training data then: leave them out of
    later evaluations with --leave-out.

    \b
    Examples:
      harken review export outputs/review --out pairs.jsonl
      harken train --preset smollm2-135m_rm --set data.path=pairs.jsonl
      harken eval outputs/03_ppo --data my_heldout.jsonl --leave-out pairs.jsonl
    """
    from harken.review.export import export_pairs, write_pairs
    from harken.review.report import read_locked_votes

    locked_study, votes = read_locked_votes(ReviewFolder(study))
    exported = export_pairs(locked_study, votes, ties)
    write_pairs(out, exported, str(study))
    show(f"{out}: {exported.line()}\nLater evaluations: harken eval … --leave-out {out}")


@review_commands.command("import")
def import_command(
    study: StudyPath,
    votes: Annotated[
        list[Path],
        typer.Argument(
            metavar="VOTES.json...", help="Files from offline packs, or exports of Label Studio or Argilla."
        ),
    ],
) -> None:
    """Add votes from an offline pack, Label Studio or Argilla.

    Label Studio exports JSON, JSON_MIN or CSV. For Argilla, export.py of the pack writes the votes.

    \b
    Examples:
      harken review import outputs/review anna-votes.json
      harken review import outputs/pack project-1-at-2026-01-01.json
    """
    from harken.review.page import import_votes
    from harken.review.study import read_study

    folder = ReviewFolder(study)
    served_study = read_study(folder)
    for path in votes:
        new_count, known_count = import_votes(served_study, folder, path)
        show(f"{path}: {counted(new_count, 'vote')} added, {known_count:,} known already")


@hard_negative_commands.command("hard-negatives")
def hard_negatives_command(
    responses: Annotated[
        str, typer.Argument(metavar="RESPONSES", help="An evaluation, or a file of responses with rewards.")
    ],
    rules: Annotated[
        str | None,
        typer.Option(
            metavar="RULE,RULE",
            help="The failures that make a pair.",
            show_default="high_reward_broken,repetition,truncated",
        ),
    ] = None,
    reward_margin: Annotated[
        float | None,
        typer.Option(metavar="X", help="Least reward above the clean response's.", show_default="0"),
    ] = None,
    set_: Set = None,
    out: Annotated[Path | None, output_dir_option("RESPONSES-hard-negatives")] = None,
) -> None:
    """Make preference pairs of failures that the audit found.

    A pair is a clean response over a broken one to the same prompt. Every row names its rule, the failures with their
    evidence, both policies and both rewards.

    \b
    Examples:
      harken hard-negatives outputs/04_eval --out outputs/hard
      harken review outputs/hard                       let people decide first
      harken train --preset smollm2-135m_rm \\
          --set data.path=outputs/hard/pairs.jsonl
    """
    values = {"responses": responses} | without_none(
        rules=rules.split(",") if rules else None, reward_margin=reward_margin
    )
    path = Path(responses)
    default = path.with_name(f"{path.stem if path.suffix else path.name}-hard-negatives")
    config = config_files.load_hard_negatives(set_ or [], out or default, values)

    from harken.review.hard_negatives import run_hard_negatives

    run_hard_negatives(config, Path(str(config.output_dir)))


@dataclass(frozen=True)
class ReviewRequest:
    """Hold the options that select a review, which `serve`, `plan` and `harken data pack` share."""

    paths: list[str]
    raters: str | None
    items: int | None
    edge: float | None
    config_file: str | None
    set_: list[str] | None
    output_dir: Path | None

    def existing(self) -> ReviewFolder | None:
        """Return the review that a single path names, else None."""
        folder = ReviewFolder(Path(self.paths[0]))
        return folder if len(self.paths) == 1 and folder.study.is_file() else None

    def config(self) -> ReviewConfig:
        """Return the settings of a new review."""
        values: dict[str, Any] = _reviewed(self.paths)
        values |= without_none(raters=_names(self.raters) or None, items=self.items, edge=self.edge)
        return config_files.load_review(self.config_file, self.set_ or [], self.output_dir, values)

    def open(self) -> tuple[Study, ReviewFolder]:
        """Return the study that a path names, or that of the settings in its folder; create it if there is none."""
        from harken.review.study import FIX_SERVED, open_study, read_study
        from harken.run.lock import write_lock

        if (folder := self.existing()) is not None:
            if any(value is not None for name, value in vars(self).items() if name != "paths"):
                raise UserError(
                    "the settings of a review are fixed once it exists",
                    where=self.paths[0],
                    fix="remove the options, or start another review with --output-dir",
                )
            return read_study(folder), folder
        config = self.config()
        folder = ReviewFolder(Path(str(config.output_dir)))
        with write_lock(folder.root, FIX_SERVED):
            return open_study(config, folder), folder


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()] if text else []


def _reviewed(paths: list[str]) -> dict[str, Any]:
    """Return the settings of what is reviewed: a folder or a file of pairs, or policies.

    A pipeline stands for its last evaluation, a training run for its held-out responses before training and at present.
    """
    if len(paths) == 1 and "=" not in paths[0] and (pairs := Path(paths[0]) / "pairs.jsonl").is_file():
        return {"pairs_path": str(pairs)}
    if len(paths) == 1 and _is_file_of_pairs(paths[0]):
        return {"pairs_path": paths[0]}
    from harken.review.live import is_training_run, reviewed_run

    if len(paths) == 1 and is_training_run(Path(paths[0])):
        return {"policies": reviewed_run(Path(paths[0])).policies()}
    return {"policies": policies_from([_evaluation_of(path) for path in paths])}


def _is_file_of_pairs(path: str) -> bool:
    """Return whether the rows of a file are pairs of responses; False for rows of any other kind."""
    if not Path(path).is_file():
        return False
    from harken.config.base import DataConfig
    from harken.data.parse import holds_pairs

    try:
        return holds_pairs(DataConfig(path=path))
    except UserError:
        return False


def _evaluation_of(path: str) -> str:
    if not PipelineFolder(Path(path)).config.is_file():
        if Path(path).is_dir() and not (Path(path) / "responses.parquet").is_file():
            raise UserError(
                "this folder has no responses",
                where=path,
                fix="name the folder of an evaluation, a pipeline that has one, or files of responses",
            )
        return path

    from harken.run.pipeline_record import read_pipeline

    stages = [
        stage for stage in read_pipeline(Path(path))[1] if stage.type == "evaluation" and stage.finished
    ]
    if not stages:
        raise UserError(
            "this pipeline has no finished evaluation",
            where=path,
            fix="run `harken pipeline` to the end, or name files of responses, or the folder of a PPO run that trains",
        )
    return str(stages[-1].root)
