"""The rater's page in Chromium: two raters in parallel, the server killed mid-vote, and votes to a model."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from explorer.conftest import PAYLOADS, Browser
from review.reviewed import Served, attentive, write_responses
from tiny import save_tiny

from harken.cli.main import main
from harken.config import DataConfig
from harken.data.parse import parse_preference_rows
from harken.review.outcomes import outcome_of, unblind
from harken.review.page import pack_page
from harken.review.study import Study, read_study
from harken.review.votes import read_votes
from harken.run.folder import ReviewFolder

AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed to look at the page with")
    browser = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


class Tab:
    """One rater's tab."""

    def __init__(
        self, browser: Browser, url: str, ready: str = "document.querySelector('.pair, .finished')"
    ) -> None:
        self.browser = browser
        tab = browser.call("Target.createTarget", {"url": "about:blank"}, session=False)["targetId"]
        attached = browser.call("Target.attachToTarget", {"targetId": tab, "flatten": True}, session=False)
        self.session = attached["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable", {})
        self.call("Page.navigate", {"url": url})
        self.wait(ready)

    def call(self, method: str, given: dict[str, Any]) -> dict[str, Any]:
        self.browser._session = self.session
        return self.browser.call(method, given)

    def value(self, expression: str) -> Any:
        self.browser._session = self.session
        return self.browser.value(expression)

    def wait(self, condition: str, seconds: float = 15) -> None:
        self.browser._session = self.session
        self.browser.wait(f"!!({condition})", seconds)

    def press(self, key: str) -> None:
        """Bring the tab to the front, as a person does, and press a key."""
        self.call("Page.bringToFront", {})
        self.browser.press(key)

    @property
    def done(self) -> int:
        return int(self.value("document.querySelector('.progress span').textContent.split(' ')[0]"))

    def texts(self) -> list[str]:
        return self.value("[...document.querySelectorAll('.pair .said')].map(one => one.textContent)")

    def vote(self, key: str) -> None:
        before = self.done
        self.press(key)
        self.wait(f"document.querySelector('.progress span').textContent.startsWith('{before + 1} ')")


def side_of(study: Study, rater: str, done: list[str], texts: list[str]) -> str:
    """The key of an attentive rater for the texts on the screen."""
    task = next(task for task in study.tasks[rater] if task.id not in done)
    item = study.item_of(task)
    assert texts == list(item.texts if task.first_left else item.texts[::-1])
    done.append(task.id)
    wanted = attentive(rater, task, item)
    return "1" if outcome_of("left", task.first_left) == wanted else "2"


