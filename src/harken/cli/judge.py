"""Define commands of judges that compare two responses. Imports: see `cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harken.cli.options import ConfigFile, Prompts, Set, output_dir_option, without_none
from harken.config import files as config_files
from harken.config.judge_options import judge_from, writer_from
from harken.errors import UserError

label_commands = typer.Typer(rich_markup_mode=None)
judge_commands = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
_JUDGE_OPTION = typer.Option(
    "--judge",
    metavar="JUDGE",
    help="URL#MODEL, local:MODEL, a reward model's folder, my_judge.py:score, a rule, or a YAML file.",
)
_LIMIT_OPTION = typer.Option(metavar="N", show_default="all pairs", help="Judge N pairs, chosen by the seed.")


@judge_commands.callback()
def judge() -> None:
    """Measure judges that compare two responses.

    \b
    Examples:
      harken judge agreement golden.jsonl --judge outputs/02_rm
    """


@judge_commands.command("agreement")
def judge_agreement_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Pairs with labels, in any layout.")],
    judge: Annotated[str, _JUDGE_OPTION],
    limit: Annotated[int | None, _LIMIT_OPTION] = None,
    set_: Set = None,
    out: Annotated[Path | None, output_dir_option("outputs/judge-agreement")] = None,
) -> None:
    """Measure how far a judge agrees with people.

    Asks for every pair in both orders, with canaries among them. Prints the share and Cohen's kappa with intervals, by
    slice, and what the judge's verdicts depend on: order, position, length. Writes agreement.json and agreement.md.

    \b
    Examples:
      harken judge agreement golden.jsonl --judge outputs/02_rm
      harken judge agreement golden.jsonl --judge local:embedded --limit 50
      harken judge agreement pairs.jsonl --judge http://127.0.0.1:8000/v1#my-model
      harken judge agreement golden.jsonl --judge my_judge.yml --out outputs/judge
    """
    values = {"data": {"path": file}, "judge": judge_from(judge)} | without_none(limit=limit)
    config = config_files.load_agreement(set_ or [], out, values)

    from harken.judging.measure import measure_judge_agreement

    measure_judge_agreement(config, Path(str(config.output_dir)))


@label_commands.command("label")
def label_command(
    responses: Annotated[
        str | None,
        typer.Argument(metavar="[RESPONSES]", help="A folder or file of responses, or a file of pairs."),
    ] = None,
    judge: Annotated[str | None, _JUDGE_OPTION] = None,
    config_file: ConfigFile = None,
    limit: Annotated[int | None, _LIMIT_OPTION] = None,
    set_: Set = None,
    out: Annotated[Path | None, output_dir_option("outputs/labelled")] = None,
) -> None:
    """Label preference pairs by a judge (RLAIF).

    Asks for every pair in both orders, with canaries among them. Writes pairs.jsonl, which harken train reads, with the
    judge's probability as a soft label, and judge.json: order effects, canaries, cost, and what the labels favour.

    \b
    Examples:
      harken label outputs/responses --judge http://127.0.0.1:8000/v1#my-model
      harken label outputs/responses --judge outputs/02_rm --out outputs/labelled
      harken label pairs.jsonl --judge my_judge.yml --limit 200
    """
    values = without_none(
        responses=responses, judge=None if judge is None else judge_from(judge), limit=limit
    )
    if config_file is None and (responses is None or judge is None):
        raise UserError(
            "responses and a judge are needed", where="harken label", fix="name them (harken label --help)"
        )
    config = config_files.load_label(config_file, set_ or [], out, values)

    from harken.generation.label import run_label

    run_label(config, Path(str(config.output_dir)))


@label_commands.command("constitution")
def constitution_command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="A model, a run folder, or URL#MODEL of an endpoint."),
    ] = None,
    prompts: Prompts = None,
    principles: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A YAML file of principles, as examples/principles.yml."),
    ] = None,
    rounds: Annotated[
        int | None,
        typer.Option(metavar="N", help="Critiques and revisions of each response.", show_default="1"),
    ] = None,
    config_file: ConfigFile = None,
    set_: Set = None,
    out: Annotated[Path | None, output_dir_option("outputs/constitution")] = None,
) -> None:
    """Let a model revise its responses by principles.

    The recipe of Constitutional AI: the model responds, criticises its response by a principle, and revises it. Writes
    demonstrations.jsonl (prompt and revision) for supervised fine-tuning, pairs.jsonl (revision against first
    response), and every step as steps.jsonl and steps.html. The embedded model shows the mechanism; it is too small to
    criticise well.

    \b
    Examples:
      harken constitution embedded --prompts demo:prompts --set data.limit=8 \\
          --principles examples/principles.yml
      harken constitution http://127.0.0.1:8000/v1#my-model --prompts my.jsonl \\
          --principles examples/principles.yml
    """
    values = without_none(
        writer=None if model is None else writer_from(model),
        data=None if prompts is None else {"path": prompts},
        principles=principles,
        rounds=rounds,
    )
    if config_file is None and None in (model, prompts, principles):
        raise UserError(
            "a model, --prompts and --principles are needed",
            where="harken constitution",
            fix="name them (harken constitution --help)",
        )
    config = config_files.load_constitution(config_file, set_ or [], out, values)

    from harken.generation.constitution import run_constitution

    run_constitution(config, Path(str(config.output_dir)))
