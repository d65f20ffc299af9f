"""Parse a benchmark's options, print its table, and write its JSON file with facts of the machine."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import machine

MEASURED, QUICK = Path("outputs/bench"), Path("outputs/bench-quick")
QUIET = 0.05
"""If a larger share of the cores is in use beforehand, timings are unreliable."""


def arguments(about: str) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark."""
    asked = argparse.ArgumentParser(description=about, formatter_class=argparse.RawTextHelpFormatter)
    asked.add_argument(
        "--model", default="embedded", help="`embedded`, a whole model's folder, or random:org/name"
    )
    asked.add_argument("--output-dir", type=Path, default=MEASURED)
    asked.add_argument(
        "--quick", action="store_true", help="does it run? Smallest sizes: figures mean nothing"
    )
    return asked


def parsed(asked: argparse.ArgumentParser, quick: Mapping[str, object]) -> argparse.Namespace:
    """Parse the options; --quick takes defaults from `quick` and does not overwrite measured files."""
    if "--quick" in sys.argv[1:]:
        asked.set_defaults(**{"output_dir": QUICK} | quick)
    given = asked.parse_args()
    given.busy_before = machine.busy()
    return given


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print aligned columns: the first to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    for row in cells:
        aligned = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(aligned).rstrip())


def save(name: str, given: argparse.Namespace, settings: Mapping[str, object], figures: object) -> None:
    """Write NAME.json: the command, its options, the machine, the figures."""
    given.output_dir.mkdir(parents=True, exist_ok=True)
    file = given.output_dir / f"{name}.json"
    written = {
        "name": name,
        "command": " ".join(["python", *sys.argv]),
        "quick": given.quick,
        "machine": machine.facts(),
        "settings": {key: str(v) if isinstance(v, Path) else v for key, v in vars(given).items()}
        | dict(settings),
        "figures": figures,
    }
    file.write_text(json.dumps(written, indent=1) + "\n")
    print(f"\n{file}")
    if given.busy_before > QUIET:
        print(f"warning: {given.busy_before:.0%} of the machine was busy before this began: measure again")


def gigabytes(count: float) -> str:
    """Format bytes as gigabytes."""
    return f"{count / 1e9:.2f} GB"
