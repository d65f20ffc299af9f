"""Define commands of judges that compare two responses. Imports: see `cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from harken.cli.options import Set
from harken.config import files as config_files
from harken.config.judge_options import judge_from

judge_commands = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Measure judges that compare two responses."
)

JudgeOption = Annotated[
    str,
    typer.Option(
        "--judge",
        metavar="J",
        help="URL#MODEL, local:MODEL, a reward model's folder, my_judge.py:score, a rule, or a YAML file.",
    ),
]


@judge_commands.command("agreement")
def judge_agreement_command(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Pairs with labels, in any layout.")],
    judge: JudgeOption,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Judge N pairs, chosen by the seed.")] = None,
    set_: Set = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "--output-dir", metavar="DIR", help="The folder; the same one resumes."),
    ] = None,
) -> None:
    """Measure how far a judge agrees with people.

    Asks for every pair in both orders, with canaries among them. Prints the share and Cohen's kappa with intervals, by
    slice, and what the judge's verdicts depend on: order, position, length. Writes agreement.json and agreement.md.

    \b
    Examples:
      harken judge agreement golden.jsonl --judge outputs/02_rm
      harken judge agreement golden.jsonl --judge local:embedded --limit 50
      harken judge agreement golden.jsonl --judge http://127.0.0.1:8000/v1#my-model --out outputs/agreement
      harken judge agreement golden.jsonl --judge my_judge.yml --set judge.api_key_env=OPENAI_API_KEY
    """
    given: dict[str, Any] = {"data": {"path": file}, "judge": judge_from(judge)}
    if limit is not None:
        given["limit"] = limit
    config = config_files.load_agreement(set_ or [], out, given)

    from harken.judging.measure import measure_judge_agreement

    measure_judge_agreement(config, Path(str(config.output_dir)))
