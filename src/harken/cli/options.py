"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
        help="Go on although configuration, data, weights or versions changed since; the manifest tells what.",
    ),
]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Where the run goes; the same folder again resumes it. [outputs/<name>]"
    ),
]
