"""Define commands that check before compute is spent: doctor, plan, model, card. Imports: see `cli.main`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from harken.cli.card import card
from harken.cli.options import Set
from harken.config import files as config_files
from harken.errors import UserError
from harken.run.terminal import has_colour, show

preflight = typer.Typer(rich_markup_mode=None)
preflight.command()(card)


@preflight.command()
def doctor(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A preset's name or a YAML file.")],
    set_: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check a training run or a pipeline before it starts.

    Runs the training code on a few rows: tokenizer, data, model, sampling, one update, reward model, settings. Nothing
    is written. Exit code 0: no warnings; 1: warnings; 2: errors.

    \b
    Examples:
      harken doctor demo
      harken doctor my_run.yml --set training.ppo.kl_coef=0.05
      harken doctor my_run.yml --json > findings.json
    """
    from harken.doctor import runner

    diagnosis = runner.diagnose(config_files.load_run_or_pipeline(name, set_ or []), name)
    if as_json:
        show(json.dumps(diagnosis.to_dict(), ensure_ascii=False, indent=2))
    else:
        typer.echo("\n".join(diagnosis.lines(colour=has_colour())))
    raise typer.Exit(diagnosis.exit_code)


@preflight.command()
def plan(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="A preset's name or a YAML file.")],
    set_: Set = None,
    memory: Annotated[
        str | None, typer.Option(metavar="12GB", help="Find micro-batches that fit into this much memory.")
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="cpu|cuda", help="The device to plan for.")] = None,
    price: Annotated[
        float | None,
        typer.Option(min=0, metavar="N", help="Price per hour of the machine: also print the cost of a run."),
    ] = None,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Predict memory only, without timing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> None:
    """Predict memory, seconds and cost before a run starts.

    Memory per phase is computed from the model's settings and the lengths of your rows. Seconds are extrapolated from a
    few layers of the same shapes, timed on this machine. No weights are read. Exit code 1: it does not fit --memory.

    \b
    Examples:
      harken plan demo
      harken plan my_run.yml --memory 12GB --device cuda
      harken plan my_run.yml --price 2.5 --set training.micro_batch_tokens=8192
    """
    from harken.plan import plan as plans
    from harken.plan import report

    available = None if memory is None else report.parse_memory(memory)
    config = config_files.load_run_or_pipeline(name, set_ or [])
    result = plans.make_plan(config, name, memory=available, device=device, price=price, timed=not no_measure)
    show(json.dumps(report.to_dict(result), indent=2) if as_json else "\n".join(report.lines(result)))
    raise typer.Exit(0 if result.fits else 1)


@preflight.command()
def model(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Anything that model_name accepts.")],
    brief: Annotated[
        bool, typer.Option("--brief", help="Resolve the name without loading the model.")
    ] = False,
    dtype: Annotated[str, typer.Option(metavar="bfloat16|float32", help="The weight dtype.")] = "bfloat16",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Report what works with a model.

    Prints its kind, its folder, and the models it is built on, the base first. Then loads it and shows whether it can
    be trained, how it decodes, whether rows are packed, and which modules an adapter covers.

    \b
    Examples:
      harken model embedded
      harken model outputs/03_ppo --brief
      harken model path/to/folder --json
    """
    from harken.models import resolve

    source = resolve.resolve(name)
    if not as_json:
        for link in source.chain():
            show(link.describe())
    if brief and not as_json:
        return
    from harken.doctor import model_support

    if dtype not in ("bfloat16", "float32"):
        raise UserError("is neither bfloat16 nor float32", where=f"--dtype {dtype}", fix="name one of them")
    stages = None if brief else model_support.support(source, dtype)
    if as_json:
        show(json.dumps(model_support.support_to_dict(source, stages), ensure_ascii=False, indent=2))
    else:
        show("\n" + model_support.support_table(stages or []))
