"""`harken presets`: the verbs about shipped configurations."""

from __future__ import annotations

from typing import Annotated

import typer

from harken.config import files as config_files

presets = typer.Typer(help="List or show the shipped configurations.", rich_markup_mode=None)


@presets.command("list")
def list_presets() -> None:
    """The shipped configurations, by kind.

    \b
    Examples:
      harken presets list
    """
    found = config_files.list_presets()
    width = max(len(preset.name) for preset in found)
    for preset in sorted(found, key=lambda preset: (preset.kind, preset.name)):
        typer.echo(f"{preset.kind:<10}  {preset.name:<{width}}  {preset.summary}")


@presets.command("show")
def show_preset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from `harken presets list`.")],
) -> None:
    """The text of a shipped configuration, to read or to start a file of your own from.

    \b
    Examples:
      harken presets show smollm2-135m_ppo > my_run.yml
    """
    typer.echo(config_files.show_preset(name), nl=False)
