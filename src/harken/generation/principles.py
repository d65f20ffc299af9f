"""Read the principles of the constitutional recipe."""

from __future__ import annotations

from pathlib import Path

from harken.config.constitution import Principle, Principles
from harken.config.files import read_config_text, validate_settings
from harken.config.yaml import parse_yaml
from harken.errors import UserError


def read_principles(name: str) -> list[Principle]:
    """Read a file of principles. Raises UserError for a file that is missing or wrong."""
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError("no such file", where=name, fix="write a file like examples/principles.yml")
    settings = parse_yaml(read_config_text(path, name), name, "examples/principles.yml")
    return validate_settings(Principles, settings.data, name).principles
