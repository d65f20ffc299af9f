"""The page by the rules of axe (WCAG 2.2 A and AA), in light and dark, and what each number leads to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harken.explorer.build import build_report
from harken.explorer.page_inputs import PageInputs

AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    return build_report(tmp_path_factory.mktemp("axe") / "report.html", PageInputs(**run))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation(browser, page, theme, width) -> None:
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: `make web` installs it")
    browser.open(page)
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.call(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    )
    browser.value("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    browser.value(AXE.read_text() + "; true")
    options = json.dumps({"runOnly": RULES})
    browser.value(
        f"axe.run(document, {options}).then((found) => {{ window.found = found; }},"
        "(error) => { window.found = String(error); }); true"
    )
    browser.wait("window.found !== undefined", 60)
    violations = browser.value(
        "window.found.violations.map((v) => [v.id, v.nodes.length, v.nodes[0].html.slice(0, 200),"
        "v.nodes[0].failureSummary])"
    )
    assert violations == [], json.dumps(violations, indent=1)
    assert browser.value("window.found.passes.length") > 20


def test_the_rows_behind_a_number_are_shown(browser, page, run) -> None:
    """A cell of the comparison leads to exactly the prompts that it counts."""
    browser.open(page)
    pairs = run["summary"]["pairs"]
    browser.value("document.querySelector('#comparison table:has(.counts) .counts button').click()")
    browser.wait("location.hash.includes('pair@')")
    assert f"f.pair@{pairs[0]['left']}>{pairs[0]['right']}=win" in browser.value(
        "decodeURIComponent(location.hash)"
    )
    browser.wait(f"Number(document.querySelector('.rail').dataset.count) === {pairs[0]['wins']}")


def test_the_page_opens_with_a_sentence_three_numbers_and_an_example(browser, run, tmp_path) -> None:
    numbers = [
        {"label": f"number {i}", "value": f"+{i}.0", "detail": "of 24", "filter": {"flag": "cap_hit", "policy": "PPO"}}
        for i in range(4)
    ]  # fmt: skip
    made = {"when": "2026-01-02T03:04:05Z", "duration": 7260, "device": "cpu", "settings": [["seed", "1"]]}
    browser.open(build_report(tmp_path / "p.html", PageInputs(**run, numbers=numbers, made=made)))
    assert browser.value("document.querySelectorAll('.main-numbers .large').length") == 3
    assert browser.value("document.querySelectorAll('.first .answer').length") == 3
    card = browser.value("document.querySelector('.runcard').textContent")
    assert "2026-01-02 03:04 UTC" in card and "2 h 1 min" in card and "cpu" in card
    browser.value("document.querySelector('.main-numbers button').click()")
    browser.wait("location.hash === '#f.flag=cap_hit@PPO'")
    capped = sum(row["cap_hit"] for row in run["responses"] if row["policy"] == "PPO")
    browser.wait(f"Number(document.querySelector('.rail').dataset.count) === {capped}")
