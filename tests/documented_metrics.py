"""The names that docs/metrics.md has rows for."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"


def documented() -> list[re.Pattern[str]]:
    rows = [
        line.split("|")[1]
        for line in (DOCS / "metrics.md").read_text().splitlines()
        if line.startswith("| `")
    ]
    names = [name for row in rows for name in re.findall(r"`([^`]+)`", row)]
    return [re.compile(re.sub(r"<\w+>", r"\\S+", name)) for name in names]
