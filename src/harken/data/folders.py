"""Find the files of a folder or a pattern: the shards of one data set in the requested split."""

from __future__ import annotations

import glob
import re
from pathlib import Path

from harken.errors import UserError

SUFFIXES = (
    *(
        f"{kind}{packed}"
        for kind in (".jsonl", ".json", ".csv", ".tsv")
        for packed in ("", ".gz", ".xz", ".bz2")
    ),
    ".parquet",
    ".arrow",
)
_METADATA_FILES = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""Metadata files that `datasets` writes next to the rows."""
_SHARD = re.compile(r"[-_.]?\d+([-_]of[-_]\d+)?(-[0-9a-f]{6,})?$")
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "eval"),
    "test": ("test", "testing"),
}


def is_pattern(path: str) -> bool:
    """Return whether a path is a pattern such as `rows-*.jsonl`."""
    return any(letter in path for letter in "*?[")


def match_pattern(pattern: str) -> list[Path]:
    """Return the files that match a pattern, in order. Raises UserError when there is none."""
    matches = sorted(Path(name) for name in glob.glob(str(Path(pattern).expanduser()), recursive=True))
    files = [file for file in matches if file.is_file()]
    if not files:
        raise UserError(
            "no file matches this pattern",
            where=pattern,
            fix="check the folder with ls, and quote the pattern",
        )
    return files


def shards(folder: Path, split: str, path: str) -> list[Path]:
    """Return the files of a folder that hold one data set, in order.

    A folder saved by `datasets` is read by its splits. Among files named after splits, `split` chooses; files that
    differ only in a shard number belong together. Raises UserError for any other folder.
    """
    saved = folder / split if (folder / "dataset_dict.json").exists() else folder
    if saved != folder and not saved.is_dir():
        splits = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        raise UserError(
            f"it has no split {split!r}", where=path, fix=f"set data.split to one of: {', '.join(splits)}"
        )
    home = saved / "data" if not _data_files(saved) and (saved / "data").is_dir() else saved
    groups: dict[str, list[Path]] = {}
    for file in _data_files(home):
        groups.setdefault(_group(file), []).append(file)
    if len(groups) == 1:
        return next(iter(groups.values()))
    by_split = {
        known: files for name, files in groups.items() if (known := canonical_split(name)) is not None
    }
    if groups and len(by_split) == len(groups):
        name = canonical_split(split) or split
        if name in by_split:
            return by_split[name]
        raise UserError(
            f"it has no split {split!r}", where=path, fix=f"set data.split to one of: {', '.join(by_split)}"
        )
    names = [file.name for files in groups.values() for file in files]
    examples = f": {', '.join(names[:5])}{', …' if len(names) > 5 else ''}" if names else ""
    raise UserError(
        "this is a folder with files of different names" if names else "this is a folder without rows",
        where=path,
        fix=f"name a file in it{examples}, or a pattern such as '{path.rstrip('/')}/train-*.jsonl'"
        if names
        else f"name a file of rows ({', '.join(SUFFIXES[:3])}, …)",
    )


def canonical_split(name: str) -> str | None:
    """Return the canonical split name of a file's name; None for any other name."""
    return next((split for split, names in _SPLITS.items() if name.lower() in names), None)


def _data_files(folder: Path) -> list[Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if entry.is_file() and entry.name.lower().endswith(SUFFIXES) and entry.name not in _METADATA_FILES
    )


def _group(file: Path) -> str:
    name = file.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        name = name.removesuffix(suffix)
    return _SHARD.sub("", name)
