"""No file of a run folder is read without a bound, whatever lies under its name."""

from __future__ import annotations

import ast
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from harken.errors import UserError
from harken.run import (
    bounded_read,
    checkpoint,
    checksums,
    config_lock,
    json_io,
    manifest,
    shards,
    status,
    tables,
    tracking,
    trained_prompts,
)
from harken.run.folder import RunFolder
from harken.run.lock import LOCK, OWNER, write_lock

SOURCE = Path(bounded_read.__file__).parents[1]
SPARSE = 1 << 32
"""Bytes of a file that takes no room on the disk, and more memory than these tests may use."""


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(SPARSE)


KINDS: dict[str, Callable[[Path], object]] = {"sparse": sparse, "pipe": os.mkfifo, "folder": Path.mkdir}


def claimed(folder: Path) -> object:
    with write_lock(folder):
        return None


def made(path: Path) -> object:
    return shards.load_or_make_shard(path / "part.jsonl", lambda: [1])


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "an object": ("object.json", lambda folder: json_io.read_object(folder / "object.json")),
    "a list": ("list.json", lambda folder: json_io.read_list(folder / "list.json")),
    "lines": ("lines.jsonl", lambda folder: json_io.read_lines(folder / "lines.jsonl")),
    "a manifest": ("manifest.json", lambda folder: manifest.read_manifest(folder / "manifest.json")),
    "a configuration": ("config.yml", lambda folder: config_lock.read_locked_config(folder / "config.yml")),
    "a status": ("status.json", lambda folder: status.has_ended(RunFolder(folder))),
    "a seal": (checksums.CHECKSUMS, checksums.read_checksums),
    "trained prompts": (
        "trained_prompts.txt",
        lambda folder: trained_prompts.read_prompt_hashes(RunFolder(folder)),
    ),
    "metrics": ("metrics.jsonl", lambda folder: tracking.logged_lines(folder / "metrics.jsonl", 1)),
    "a shard": ("part.jsonl", made),
    "a table": ("rows.parquet", lambda folder: tables.read_rows(folder / "rows.parquet")),
    "an owner": (OWNER, claimed),
    "a checkpoint's manifest": ("MANIFEST.json", lambda folder: checkpoint.checkpoint_problem(folder)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_files_larger_than_any_run_writes_are_refused_unread(tmp_path: Path, reader: str, kind: str) -> None:
    name, read = READERS[reader]
    folder = tmp_path / "step-000001"
    folder.mkdir()
    KINDS[kind](folder / name)
    tracemalloc.start()
    try:
        response = read(folder)
    except (UserError, OSError) as error:
        assert len(str(error).splitlines()) == 1
        response = None
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 10_000_000
    assert response in (None, False, [1]) or str(response).startswith((name, "it is not a folder"))
    assert not (folder / LOCK).exists() or reader == "an owner"


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert bounded_read.read_bytes(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        bounded_read.read_bytes(tmp_path / "file", 4)


UNBOUNDED = {
    "explorer/build.py": "its own static files",
    "config/files.py": "its own presets",
    "review/page.py": "its own static files",
    "evaluation/audit/planted.py": "its own planted texts",
    "plan/rss.py": "the kernel's figures of this process",
    "run/hardware.py": "the kernel's description of the processor",
    "run/manifest.py": "its own source files",
    "reward/python_function.py": "a user's Python file, which is run",
}
"""Source files that read whole files of other kinds."""


def test_no_other_code_reads_a_whole_file() -> None:
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                ours = isinstance(owner, ast.Name) and owner.id == "bounded_read"
                if node.func.attr in ("read_text", "read_bytes") and not ours:
                    found.add(path.relative_to(SOURCE).as_posix())
    assert found == UNBOUNDED.keys()
