"""Write the diagram of layers from pyproject.toml to docs/architecture.md; --check only compares.

python scripts/layers.py            # rewrite the diagram
python scripts/layers.py --check    # exit code 1 if it is outdated
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN = "<!-- layers: written by scripts/layers.py -->"
END = "<!-- /layers -->"


def layers(pyproject: str) -> list[list[str]]:
    """Read the layers of the import contract, highest first; modules of one layer do not import each other."""
    contracts = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    contract = next(c for c in contracts if c["type"] == "layers")
    return [[name.strip() for name in re.split(r"[|:]", layer)] for layer in contract["layers"]]


def diagram(pyproject: str) -> str:
    """Return one line per layer, highest first."""
    return "\n".join(["```", *(" | ".join(layer) for layer in layers(pyproject)), "```"])


def insert(page: str, text: str) -> str:
    """Return the page with the text between its two markers."""
    before, _, rest = page.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise SystemExit(f"{PAGE}: the markers are missing. Fix: add the lines {BEGIN} and {END}.")
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


def main() -> int:
    """Rewrite the diagram, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="only compare; exit code 1 if outdated")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    wanted = insert(page, diagram((ROOT / "pyproject.toml").read_text(encoding="utf-8")))
    if page == wanted:
        return 0
    if check:
        print(
            f"{PAGE}: the diagram of layers is not up to date. Fix: python scripts/layers.py", file=sys.stderr
        )
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
