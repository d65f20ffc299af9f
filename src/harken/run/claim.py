"""One folder, one configuration: the first run writes it, later ones must bring the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from harken.errors import UserError
from harken.run import seals
from harken.run.atomic import write_text
from harken.run.manifest import config_difference


def claim(path: Path, config: dict[str, Any], *made: Path) -> bool:
    """Write the resolved configuration, or check it against the one that is there. True: it was there.

    A configuration under which none of `made` came to be is replaced: a first try that failed on a mistyped
    path must not lock the folder. Raises UserError with the differences when something was made under another,
    and when the configuration that is there is damaged.
    """
    if path.exists() and any(result.exists() for result in made):
        differences = config_difference(yaml.safe_load(seals.read_text(path)), config)
        if differences:
            raise UserError(
                "this folder holds a run of another configuration: " + "; ".join(differences),
                where=str(path.parent),
                mend="choose another --output-dir, or restore the configuration",
            )
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, yaml.safe_dump(config, sort_keys=False))
    return False
