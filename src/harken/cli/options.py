"""Define options that several commands share."""

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
        help="Resume even if configuration, data, weights or versions changed (the manifest records the changes), or "
        "the reward model failed its gate.",
    ),
]
OutputDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The folder of the run; the same folder resumes it. [outputs/<name>]"),
]