def test_two_raters_a_kill_undo_lock_unblind_export_and_training(chromium: Browser, tmp_path: Path) -> None:
    names = [f"{n}={p}" for n, p in zip(("base", "ours"), write_responses(tmp_path), strict=True)]
    settings = ["overlap=0.5", "gold=0.2", "reading_speed=1000000"]
    options = [
        "--raters",
        "anna,ben",
        "--items",
        "12",
        *(word for one in settings for word in ("--set", one)),
    ]
    server = Served([*names, *options, "--output-dir", str(tmp_path / "R")], tmp_path / "log")
    folder = ReviewFolder(tmp_path / "R")
    study = read_study(folder)
    tabs = {rater: Tab(chromium, server.url(rater)) for rater in study.tasks}
    done: dict[str, list[str]] = {rater: [] for rater in study.tasks}
    port = server.port

    def step(rater: str) -> None:
        tab = tabs[rater]
        tab.wait("document.querySelector('.pair')")
        tab.call("Page.bringToFront", {})  # seconds count only while the page is visible
        tab.value("void (window.began = performance.now())")
        tab.wait("performance.now() - window.began > 1050")  # a vote within a second is too fast for any text
        tab.vote(side_of(study, rater, done[rater], tab.texts()))

    for _ in range(3):
        for rater in study.tasks:
            step(rater)
    # Undo brings the item back.
    tab = tabs["anna"]
    before = tab.texts()
    tab.press("u")
    tab.wait("document.querySelector('.progress span').textContent.startsWith('2 ')")
    assert tab.texts() != before
    done["anna"].pop()
    step("anna")
    # The server is killed; the page keeps the vote and stores it when the server is back.
    server.kill()
    key = side_of(study, "anna", done["anna"], tab.texts())
    tab.press(key)
    tab.wait("document.querySelector('#problem').textContent.includes('not stored yet')")
    assert tab.value("[...document.querySelectorAll('.vote button')].every(one => one.disabled)")
    server = Served([str(tmp_path / "R")], tmp_path / "log2")
    assert server.port == port
    tab.wait("document.querySelector('.progress span').textContent.startsWith('4 ')", 20)
    assert tab.value("document.querySelector('#problem').textContent") == ""
    # The rest over the same wire, without the screen.
    for rater in study.tasks:
        while (task := server.state(rater)["task"]) is not None:
            known = next(one for one in study.tasks[rater] if one.id == task["id"])
            wanted = attentive(rater, known, study.item_of(known))
            choice = "left" if outcome_of("left", known.first_left) == wanted else "right"
            assert server.vote(rater, task=task["id"], choice=choice, strength=2, reasons=["clear"])[0] == 200
    tabs["ben"].call("Page.reload", {})
    tabs["ben"].wait("document.querySelector('.finished')")
    assert server.stop() == 0
    votes = read_votes(folder.votes, study.hash)
    assert [vote.choice for vote in votes].count("undo") == 1
    seconds = [vote.seconds for vote in votes if vote.client == "page" and vote.choice != "undo"]
    assert len(seconds) == 8 and sum(1.0 <= one < 60 for one in seconds) == 7  # one was given at once
    standing = unblind(study, votes)
    assert len(standing) == len(study.by_task)
    assert all(one.right_gold if one.item.gold is not None else one.outcome == "second" for one in standing)
    # Lock and unblind. All outcomes are equal: agreement cannot be told from chance.
    assert main(["review", "report", str(folder.root)]) == 0
    figures = json.loads(folder.report.read_text())
    (pair,) = figures["pairs"]
    assert (pair["wins"], pair["ties"], pair["losses"], pair["right"]) == (12, 0, 0, "ours")
    assert figures["headline"]["allowed"] is False
    assert [rater["gold"]["value"] for rater in figures["raters"] if rater["gold"]] == [1.0] * 2
    with pytest.raises(AssertionError, match="closed"):
        Served([str(folder.root)], tmp_path / "log3")
    # Export, and train a reward model on it.
    pairs = tmp_path / "pairs.jsonl"
    assert main(["review", "export", str(folder.root), "--out", str(pairs)]) == 0
    read, report = parse_preference_rows(DataConfig(path=str(pairs), task="preference"))
    assert len(read) == 12 and report.dropped == {}
    save_tiny(tmp_path / "model", hidden=16, layers=1)
    preset = tmp_path / "rm.yml"
    preset.write_text(
        f"model_name: {tmp_path}/model\ndtype: float32\ndevice: cpu\ntensorboard: false\nlora: {{rank: 2}}\n"
        f"data: {{path: {pairs}, max_length: 256}}\n"
        "training: {type: reward, max_steps: 2, batch_size: 4, lr: 1e-3, strength: weight}\n"
    )
    assert main(["train", "--preset", str(preset), "--output-dir", str(tmp_path / "rm")]) == 0
    assert (tmp_path / "rm" / "final" / "reward.json").exists()


