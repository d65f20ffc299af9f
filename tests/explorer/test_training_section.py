"""The training section in a real browser: health lights, shared pointer and zoom, constants, overlays, card."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from harken.explorer.build import build_report
from harken.explorer.page_inputs import PageInputs
from harken.explorer.page_training import overlay_data

STEPS = 60
CARD: dict[str, Any] = {
    "status": "weak", "verdict": "Use it with care: <b>it prefers length</b>.",
    "accuracy": {"pairs": 200, "share": 0.71, "low": 0.64, "high": 0.77},
    "calibration": {
        "pairs": 200, "ece": {"error": 0.08, "null_high": 0.05}, "temperature": 1.6,
        "bins": [
            {"pairs": 100, "confidence": 0.6, "accuracy": 0.55, "low": 0.45, "high": 0.64},
            {"pairs": 50, "confidence": 0.9, "accuracy": 0.8, "low": 0.67, "high": 0.89},
        ],
    },
    "slices": {"domain": {"code": {"pairs": 90, "share": 0.7, "low": 0.6, "high": 0.79}}},
    "baselines": {"length": {"share": 0.66, "difference": {"mean": 0.05, "low": -0.01, "high": 0.11}}},
    "probes": [
        {
            "name": "padded", "description": "adds a closing line", "pairs": 80,
            "change": {"mean": 0.4, "low": 0.3, "high": 0.5},
            "flips": {"pairs": 80, "share": 0.2, "low": 0.13, "high": 0.3},
        }
    ],
    "faults": [{"name": "length", "sentence": "It prefers longer responses.", "fix": "collect pairs of like length"}],
    "warnings": [{"what": "Few pairs.", "fix": "collect more"}],
    "model": {},
    "rows": {
        "pairs": 90, "rule": "30 of 90 pairs.",
        "rows": [
            {
                "id": f"p{i}", "prompt": f"Prompt <b>{i}</b>", "preferred": "good", "other": "bad\u202e",
                "rewards": [1.0 + i, 2.5], "margin": i - 1.5, "slices": {"domain": "code" if i % 2 else "prose"},
                "edits": {"padded": {"change": 0.1 * i, "wins": i == 5}} if i >= 4 else {},
            }
            for i in range(30)
        ],
    },
}  # fmt: skip


def lines(slope: float) -> list[dict[str, Any]]:
    """A PPO run whose KL passes the alarm, whose entropy is positive and whose learning rate is constant."""
    return [
        {
            "step": i, "reward/mean": slope * i, "kl/mean": 0.5 * i, "policy/entropy": 2 / i, "kl/coef": 0.05,
            "policy/clipfrac": 0.1 + 0.01 * (i % 3), "response/cap_hit": 0.0,
        }
        for i in range(1, STEPS + 1)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    config = {"config": {"training": {"type": "ppo"}}}
    info = {
        "one": {**config, "title": "PPO: one"},
        "two": {**config, "title": "PPO: two"},
        "rm": {"config": {"training": {"type": "reward"}}, "card": CARD},
    }
    metrics = {"one": lines(0.1), "two": lines(0.2)}
    more = {
        "stage_metrics": metrics,
        "stage_info": info,
        "overlays": overlay_data([(name, "ppo", found) for name, found in metrics.items()]),
        "sections": [
            {
                "id": "reward-model",
                "title": "Reward model",
                "blocks": [{"kind": "text", "text": "All of it."}],
            }
        ],
    }
    return build_report(tmp_path_factory.mktemp("training") / "report.html", PageInputs(**run | more))


@pytest.fixture
def opened(browser, page):
    browser.open(page)
    browser.value("document.querySelector('#stage-one .plot').scrollIntoView()")
    browser.wait("document.querySelector('#stage-one .canvas').dataset.yTicks")
    return browser


def texts(browser, selector: str) -> list[str]:
    return browser.value(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.textContent)")


def figure(title: str) -> str:
    """An expression for the figure of the first stage with this title."""
    named = f"f.querySelector('h4').textContent === {json.dumps(title)}"
    return f"[...document.querySelectorAll('#stage-one figure')].find((f) => {named})"


def test_a_light_has_a_shape_and_opens_findings_with_their_fixes(opened) -> None:
    assert opened.value("document.querySelectorAll('.lights button').length") == 3
    assert (
        texts(opened, ".lights .sign")[:2] == ["■", "■"] and "unhealthy" in texts(opened, ".lights button")[0]
    )
    opened.value("document.querySelector('.lights button').click()")
    opened.wait("document.querySelector('.findings li') !== null")
    found = texts(opened, ".findings li")
    assert any("KL from the reference" in text and "Fix:" in text and "step" in text for text in found)
    assert opened.value("document.querySelector('.lights button').ariaExpanded") == "true"


def test_a_metric_that_never_changes_is_a_line_of_text(opened) -> None:
    constants = texts(opened, "#stage-one .constants li")
    assert any("0.050" in text and "at every point" in text for text in constants)
    titles = texts(opened, "#stage-one figure h4")
    assert "Reward" in titles and not [t for t in titles if any(c.startswith(t) for c in constants)]


def test_all_charts_of_a_stage_share_the_pointer(opened) -> None:
    opened.value(
        f"{figure('Reward')}.querySelector('.plot').dispatchEvent(new KeyboardEvent('keydown', {{key: 'ArrowLeft'}}))"
    )
    opened.value(
        f"{figure('Reward')}.querySelector('.plot').dispatchEvent(new KeyboardEvent('keydown', {{key: 'ArrowLeft'}}))"
    )
    opened.wait(
        f"{figure('KL from the reference')}.querySelector('.readout').textContent.includes('update 59')"
    )
    assert f"{0.5 * 59:.1f}" in opened.value(
        f"{figure('KL from the reference')}.querySelector('.readout').textContent"
    )
    assert texts(opened, "#stage-two .readout")[0].startswith("last")


def positions(browser, title: str) -> list[list[float]]:
    return json.loads(browser.value(f"{figure(title)}.querySelector('.canvas').dataset.xPositions"))


def test_the_zoom_is_shared_and_can_be_undone(opened) -> None:
    before = positions(opened, "Reward")
    opened.value(
        "(() => { const f = document.querySelectorAll('#stage-one .controls input[type=number]')[0];"
        "f.value = '41'; f.dispatchEvent(new Event('change')); })()"
    )
    opened.wait(
        f"{figure('Reward')}.querySelector('.canvas').dataset.xPositions !== {json.dumps(json.dumps(before))}"
    )
    at = dict(positions(opened, "Reward"))
    assert at[1] < 0 and abs(at[41]) < 1
    opened.value("document.querySelector('#stage-one .controls button').click()")
    opened.wait(
        f"Math.abs(JSON.parse({figure('Reward')}.querySelector('.canvas').dataset.xPositions)[0][1]) < 1"
    )


def standing_box(opened, element: str) -> list[float]:
    """Left, top, width and height of an element in the middle of the screen, once charts near it are drawn."""
    opened.value(f"{element}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    place = f"(() => {{ const r = {element}.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; }})()"
    before = None
    for _ in range(50):
        time.sleep(0.2)
        if (box := opened.value(place)) == before and 0 < box[1] < opened.value("innerHeight") - box[3]:
            return box
        before = box
    raise AssertionError(f"it does not stand still: {before}")


def test_a_drag_zooms(opened) -> None:
    box = standing_box(opened, f"{figure('Reward')}.querySelector('.u-over')")
    left, top, width, height = box
    y = top + height / 2
    for kind, x, buttons in (
        ("mouseMoved", left + 0.5 * width, 0),
        ("mousePressed", left + 0.5 * width, 1),
        ("mouseMoved", left + 0.7 * width, 1),
        ("mouseMoved", left + 0.9 * width, 1),
        ("mouseReleased", left + 0.9 * width, 0),
    ):
        opened.call(
            "Input.dispatchMouseEvent",
            {"type": kind, "x": x, "y": y, "button": "left" if kind != "mouseMoved" else "none",
             "buttons": buttons, "clickCount": 1},
        )  # fmt: skip
    opened.wait("!document.querySelector('#stage-one .controls button').disabled")
    assert 20 <= int(opened.value("document.querySelector('#stage-one input[type=number]').value")) <= 40


def test_a_logarithmic_axis_has_its_own_ticks_and_smoothing_keeps_the_chart(opened) -> None:
    opened.value("document.querySelector('#stage-one .controls input[type=checkbox]').click()")
    canvas = f"{figure('Entropy')}.querySelector('.canvas')"
    opened.value(f"{canvas}.scrollIntoView()")
    opened.wait(f"({canvas}.dataset.yTicks || '').includes('0.05')")
    ticks = json.loads(opened.value(f"{canvas}.dataset.yTicks"))
    values = [float(label) for label, _ in ticks]
    assert max(values) / min(values) >= 10
    opened.value(
        "(() => { const f = document.querySelector('#stage-one input[type=range]'); f.value = '0.9';"
        "f.dispatchEvent(new Event('input')); })()"
    )
    opened.wait("document.querySelector('#stage-one .controls .value').textContent === '0.90'")
    assert opened.value(f"{canvas}.querySelectorAll('canvas').length") == 1


def test_several_runs_are_overlaid_and_each_can_be_hidden(opened) -> None:
    keys = "document.querySelectorAll('#overlay-ppo figure:first-of-type .readout .key').length"
    assert opened.value(keys) == 2
    opened.value("document.querySelector('#overlay-ppo .runs input').click()")
    opened.wait(f"{keys} === 1")
    assert "two" in texts(opened, "#overlay-ppo .readout")[0]


def test_a_threshold_out_of_reach_is_said_in_words(opened) -> None:
    assert "alarm at 50.0 %" in opened.value(f"{figure('Clipped ratios')}.textContent")


def test_the_values_of_a_chart_are_a_table_too(opened) -> None:
    opened.value(f"{figure('Reward')}.querySelector('details').open = true")
    opened.wait(f"{figure('Reward')}.querySelector('td') !== null")
    assert opened.value(f"{figure('Reward')}.querySelectorAll('tbody tr').length") == STEPS


def test_the_card_of_a_reward_model_is_drawn(opened) -> None:
    text = texts(opened, "#reward-model")[0]
    for part in ("71.0 %", "64.0 % to 77.0 %", "<b>it prefers length</b>", "It prefers longer", "Fix: collect pairs",
                 "domain code", "adds a closing line", "+0.400", "All of it."):  # fmt: skip
        assert part in text, part
    assert opened.value("document.querySelectorAll('.reliability circle').length") == 2
    heights = opened.value(
        "[...document.querySelectorAll('.reliability circle')].map((c) => Number(c.getAttribute('cy')))"
    )
    assert heights[0] > heights[1]  # 55 % right lies below 80 %


def test_a_number_of_the_card_leads_to_its_pairs(opened) -> None:
    """Of a slice: the lowest margin first; of an edit: the pairs it wins first."""
    opened.value("document.querySelector('#reward-model table button.rows').click()")
    opened.wait("document.querySelector('.cardrows') !== null")
    assert "domain: code" in texts(opened, ".cardrows h4")[0]
    assert "15 of 90 pairs" in texts(opened, ".cardrows .small")[0]
    own = texts(opened, ".cardrows li > p.small")
    assert len(own) == 10 and "ranked wrong" in own[0] and "p1" in own[0] and "ranked right" in own[1]
    assert texts(opened, ".cardrows .asked")[0] == "Prompt <b>1</b>"
    assert "U+202E" in texts(opened, ".cardrows .said")[1]
    opened.value("document.querySelector('.cardrows ol + button').click()")
    opened.wait("document.querySelectorAll('.cardrows li').length === 15")
    script = (
        "[...document.querySelectorAll('#reward-model table')].at(-1).querySelector('button.rows').click()"
    )
    opened.value(script)
    opened.wait("document.querySelector('.cardrows h4').textContent.includes('padded')")
    first = texts(opened, ".cardrows li > p.small")[0]
    assert "p5" in first and "by +0.50 sd and wins the pair" in first
    opened.value("document.querySelector('.cardrows .bar button').click()")
    opened.wait("document.querySelector('.cardrows') === null")
