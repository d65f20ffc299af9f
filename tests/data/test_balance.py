"""Equally many training rows of each domain or language."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from harken.config.base import DataConfig
from harken.data import sources
from harken.errors import UserError


def write(folder: Path) -> str:
    """Twelve rows of code, six of chat, three of math; every other one is German."""
    domains = ["code"] * 12 + ["chat"] * 6 + ["math"] * 3
    rows = [
        {"prompt": f"Ask {i}", "domain": name, "language": "de" if i % 2 else "en"}
        for i, name in enumerate(domains)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / "rows.jsonl")


def test_every_domain_has_as_many_rows_as_the_smallest(tmp_path: Path) -> None:
    """S0-17."""
    data = DataConfig(path=write(tmp_path), balance="domain")
    rows, _, (report,) = sources.load_split(data, sources.load_prompts, 1)
    assert Counter(row.domain for row in rows) == {"code": 3, "chat": 3, "math": 3}
    assert report.dropped["over_balance"] == 12 and report.raw == report.kept + 12
    numbers = [int(row.messages[0].content.split()[1]) for row in rows]
    assert numbers == sorted(numbers)
    again, other = (sources.load_split(data, sources.load_prompts, seed)[0] for seed in (1, 2))
    assert again == rows != other


def test_the_limit_is_shared_and_held_out_rows_stay(tmp_path: Path) -> None:
    path = write(tmp_path)
    data = DataConfig(path=path, balance="language", limit=7, eval_path=path, eval_limit=21)
    rows, held_out, _ = sources.load_split(data, sources.load_prompts, 1)
    assert Counter(row.language for row in rows) == {"en": 3, "de": 3}
    assert len(held_out) == 21
    aside = DataConfig(path=path, balance="domain", eval_fraction=0.4)
    rows, held_out, _ = sources.load_split(aside, sources.load_prompts, 1)
    assert len(set(Counter(row.domain for row in rows).values())) == 1 and len(held_out) == 8


def test_rows_of_one_group_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    data = DataConfig(path=str(tmp_path / "rows.jsonl"), balance="domain")
    with pytest.raises(UserError, match=r"data.balance: all rows have the domain ''\. Fix: name the column"):
        sources.load_split(data, sources.load_prompts, 1)