def test_the_page_runs_no_text_and_sends_nothing_elsewhere(chromium: Browser, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Q{i} {payload}", "chosen": f"{payload} a", "rejected": f"{payload} b \u202egnp.exe"}
        for i, payload in enumerate(PAYLOADS)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rubric = json.dumps(PAYLOADS[0] + PAYLOADS[1])
    options = [
        "--set",
        "calibration=0",
        "--set",
        f"rubric={rubric}",
        "--set",
        "gold=0",
        "--output-dir",
        str(tmp_path / "R"),
    ]
    server = Served([str(tmp_path), *options], tmp_path / "log")
    try:
        chromium.events.clear()
        tab = Tab(chromium, server.url("rater1"))
        for _ in rows:
            assert "U+202E" in "".join(tab.texts())
            tab.vote("t")
        assert tab.value("document.title") == "Review" and tab.value("document.scripts.length") == 1
        asked = [
            e["params"]["request"]["url"]
            for e in chromium.events
            if e["method"] == "Network.requestWillBeSent"
        ]
        own = f"http://127.0.0.1:{server.port}/"
        assert asked and {url for url in asked if not url.startswith(own)} == set()
        assert not [url for url in asked if server.tokens["rater1"] in url.split("#")[0]]
        logs = [e["params"]["entry"]["text"] for e in chromium.events if e["method"] == "Log.entryAdded"]
        assert [text for text in logs if "favicon" not in text] == [] or all("404" in text for text in logs)
    finally:
        server.stop()


def test_the_page_fits_and_axe_finds_nothing(chromium: Browser, tmp_path: Path) -> None:
    server = Served(
        [*write_responses(tmp_path), "--items", "9", "--output-dir", str(tmp_path / "R")], tmp_path / "log"
    )
    try:
        tab = Tab(chromium, server.url("rater1"))
        for width, scheme in ((390, "light"), (390, "dark"), (1280, "light"), (1920, "dark")):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            tab.call("Emulation.setDeviceMetricsOverride", size)
            feature = {"name": "prefers-color-scheme", "value": scheme}
            tab.call("Emulation.setEmulatedMedia", {"features": [feature]})
            tab.wait(f"innerWidth === {width}")
            assert tab.value("document.documentElement.scrollWidth") <= width
            sections = "[...document.querySelectorAll('.pair section')]"
            sides = tab.value(f"{sections}.map(one => one.getBoundingClientRect().left)")
            assert (sides[0] == sides[1]) == (width < 640)
            vote = "document.querySelector('.vote').getBoundingClientRect()"
            assert tab.value(f"{vote}.top >= 0 && {vote}.bottom <= innerHeight")  # in sight without scrolling
            if AXE.exists():  # npm ci in web/
                assert axe_violations(tab) == []
    finally:
        server.stop()


def axe_violations(tab: Tab) -> list[str]:
    tab.value(AXE.read_text() + ";0")
    run = "axe.run().then(found => found.violations.map(one => `${one.id} ${one.nodes[0].html}`))"
    given = {"expression": run, "awaitPromise": True, "returnByValue": True}
    return tab.call("Runtime.evaluate", given)["result"]["value"]


def test_the_keyboard_alone_is_enough(chromium: Browser, tmp_path: Path) -> None:
    server = Served(
        [*write_responses(tmp_path), "--items", "9", "--output-dir", str(tmp_path / "R")], tmp_path / "log"
    )
    folder = ReviewFolder(tmp_path / "R")
    try:
        tab = Tab(chromium, server.url("rater1"))
        tab.press("w")
        tab.wait("document.querySelector('fieldset [aria-pressed=true]').textContent.startsWith('clearly')")
        for key in "1":
            tab.vote(key)
        for key in "tbs":
            tab.vote(key)
        tab.press("u")
        tab.wait("document.querySelector('.progress span').textContent.startsWith('3 ')")
        tab.value("document.querySelector('[data-choice=right]').focus()")
        tab.call("Input.dispatchKeyEvent", {"type": "keyDown", "key": "Enter", "code": "Enter", "text": "\r"})
        tab.wait("document.querySelector('.progress span').textContent.startsWith('4 ')")
    finally:
        server.stop()
    votes = read_votes(folder.votes, read_study(folder).hash)
    assert [vote.choice for vote in votes] == ["left", "tie", "both_bad", "skip", "undo", "right"]
    assert [vote.strength for vote in votes] == [2, 0, 0, 0, 0, 0]


def test_a_pack_works_without_a_network_and_comes_back(chromium: Browser, tmp_path: Path) -> None:
    names = write_responses(tmp_path)
    out = ["--out", str(tmp_path / "pack.html"), "--output-dir", str(tmp_path / "R")]
    assert main(["review", *names, "--items", "8", "--raters", "anna,ben", *out]) == 0
    folder = ReviewFolder(tmp_path / "R")
    study = read_study(folder)
    page = tmp_path / "pack-anna.html"
    assert page.read_text() == pack_page(study, "anna") and (tmp_path / "pack-ben.html").exists()
    visible = re.sub(
        r"<script[^>]*>.*?</script>|<style>.*?</style>|<meta http-equiv[^>]*>",
        "",
        page.read_text(),
        flags=re.DOTALL,
    )
    assert not re.search("ours|base", visible)
    inside = base64.b64decode(re.findall(r'id="pack">([^<]*)<', page.read_text())[0]).decode()
    assert set(json.loads(inside)) == {"study", "rubric", "reasons", "tasks"} and not re.search(
        "ours|base", inside
    )
    chromium.events.clear()
    tab = Tab(chromium, page.as_uri())
    assert tab.value("document.querySelector('.rubric p').textContent") == study.config.rubric
    done: list[str] = []
    for _ in range(3):
        tab.vote(side_of(study, "anna", done, tab.texts()))
    tab.call("Page.reload", {})
    tab.wait("document.querySelector('.progress span')?.textContent.startsWith('3 ')")
    asked = [
        e["params"]["request"]["url"] for e in chromium.events if e["method"] == "Network.requestWillBeSent"
    ]
    assert {url.split("#")[0] for url in asked} <= {page.as_uri()}
    tab.value(
        "void (URL.createObjectURL = blob => { blob.text().then(text => { window.saved = text }); return '#' })"
    )
    tab.value("document.querySelector('.download').click()")
    tab.wait("window.saved")
    saved = tmp_path / "votes.json"
    saved.write_text(tab.value("window.saved"))
    assert main(["review", "import", str(folder.root), str(saved)]) == 0
    assert main(["review", "import", str(folder.root), str(saved)]) == 0  # nothing twice
    votes = read_votes(folder.votes, study.hash)
    assert [vote.task for vote in votes] == done and {vote.client for vote in votes} == {"pack"}
    forged = json.loads(saved.read_text())
    forged["study"] = "0" * 64
    saved.write_text(json.dumps(forged))
    assert main(["review", "import", str(folder.root), str(saved)]) == 2
