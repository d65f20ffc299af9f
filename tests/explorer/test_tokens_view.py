"""The token view in a real browser shows the numbers of `harken trace`, from the page and from a shard beside it."""

import json
import math
import re

import pytest
from ppo_stage import ppo_config
from recorded_run import record
from tiny import tiny_tokenizer

from harken.explorer.build import build_report
from harken.explorer.page_inputs import PageInputs
from harken.inspection.critic import critic_data
from harken.inspection.recorded import read_step
from harken.inspection.tokens import token_decoder, token_rows
from harken.inspection.trace_table import number

SERIES = {
    "logprob": "logprob_old", "new_logprob": "logprob_new", "ref_logprob": "logprob_reference", "ratio": "ratio",
    "advantage": "advantage", "return": "return", "value": "value", "kl": "kl", "reward": "reward",
}  # fmt: skip


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """The tokens of two responses of one recorded update, as `harken trace` lists them."""
    root = record(
        tmp_path_factory.mktemp("tokens") / "run",
        ppo_config(ppo={"gamma": 0.97, "lam": 0.9, "max_gen_len": 8}),
    )
    tiny_tokenizer().save_pretrained(root / "final")
    step = read_step(root, 3)
    decode, _ = token_decoder(step.run)
    return step, [token_rows(step, row, decode) for row in (0, 1)]


def rollout(step, row, tokens):
    def column(key):
        return [None if token[key] is None else float(token[key]) for token in tokens]

    ratios = column("ratio")
    return {
        "id": step.rollouts[row]["prompt_id"], "sample": 0, "row": row, "why": "", "prompt": "Why?", "messages": [],
        "score": step.rollouts[row]["reward"], "scores": {}, "stop": "end_of_turn",
        "pieces": [token["token"] for token in tokens], "ids": [token["token_id"] for token in tokens],
        "log_ratio": [None if ratio is None else math.log(ratio) for ratio in ratios],
        "entropy": [None] * len(tokens),
        "clipped": [None if t["clipped"] is None else int(t["clipped"]) for t in tokens],
        "sampled": [int(token["policy_mask"]) for token in tokens],
        **{name: column(key) for name, key in SERIES.items() if name != "ratio"},
    }  # fmt: skip


def tokens(traced, shard=None):
    step, rows = traced
    rollouts = [rollout(step, row, found) for row, found in enumerate(rows)]
    here = {"stage": "ppo", "step": 3, "recorded": len(step.rollouts)}
    where = {"rollouts": [], "files": [shard]} if shard else {"rollouts": rollouts, "files": []}
    return {"shards": bool(shard), "rule": "Two responses.", "steps": [here | where]}, rollouts


def opened_at(browser, page, address):
    browser.open(page, address)
    browser.wait("document.querySelector('.tokens') !== null")


def shown(browser, series):
    return browser.value(f"document.querySelector('.token-numbers [data-series={series}] dd')?.textContent")


def test_the_numbers_are_those_of_the_trace(browser, run, traced, tmp_path):
    data, _ = tokens(traced)
    opened_at(
        browser, build_report(tmp_path / "p.html", PageInputs(**run, tokens=data)), "#tokens=ppo,3,1,kl"
    )
    rows = traced[1][1]
    assert browser.value("document.querySelectorAll('.tokens .token').length") == len(rows)
    assert browser.value("[...document.querySelectorAll('.tokens .token')].map((t) => t.dataset.number)") == [
        number(token["kl"]).strip() for token in rows
    ]
    assert browser.value("document.querySelector('.legend').textContent[0]") == "−"
    browser.value("document.querySelector('.tokens').focus()")
    browser.press("Home")
    for token in rows:
        for series, key in SERIES.items():
            expected = number(token[key]).strip().replace("-", "−")
            assert shown(browser, series) == (None if expected == "—" else expected), (
                token["position"],
                series,
            )
        browser.press("ArrowRight")
    # The colours and the line follow the chosen series, and the address too.
    browser.value("document.querySelector('[data-series=advantage]').click()")
    assert "tokens=ppo,3,1,advantage" in browser.value("location.hash")
    signs = browser.value(
        "[...document.querySelectorAll('.tokens .token')].map((t) => t.className.split(' ')[1])"
    )
    assert signs == ["more" if t["advantage"] > 0 else "less" if t["advantage"] < 0 else "zero" for t in rows]


def test_values_are_drawn_against_returns(browser, run, traced, tmp_path):
    """S0-12: a point for each group of tokens, where its mean value and mean return are."""
    data, _ = tokens(traced)
    critic = critic_data(traced[0])
    data["steps"][0]["critic"] = critic
    opened_at(
        browser, build_report(tmp_path / "p.html", PageInputs(**run, tokens=data)), "#tokens=ppo,3,1,kl"
    )
    script = """[...document.querySelectorAll(".critic circle")].map((point) =>
      [Number(point.getAttribute("cx")), Number(point.getAttribute("cy"))])"""
    points = browser.value(script)
    numbers = [one[key] for one in critic["bins"] for key in ("value", "return", "low", "high")]
    ticks = browser.value("[...document.querySelectorAll('.critic text')].map((t) => t.textContent)")[:-1:2]
    low, span = (float(tick.replace("−", "-")) for tick in (ticks[0], ticks[-1]))
    assert low <= min(numbers) and max(numbers) <= span
    span -= low
    assert len(points) == len(critic["bins"])
    for (x, y), one in zip(points, critic["bins"], strict=True):
        assert x == pytest.approx(46 + (one["value"] - low) / span * 362, abs=0.01)
        assert y == pytest.approx(224 - (one["return"] - low) / span * 214, abs=0.01)
    caption = browser.value("document.querySelector('.critic figcaption').textContent")
    assert f"{critic['tokens']} tokens" in caption
    assert f"variance {critic['explained']:.3f}".replace("-", "−") in caption


def test_a_shard_beside_the_page_is_read_when_it_is_shown(browser, run, traced, tmp_path):
    data, rollouts = tokens(traced, "shards/ppo-3.js")
    page = build_report(tmp_path / "p.html", PageInputs(**run, tokens=data))
    # The policy of a page with shards lets the page's own folder in.
    page.write_text(
        re.sub(r"script-src ('sha256-[^']+')", r"script-src \1 'self'", page.read_text(), count=1)
    )
    browser.open(page, "#tokens=ppo,3,0,reward")
    browser.wait("document.querySelector('#tokens .message').textContent.includes('is not beside this page')")
    (tmp_path / "shards").mkdir()
    content = json.dumps(["shards/ppo-3.js", json.dumps(rollouts)])
    (tmp_path / "shards" / "ppo-3.js").write_text(f"(window.harkenShards ??= []).push({content});\n")
    opened_at(browser, page, "#tokens=ppo,3,0,reward")
    assert browser.value("[...document.querySelectorAll('.tokens .token')].map((t) => t.dataset.number)") == [
        number(token["reward"]).strip() for token in traced[1][0]
    ]
