"""Define `harken sycophancy`: evaluate detectors, and fit a direction for steering. Imports: see `cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harken.cli.options import Device
from harken.config import WeightDtypeName
from harken.errors import UserError

sycophancy_commands = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
DType = Annotated[WeightDtypeName, typer.Option(help="Dtype of the weights.", case_sensitive=True)]
TRAIN = "demo:sycophancy_train"


@sycophancy_commands.callback()
def sycophancy() -> None:
    """Detect sycophancy in responses, and steer against it.

    Policies are evaluated by harken eval --suite sycophancy.

    \b
    Examples:
      harken sycophancy detect truthfulqa.jsonl
      harken sycophancy direction embedded --output-dir outputs/direction
    """


@sycophancy_commands.command("detect")
def detect(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="Labelled responses, pairs, or TruthfulQA (docs/sycophancy.md)."),
    ],
    classifier: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="A classifier of honest responses, or a reward model of them."),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="The language model of contrast and of --direction.")
    ] = None,
    direction: Annotated[
        str | None, typer.Option(metavar="DIR", help="A direction that harken sycophancy direction wrote.")
    ] = None,
    fit: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="Labelled responses on which the trivial detector of length is fitted."
        ),
    ] = TRAIN,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            show_default="all questions",
            help="Use the responses to N questions, chosen by the seed.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the choice of questions.")] = 839,
    out: Annotated[
        Path | None,
        typer.Option("--out", "--output", metavar="FILE.json", help="Also write the figures as JSON."),
    ] = None,
    device: Device = "auto",
    dtype: DType = "bfloat16",
) -> None:
    """Evaluate detectors of sycophancy on labelled responses.

    Compares them with trivial detectors. Precision, recall, F1 and calibration with 95 % intervals. The rules are
    always evaluated; a model adds contrast.

    \b
    Examples:
      harken sycophancy detect truthfulqa.jsonl
      harken sycophancy detect truthfulqa.jsonl --model embedded --limit 100
      harken sycophancy detect my_labelled.jsonl --classifier outputs/02_honesty
    """
    if direction is not None and model is None:
        raise UserError("--direction needs the model that it was fitted on", fix="add --model MODEL")

    from harken.reward.detect import evaluate_detectors
    from harken.run import atomic
    from harken.run.terminal import show
    from harken.sycophancy.detection import detector_table

    figures, trivial = evaluate_detectors(
        file, fit, classifier, model, direction, limit=limit, seed=seed, device=device, dtype=dtype
    )
    if out is not None:
        atomic.write_json(out, {name: measured.to_dict() for name, measured in figures.items()})
    first_figures = next(iter(figures.values()))
    show(f"{first_figures.n:,} labelled responses of {file}\n\n{detector_table(figures, trivial)}")


@sycophancy_commands.command("direction")
def direction_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a model or a checkpoint.")],
    output_dir: Annotated[
        Path, typer.Option("--output-dir", "--out", metavar="DIR", help="The output folder.")
    ],
    layer: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="The layer, from 0.", show_default="the middle one")
    ] = None,
    data: Annotated[str, typer.Option(metavar="FILE", help="Labelled responses, or pairs.")] = TRAIN,
    device: Device = "auto",
    dtype: DType = "bfloat16",
) -> None:
    """Fit a steering direction from labelled responses.

    It is the difference of mean activations between faulty and honest responses at one layer. Writes
    direction.safetensors and direction.json. A detector reads it (harken sycophancy detect --direction), and a policy
    of an evaluation is steered by it (docs/sycophancy.md#steering).

    \b
    Examples:
      harken sycophancy direction embedded --output-dir outputs/direction
      harken sycophancy direction outputs/01_sft --layer 12 --out outputs/l12
    """
    from harken.reward.detect import write_direction
    from harken.run.terminal import show

    fitted = write_direction(model, data, layer, output_dir, device=device, dtype=dtype)
    show(
        f"{output_dir}: layer {fitted.layer}, {fitted.facts['faulty']} faulty and {fitted.facts['honest']} honest "
        f"responses, difference of length {float(fitted.difference.norm()):.3g}"
    )
