"""The same command twice: every file the same, byte for byte, but for measured seconds and the checksums over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kill import stages
from kill.children import differences, tree
from read_page import read_page

from harken.run.checksums import CHECKSUMS

TIMED = ("seconds", "time/", "tokens_per_second")


def without_seconds(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith(TIMED)} for line in lines]


def page_without_seconds(path: Path) -> dict[str, Any]:
    """The page's data without measured durations."""
    data = read_page(path)
    data["made"].pop("duration")
    for stage in data["stages"]:
        stage["state"].pop("seconds")
    return data


def test_a_pipeline_twice_gives_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one folder, for its path is in the manifests; SOURCE_DATE_EPOCH sets the time they tell."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    (world := tmp_path / "world").mkdir()
    stages.make_world(world)
    work, out, first = stages.work(world, "pipeline"), tmp_path / "out", tmp_path / "first"
    work(out)
    out.rename(first)
    work(out)
    names = tree(first)
    assert len(names) > 60
    odd = {name for name in differences(names, tree(out)) if not name.endswith(CHECKSUMS)}
    metrics = {f"{stage}/metrics.jsonl" for stage in ("01_sft", "02_rm", "03_ppo")}
    page = "05_report/report.html"
    assert odd <= metrics | {"results.json", page}
    assert page_without_seconds(first / page) == page_without_seconds(out / page)
    for name in metrics:
        assert without_seconds(first / name) == without_seconds(out / name)
    before, after = (json.loads((folder / "results.json").read_text()) for folder in (first, out))
    assert before | {"seconds": None} == after | {"seconds": None} and before["seconds"].keys() == {
        "sft", "reward", "ppo",
    }  # fmt: skip
