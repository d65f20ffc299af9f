"""Define `harken data`: report on the rows of a source, and the agreement of its raters. Imports: see `cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harken.cli.default_verb import default_verb
from harken.cli.options import Set
from harken.cli.review import Items, Raters, ReviewDir, ReviewRequest
from harken.config import files as config_files
from harken.config.base import DataConfig
from harken.errors import UserError
from harken.run.terminal import columns, format_table, show

CHECK = "check"
data_commands = typer.Typer(cls=default_verb(CHECK), rich_markup_mode=None)

RaterColumnList = Annotated[
    str | None,
    typer.Option(metavar="COLUMN,COLUMN", help="One column for each rater.", show_default="annotator1, …"),
]
ItemColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN", help="One row per vote: the column of the item.", show_default="item, id, …"
    ),
]
RaterColumn = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="One row per vote: who voted.", show_default="rater, annotator, …"),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(metavar="COLUMN", help="One row per vote: the label.", show_default="label, vote, …"),
]

DataSet = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Set one key of data that says how rows are read, for example columns.prompt=question. Repeatable.",
    ),
]
NO_EFFECT = ("path", "format", "limit", "balance", "eval_path", "eval_split", "eval_limit", "eval_fraction")
"""Keys of `data` that a report on one file does not read; its path is an argument."""


@data_commands.callback()
def data() -> None:
    """Report on the rows of a data source and their raters.

    \b
    Examples:
      harken data demo:preferences                  rows kept and dropped, and why
      harken data my_rows.jsonl --task sft --model embedded --max-length 512
      harken data --layouts                         the supported layouts
      harken data agreement labels.jsonl            how far the raters agree
      harken data pack pairs.jsonl --tool argilla   items to label in another tool
    """


@data_commands.command(CHECK)
def check_command(
    path: Annotated[
        str | None, typer.Argument(metavar="PATH", help="A file, a hub data set, or demo:preferences.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="sft, preference, prompt_only, classifier (two labels) or unpaired_preference (good or bad, for kto).",
            show_default="detected from the rows",
        ),
    ] = None,
    layout: Annotated[str, typer.Option(metavar="NAME", help="The row layout; auto detects it.")] = "auto",
    layouts: Annotated[bool, typer.Option("--layouts", help="List the supported layouts.")] = False,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Count tokens with this model's tokenizer.")
    ] = None,
    max_length: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --model: count rows that exceed N tokens.", show_default="1024"),
    ] = None,
    set_: DataSet = None,
) -> None:
    """Report which rows are kept, changed or dropped, and why.

    Also reports how varied preferences are and who wrote their responses, with advice on pairs and epochs; with --model
    a table of the rows that exceed 512 to 4,096 tokens, by stage and domain. The model is taken for the policy.

    \b
    Examples:
      harken data demo:preferences
      harken data my_rows.jsonl --task sft --model embedded --max-length 512
      harken data my_labelled.jsonl --task classifier --set positive_label=1
      harken data --layouts
    """
    if layouts:
        from harken.data.layouts import LAYOUTS

        cells = {
            "layout": [row_layout.name for row_layout in LAYOUTS],
            "description": [row_layout.description for row_layout in LAYOUTS],
        }
        show(format_table(cells, width=columns(), wrap=True))
        return
    if path is None:
        raise UserError("no data source given", fix="name one, for example: harken data demo:preferences")
    options = {"path": path, "task": task, "layout": layout, "max_length": max_length}
    settings = {key: value for key, value in options.items() if value is not None}
    config = config_files.validate_settings(DataConfig, settings, "harken data", _data_keys(set_ or []))

    from harken.data_check import check_data

    for line in check_data(config, model):
        show(line)


def _data_keys(overrides: list[str]) -> list[str]:
    """Return `--set` arguments without a prefix `data.`. Raises UserError for a key without effect on the report."""
    keys = [text.removeprefix("data.") for text in overrides]
    for text in keys:
        name = text.partition("=")[0].partition(".")[0]
        if name in NO_EFFECT:
            raise UserError(
                f"{name} has no effect here: the whole file is reported on",
                where=f"--set {text}",
                fix="leave it out",
            )
    return keys


@data_commands.command("agreement")
def rater_agreement_command(
    path: Annotated[str, typer.Argument(metavar="FILE", help="Rows with the labels of several raters.")],
    raters: RaterColumnList = None,
    item: ItemColumn = None,
    rater: RaterColumn = None,
    label: LabelColumn = None,
    calibration: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=1, help="Decide go or no-go by the first N rows alone.", show_default="all rows"
        ),
    ] = None,
    min_alpha: Annotated[
        float | None,
        typer.Option(
            metavar="A",
            min=-1,
            max=1,
            help="Least alpha for a go.",
            show_default="0.4 of comparisons, else 0.667",
        ),
    ] = None,
    min_gold: Annotated[
        float | None,
        typer.Option(metavar="P", min=0, max=1, help="Least share of gold right.", show_default="0.75"),
    ] = None,
    gate: Annotated[bool, typer.Option("--gate", help="Exit with code 1 unless the verdict is go.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Also write the figures as JSON.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the bootstrap.")] = 0,
) -> None:
    """Measure how far the raters of a file agree.

    Also reports the habits of each rater, and whether labelling may go on. Reads HelpSteer3's individual_preference,
    columns annotator1, annotator2, …, lists of ratings, and files with one row per vote. Prints percent agreement,
    Krippendorff's alpha, Fleiss' and Cohen's kappa with bootstrap intervals over rows, the ceiling (a rater with the
    majority of the others), and each rater's ties, sides, lengths and drift. A column `gold` with the known label of
    some rows also gives each rater's accuracy. See docs/people.md.

    \b
    Examples:
      harken data agreement pairs.jsonl
      harken data agreement pairs.jsonl --out agreement.json
      harken data agreement sheet.jsonl --raters anna,ben,chris
      harken data agreement votes.jsonl --item task --rater worker --label choice
      harken data agreement round1.jsonl --calibration 200 --min-alpha 0.5 --gate
    """
    names = _rater_names(raters, item, rater, label)

    from harken.data.raters.measure import measure_raters
    from harken.data.raters.rated_rows import RaterColumns

    measured = measure_raters(
        path,
        RaterColumns(names, item, rater, label),
        calibration=calibration,
        min_alpha=min_alpha,
        min_gold=min_gold,
        seed=seed,
    )
    show("\n".join(measured.lines(columns())))
    if out is not None:
        from harken.run import atomic

        atomic.write_json(out, measured.to_dict())
        show(f"written: {out}")
    raise typer.Exit(1 if gate and measured.verdict["status"] != "go" else 0)


def _rater_names(raters: str | None, *vote_columns: str | None) -> tuple[str, ...]:
    """Return the columns of the raters. Raises UserError if columns of single votes are given, too."""
    names = tuple(name.strip() for name in (raters or "").split(",") if name.strip())
    if names and any(vote_columns):
        raise UserError(
            "--raters names one column per rater, --item, --rater and --label one row per vote",
            where="harken data agreement",
            fix="give one or the other",
        )
    return names


@data_commands.command("pack")
def pack_command(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]PATH...", help="Files of responses, an evaluation, or a file of preference pairs."
        ),
    ],
    tool: Annotated[str, typer.Option(metavar="label-studio|argilla", help="The tool that raters use.")],
    raters: Raters = None,
    items: Items = None,
    set_: Set = None,
    output_dir: ReviewDir = None,
) -> None:
    """Write an annotation pack for another labelling tool.

    A pack has the rubric, the items, gold, and repeats with swapped sides. The items, their order and their sides are
    those of `harken review`, with a file per rater. The export of the tool comes back with `harken review import`; then
    `harken review report` and `harken review export` work as usual.

    \b
    Examples:
      harken data pack base.jsonl ours.jsonl --tool label-studio --raters anna,ben
      harken data pack pairs.jsonl --tool argilla --output-dir outputs/pack
      harken review import outputs/pack project-1-at-2026-01-01.json
      harken review export outputs/pack --out pairs.jsonl
    """
    from harken.review.plan import study_lines
    from harken.review.tool_packs import TOOLS, write_tool_pack

    if tool not in TOOLS:
        raise UserError(f"is none of {', '.join(TOOLS)}", where=f"--tool {tool}", fix="name one of them")
    study, folder = ReviewRequest(paths, raters, items, None, None, set_, output_dir).open()
    show("\n".join(study_lines(study)))
    for path in write_tool_pack(
        study, folder.root / tool, "argilla" if tool == "argilla" else "label-studio"
    ):
        show(str(path))
    show(f"Votes come back with: harken review import {folder.root} EXPORT.json")
