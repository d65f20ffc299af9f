"""The page of a large evaluation stays within its budgets; a smaller one of the same kind is measured here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from explorer.large_page import evaluation, measure

from harken.explorer.build import build_report, static
from harken.explorer.page_inputs import PageInputs

FULL = 2017
"""Prompts for which the budgets are stated; `benchmarks/page.py` measures them."""
MAX_FILE, MAX_SCRIPT = 8_000_000, 250_000


def test_the_script_is_within_its_budget() -> None:
    assert len(static("explorer.js").encode()) <= MAX_SCRIPT


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_report(tmp_path_factory.mktemp("large") / "report.html", PageInputs(**evaluation(60)))


def test_the_size_of_a_page_grows_with_its_responses_within_the_budget(page: Path) -> None:
    assets = sum(len(static(name).encode()) for name in ("explorer.js", "explorer.css", "report.html"))
    assert assets + (page.stat().st_size - assets) * FULL / 60 <= MAX_FILE


def test_a_page_makes_no_request(browser: Any, page: Path) -> None:
    found = measure(browser, page, boxes=2)
    assert found["requests"] == []
    assert found["open_ms"] < 10_000, "five times the budget, because tests share their processor"


@pytest.mark.nightly
def test_the_full_page_is_within_its_budgets(browser: Any, tmp_path: Path) -> None:
    page = build_report(tmp_path / "report.html", PageInputs(**evaluation(FULL)))
    assert page.stat().st_size <= MAX_FILE
    found = measure(browser, page)
    assert found["requests"] == [] and found["open_ms"] < 6_000 and found["filter_ms"][-1] < 500
