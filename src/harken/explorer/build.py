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
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from harken.explorer.page_data import page_data
from harken.explorer.page_examples import Audited, Rows
from harken.run import atomic
from harken.run.manifest import redact_text
from harken.run.terminal import escape_invisible

NOTHING: Mapping[Any, Any] = MappingProxyType({})


def build_report(
    out: Path,
    *,
    title: str,
    notice: str,
    summary: Mapping[str, Any] | None,
    responses: Rows,
    stage_metrics: Mapping[str, Rows],
    stage_info: Mapping[str, Mapping[str, Any]],
    headline: Sequence[str],
    audited: Audited = NOTHING,
    flags: Mapping[str, str] = NOTHING,
    sections: Sequence[Mapping[str, Any]] = (),
    queues: Mapping[str, str] = NOTHING,
    numbers: Sequence[Mapping[str, Any]] = (),
    made: Mapping[str, Any] = NOTHING,
    trials: Mapping[str, Any] | None = None,
    overlays: Sequence[Mapping[str, Any]] = (),
    tokens: Mapping[str, Any] | None = None,
    checkpoints: Sequence[Mapping[str, Any]] = (),
    reward: str | None = None,
    write: Callable[[Path, str, Mapping[str, Any]], object] | None = None,
) -> Path:
    """Write the page to `out` and return it. The same arguments give the same bytes.

    `summary` comes from `compare.compare`, or is None for a page of training only; `responses` are the rows of
    `responses.parquet` it came from, `headline` the sentences of `verdict.headline`. `stage_metrics` has the lines
    of metrics.jsonl by stage. `stage_info` has facts by stage, all keys optional: "title", "config" (its
    training.type selects the charts, else the stage's name does), "data" (data reports), "charts" (further charts as
    page data), "lineage", "roles" and any others. `audited` is the result of `audit.audit` for the same rows and
    `flags` the meaning of each flag (`audit.FLAG_MEANINGS`); without them responses have no flags. `sections`
    are further sections of text and tables (`text_sections.text_sections`). `queues` are flags that are lists to read.
    `numbers` open the page (at most three); `made`, `trials`, `overlays`, `tokens` and `checkpoints` are parts of the
    page's data as `schema.json` describes them; `reward` names the number in the column reward. "card" (card.json),
    "status" (status.json) and "run" (the folder) in `stage_info` are shown in places of their own.
    `write` writes the page of a title and its data; by default it is one file (`shards.write_split_page`: several).
    Probable secrets are redacted.
    Raises ValueError if a number is NaN or infinite.
    """
    title, notice = (redact_text(escape_invisible(text)) for text in (title, notice))
    data = page_data(
        title=title,
        notice=notice,
        summary=summary,
        responses=responses,
        stage_metrics=stage_metrics,
        stage_info=stage_info,
        headline=headline,
        audited=audited,
        flags=flags,
        sections=sections,
        queues=queues,
        numbers=numbers,
        made=made,
        trials=trials,
        overlays=overlays,
        tokens=tokens,
        checkpoints=checkpoints,
        reward=reward,
    )
    (write or _write_one_file)(out, title, data)
    return out


def _write_one_file(out: Path, title: str, data: Mapping[str, Any]) -> None:
    atomic.write_text(out, page(title, data))


def page(title: str, data: Mapping[str, Any], *, shards: bool = False) -> str:
    """Return the HTML text of the page for the data of `page_data`. With `shards` it may load scripts beside it."""
    style, script = static("explorer.css"), static("explorer.js")
    own = " 'self'" if shards else ""
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'{own}; style-src '{_hash(style)}'; img-src data:; "
        "worker-src blob:; connect-src 'none'; base-uri 'none'; form-action 'none'; object-src 'none'"
    )
    parts = {
        "policy": policy,
        "title": html.escape(title),
        "style": style,
        "data": packed(data),
        "script": script,
    }
    return re.sub(r"<!--(\w+)-->", lambda part: parts[part[1]], static("report.html"))


def packed(data: Mapping[str, Any]) -> str:
    """Encode JSON as gzip without a timestamp and base64. Raises ValueError on NaN and infinities."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode("utf-8", "replace"), 9, mtime=0)).decode("ascii")


def static(name: str) -> str:
    """Read a static file of the page."""
    return (files("harken.explorer") / "static" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
