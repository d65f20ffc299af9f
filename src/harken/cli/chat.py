"""Define `harken chat` and `harken export`. Imports: see `cli.main`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from harken.cli.options import Device
from harken.config import WeightDtypeName

policy_commands = typer.Typer(rich_markup_mode=None)


@policy_commands.command("chat")
def chat_command(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="A run folder, a model, a checkpoint or a GGUF file."),
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="[NAME=]A [NAME=]B", help="Two models beside each other, instead of one."),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            "--reward",
            "--scorer",
            metavar="SCORER",
            help="Show the score of each response (see harken score).",
        ),
    ] = None,
    system: Annotated[str, typer.Option(metavar="TEXT", help="The system turn.")] = "",
    temperature: Annotated[float, typer.Option(metavar="T", min=0.0, help="0: greedy decoding.")] = 0.7,
    max_gen_len: Annotated[int, typer.Option(metavar="N", min=1, help="Tokens per response.")] = 256,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="The same seed gives the same responses.")
    ] = 839,
    device: Device = "auto",
    dtype: Annotated[
        WeightDtypeName, typer.Option(help="Dtype of the weights.", case_sensitive=True)
    ] = "bfloat16",
) -> None:
    """Talk to a policy in the terminal, or compare two.

    One line is one turn; Ctrl-D ends. /reset, /system TEXT, /temperature T and /help are commands. Turns may also come
    from a pipe.

    \b
    Examples:
      harken chat outputs/03_ppo
      harken chat --compare outputs/01_sft outputs/03_ppo --scorer outputs/02_rm
      echo "Explain rainbows." | harken chat embedded --temperature 0
    """
    names = [*([model] if model is not None else []), *(compare or ())]

    from harken.generation import chat

    settings = chat.ChatSettings(max_gen_len, temperature, seed, system, reward, device, dtype)
    chat.chat(names, settings)


@policy_commands.command("export")
def export_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run folder, a model, a checkpoint or a GGUF file.")
    ],
    out: Annotated[Path, typer.Option("--output-dir", "--out", metavar="DIR", help="A new folder.")],
    format_: Annotated[
        Literal["safetensors", "adapter", "gguf"],
        typer.Option("--format", help="A merged model, the adapter alone, or one file for llama.cpp."),
    ] = "safetensors",
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Dtype of merged weights.")
    ] = "bfloat16",
) -> None:
    """Write a policy for other tools, with a model card.

    The model card lists lineage, data, metrics and licences.

    \b
    Examples:
      harken export outputs/03_ppo --out my_model
      harken export outputs/03_ppo --out my_adapter --format adapter
      harken export outputs/03_ppo --out my_gguf --format gguf
    """
    from harken.export import export

    export.export(model, out, format_, dtype)
