"""Define commands for data made by models: generate, score, pairs. Imports: see `cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from harken.cli.options import ConfigFile, Prompts, Set, output_dir_option, without_none
from harken.config import files as config_files
from harken.config.evaluation_options import judges_from, policies_from
from harken.errors import UserError

generation_commands = typer.Typer(rich_markup_mode=None)


@generation_commands.command("generate")
def generate_command(
    policies: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=]MODEL...", help="Models, run folders, checkpoints or GGUF files."),
    ] = None,
    config_file: ConfigFile = None,
    prompts: Prompts = None,
    samples: Annotated[
        int | None, typer.Option(metavar="N", help="Responses per prompt and model.", show_default="4")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="T", help="0: greedy decoding.", show_default="1")
    ] = None,
    max_gen_len: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens per response.", show_default="64")
    ] = None,
    set_: Set = None,
    out: Annotated[Path | None, output_dir_option("outputs/responses")] = None,
) -> None:
    """Sample responses of models to the same prompts.

    Writes responses.parquet, which harken score, pairs and eval read.

    \b
    Examples:
      harken generate outputs/01_sft --prompts my_prompts.jsonl --samples 8
      harken generate sft=outputs/01_sft base=embedded --prompts demo:prompts
      harken generate --config my_generation.yml
    """
    values: dict[str, Any] = {"policies": policies_from(policies)} if policies else {}
    if prompts is not None:
        values["data"] = {"path": prompts}
    values |= without_none(samples=samples, temperature=temperature, max_gen_len=max_gen_len)
    if config_file is None and not policies:
        raise UserError("no model to generate with", fix="name one (harken generate --help)")
    if config_file is None and prompts is None:
        raise UserError("no prompts to respond to", fix="name a file with --prompts")
    config = config_files.load_generation(config_file, set_ or [], out, values)

    from harken.generation.generate import run_generate

    run_generate(config, Path(str(config.output_dir)))


@generation_commands.command("score")
def score_command(
    responses: Annotated[
        str | None,
        typer.Argument(
            metavar="[RESPONSES]", help="A folder of responses, an evaluation, or a file of responses."
        ),
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            "--scorer",
            metavar="SCORER",
            help="A reward model's folder, my_reward.py:score, a rule, classifier:MODEL or column:NAME. Repeatable; "
            "the first is the primary scorer.",
        ),
    ] = None,
    config_file: ConfigFile = None,
    set_: Set = None,
    out: Annotated[Path | None, output_dir_option("RESPONSES-scored")] = None,
) -> None:
    """Score responses that exist already.

    The scores are new columns of a table in a new folder; all other columns are copied.

    \b
    Examples:
      harken score outputs/responses --with outputs/02_rm --out outputs/scored
      harken score outputs/responses --with intact --with my_reward.py:score
      harken score theirs.jsonl --with intact
    """
    values: dict[str, Any] = {} if responses is None else {"responses": responses}
    if with_:
        values["judges"] = judges_from(with_)
    _require_responses(responses, config_file, "score")
    config = config_files.load_scoring(config_file, set_ or [], out or _beside(responses, "scored"), values)

    from harken.generation.score import run_score

    run_score(config, Path(str(config.output_dir)))


@generation_commands.command("pairs")
def pairs_command(
    responses: Annotated[
        str | None,
        typer.Argument(metavar="[RESPONSES]", help="A folder of scored responses, an evaluation, or a file."),
    ] = None,
    how: Annotated[
        Literal["best-worst", "all", "margin", "threshold", "best"] | None,
        typer.Option(
            help="Which responses make a pair; best: demonstrations instead of pairs.",
            show_default="best-worst",
        ),
    ] = None,
    score: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of scores.", show_default="reward")
    ] = None,
    margin: Annotated[
        float | None, typer.Option(metavar="X", help="With --how margin: the least difference of scores.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="X", help="With --how threshold or best: the least score of a chosen response."),
    ] = None,
    ties: Annotated[
        Literal["drop", "keep"] | None,
        typer.Option(help="Whether pairs of equal scores are written.", show_default="drop"),
    ] = None,
    strength: Annotated[
        Literal["one", "difference"] | None, typer.Option(help="The strength of a pair.", show_default="one")
    ] = None,
    truncated: Annotated[
        Literal["keep", "drop"] | None,
        typer.Option(help="Whether truncated responses take part.", show_default="keep"),
    ] = None,
    config_file: ConfigFile = None,
    set_: Set = None,
    out: Annotated[Path | None, output_dir_option("RESPONSES-pairs")] = None,
) -> None:
    """Make preference pairs or demonstrations of responses.

    The responses have scores, for example from harken score. Demonstrations are the best response to each prompt.

    \b
    Examples:
      harken pairs outputs/scored --how best-worst --out outputs/pairs
      harken pairs outputs/scored --how margin --margin 0.5 --strength difference
      harken pairs outputs/scored --how best --threshold 0 --truncated drop
      harken train --preset smollm2-135m_rm \\
          --set data.path=outputs/pairs/pairs.jsonl
    """
    values: dict[str, Any] = {} if responses is None else {"responses": responses}
    values |= without_none(
        how=how,
        score=score,
        margin=margin,
        threshold=threshold,
        ties=ties,
        strength=strength,
        truncated=truncated,
    )
    _require_responses(responses, config_file, "pairs")
    config = config_files.load_pairs(config_file, set_ or [], out or _beside(responses, "pairs"), values)

    from harken.generation.pairs import run_pairs

    run_pairs(config, Path(str(config.output_dir)))


def _require_responses(responses: str | None, config_file: str | None, command: str) -> None:
    if responses is None and config_file is None:
        raise UserError(
            "no responses are named", fix=f"name a folder or a file of responses (harken {command} --help)"
        )


def _beside(responses: str | None, suffix: str) -> Path | None:
    """Return the default folder of what is made of responses; None where a file of settings names them."""
    if responses is None:
        return None
    path = Path(responses)
    return path.with_name(f"{path.stem if path.suffix else path.name}-{suffix}")
