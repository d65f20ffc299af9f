"""Build the report: one HTML file that works offline and never runs text as code.

The data are embedded as gzip + base64, so no response can close a tag. Text is rendered only as text nodes. The script
and the style are built from `web/` and committed in `static/`.
A content security policy allows this script and this style, by their hashes, and nothing else: no connections, frames,
forms, or images other than `data:`.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from harken.explorer.page_data import page_data
from harken.explorer.page_inputs import PageInputs
from harken.run import atomic


def build_report(
    out: Path,
    inputs: PageInputs,
    write: Callable[[Path, str, Mapping[str, Any]], object] | None = None,
) -> Path:
    """Write the page to `out` and return it. The same inputs give the same bytes.

    `write` writes the page of a title and its data; by default it is one file (`shards.write_split_page`: several).
    Raises ValueError if a number is NaN or infinite.
    """
    data = page_data(inputs)
    (write or _write_one_file)(out, data["title"], data)
    return out


def _write_one_file(out: Path, title: str, data: Mapping[str, Any]) -> None:
    atomic.write_text(out, page(title, data))


def page(title: str, data: Mapping[str, Any], *, shards: bool = False) -> str:
    """Return the HTML text of the page for the data of `page_data`. With `shards` it may load local scripts."""
    style, script = static("explorer.css"), static("explorer.js")
    self_source = " 'self'" if shards else ""
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'{self_source}; style-src '{_hash(style)}'; img-src data:; "
        "worker-src blob:; connect-src 'none'; base-uri 'none'; form-action 'none'; object-src 'none'"
    )
    content = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "data": packed(data),
        "script": script,
    }
    return re.sub(r"<!--(\w+)-->", lambda match: content[match[1]], static("report.html"))


def packed(data: Mapping[str, Any]) -> str:
    """Encode JSON as gzip without a timestamp and base64. Raises ValueError on NaN and infinities."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 9, mtime=0)).decode("ascii")


def static(name: str) -> str:
    """Read a static file of the page."""
    return (files("harken.explorer") / "static" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
