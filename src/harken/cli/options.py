"""Define the options that several commands share, so that they have one name and one help text."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one key, for example training.lr=1e-6. Repeatable."
    ),
]
AcceptChanges = Annotated[
    bool,
    typer.Option(
        "--accept-changes",
        help="Resume even if configuration, data, weights or versions changed (the manifest records the changes), or "
        "the reward model failed its gate.",
    ),
]
ConfigFile = Annotated[
    str | None, typer.Option("--config", metavar="FILE", help="A YAML file with the keys of this command.")
]
Prompts = Annotated[str | None, typer.Option("--prompts", "--data", metavar="FILE", help="The prompts.")]
Device = Annotated[str, typer.Option(metavar="cpu|cuda|auto", help="Where the model runs.")]


def output_dir_option(default: str, *names: str, resumes: bool = True) -> Any:
    """Return the option that names an output folder; `default` says which folder is used without it."""
    return typer.Option(
        *(names or ("--output-dir", "--out")),
        metavar="DIR",
        show_default=default,
        help="The output folder; the same folder resumes." if resumes else "The output folder.",
    )


OutputDir = Annotated[Path | None, output_dir_option("outputs/NAME")]


def without_none(**values: Any) -> dict[str, Any]:
    """Return the values that are not None."""
    return {key: value for key, value in values.items() if value is not None}
