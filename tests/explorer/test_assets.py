"""The committed script and style are those that the sources in web/ give, and the types are those of the schema."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB, STATIC = ROOT / "web", ROOT / "src" / "harken" / "explorer" / "static"
ASSETS = ("explorer.js", "explorer.css", "review.js", "review.css")


def need_node() -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed, so the pages cannot be built from web/")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout.strip()
    wanted = json.loads((WEB / "package.json").read_text())["engines"]["node"].removeprefix(">=")
    if [int(n) for n in version.removeprefix("v").split(".")[:2]] < [int(n) for n in wanted.split(".")]:
        pytest.skip(f"node {version} is installed, and the pages are built with {wanted} or newer")
    if not (WEB / "node_modules").is_dir():
        pytest.skip("web/node_modules is missing: `make web` installs it")


def run(*command: str, **environment: str) -> None:
    done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_the_types_are_those_of_the_schema(tmp_path: Path) -> None:
    need_node()
    run("node", "scripts/contract.mjs", str(tmp_path / "contract.d.ts"))
    assert (tmp_path / "contract.d.ts").read_text() == (WEB / "src" / "contract.d.ts").read_text(), (
        "run `make web`"
    )


def test_the_sources_give_the_committed_bytes(tmp_path: Path) -> None:
    need_node()
    run("node", "scripts/build.mjs", HARKEN_ASSETS=str(tmp_path))
    for name in ASSETS:
        assert (tmp_path / name).read_bytes() == (STATIC / name).read_bytes(), f"{name}: run `make web`"


def test_the_logic_of_the_pages() -> None:
    """The tests beside the TypeScript sources."""
    need_node()
    run("npx", "vitest", "run")
