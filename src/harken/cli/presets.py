"""Define `harken presets`: list and show the shipped configurations."""

from __future__ import annotations

from typing import Annotated

import typer

from harken.config import files as config_files
from harken.run.terminal import columns, format_table, show

presets = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@presets.callback()
def presets_group() -> None:
    """List or show the shipped configurations.

    \b
    Examples:
      harken presets list
      harken presets show smollm2-135m_ppo > my_run.yml
    """


@presets.command("list")
def list_presets() -> None:
    """List the shipped configurations by kind.

    \b
    Examples:
      harken presets list
    """
    shipped = sorted(config_files.list_presets(), key=lambda preset: (preset.kind, preset.name))
    cells: dict[str, list[str]] = {
        "kind": [preset.kind for preset in shipped],
        "name": [preset.name for preset in shipped],
        "summary": [preset.summary for preset in shipped],
    }
    show(format_table(cells, width=columns(), wrap=True))


@presets.command("show")
def show_preset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name from `harken presets list`.")],
) -> None:
    """Print a shipped configuration, to read or to edit.

    \b
    Examples:
      harken presets show smollm2-135m_ppo > my_run.yml
    """
    typer.echo(config_files.show_preset(name), nl=False)
