"""Write a page with its large parts in separate files: index.html and shards/*.js.

A page that is opened from the disk may not fetch files, but it may load scripts. Each shard is a script that adds its
name and the JSON of its content, as text, to a list of the page: it contains no other code, and the page parses the
text. The page's policy therefore also allows scripts from its own place ('self'), which a page in one file does not
need.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.explorer.build import page
from harken.run import atomic
from harken.run.manifest import redact_text
from harken.run.terminal import escape_invisible

SHARDS = "shards"
EXAMPLES_PER_SHARD = 1000


def write_split_page(
    out: Path,
    title: str,
    data: Mapping[str, Any],
    steps: Iterable[Mapping[str, Any]] = (),
    late_notice: Callable[[], str] = str,
) -> Path:
    """Write the page to `out` and its shards to the folder `shards` beside it, which is replaced. Returns `out`.

    `data` comes from `page_data.page_data`; its examples move to shards. `steps` replace data["tokens"]["steps"]: each
    has its rollouts, which move to one shard, so that only one update is in memory at a time. `late_notice` returns
    what to add to the notice once all steps were read.
    Raises ValueError if a number is NaN or infinite.
    """
    folder = out.parent / SHARDS
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    written_steps = [_write_step(out.parent, step, number) for number, step in enumerate(steps)]
    examples: Sequence[Any] = data["examples"]
    parts = [
        _write_shard(out.parent, f"examples-{start:06d}", examples[start : start + EXAMPLES_PER_SHARD])
        for start in range(0, len(examples), EXAMPLES_PER_SHARD)
    ]
    rule = "Every recorded update with all its rollouts." if written_steps else ""
    tokens = {"shards": bool(written_steps), "rule": rule, "steps": written_steps}
    added_notice = redact_text(escape_invisible(late_notice()))
    notice = " ".join(sentence for sentence in (data["notice"], added_notice) if sentence)
    split = {**data, "notice": notice, "examples": [], "parts": parts, "tokens": tokens}
    atomic.write_text(out, page(title, split, shards=True))
    return out


def _write_step(root: Path, step: Mapping[str, Any], index: int) -> dict[str, Any]:
    stage = re.sub(r"[^\w.-]+", "-", step["stage"], flags=re.ASCII)[:40]
    name = f"tokens-{index:06d}-{stage}-{step['step']:06d}"
    return {**step, "rollouts": [], "files": [_write_shard(root, name, step["rollouts"])]}


def _write_shard(root: Path, name: str, value: object) -> str:
    """Write a shard and return its name relative to the page."""
    path = f"{SHARDS}/{name}.js"
    content = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    # ASCII-only JSON is also JavaScript, so no text of a response can end the string.
    atomic.write_text(
        root / path, f"(window.harkenShards??=[]).push([{json.dumps(path)},{json.dumps(content)}]);\n"
    )
    return path
