"""The explorer of responses in a real browser: facets, limits, search, plot, diff, addresses, notes, exports, keys."""

import csv
import io
import json
import time
from statistics import fmean, pstdev

import pytest

from harken.evaluation.audit.kinds import QUEUES
from harken.explorer.build import build_report
from harken.explorer.page_inputs import PageInputs
from harken.maths.statistics.intervals import wilson_interval


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    points = [{"step": 2 * i, "text": f"After {i} updates.", "reward": i / 2} for i in range(4)]
    checkpoints = [
        {"id": run["responses"][0]["prompt_id"], "stage": "ppo", "prompt": "Why?", "points": points}
    ]
    more = {"queues": QUEUES, "checkpoints": checkpoints}
    return build_report(tmp_path_factory.mktemp("responses") / "report.html", PageInputs(**run, **more))


@pytest.fixture
def opened(browser, page):
    browser.open(page)
    browser.value("localStorage.clear()")
    return browser


def text(browser, selector):
    return browser.value(f"document.querySelector({json.dumps(selector)}).textContent")


def click(browser, selector):
    browser.value(f"document.querySelector({json.dumps(selector)}).click()")


def put(browser, selector, value, event="input"):
    """Set the value of a field as a reader would."""
    browser.value(
        f"(() => {{ const f = document.querySelector({json.dumps(selector)}); f.value = {json.dumps(value)};"
        f"f.dispatchEvent(new Event({json.dumps(event)}, {{bubbles: true}})); }})()"
    )


def count(browser):
    return int(browser.value("document.querySelector('.rail').dataset.count"))


def current(browser):
    return browser.value("document.querySelector('.example').dataset.id")


def test_the_first_example_is_the_largest_disagreement(opened, run):
    scored = [r for r in run["responses"] if r["score_gold"] is not None]

    def standard(column):
        mean, spread = fmean(r[column] for r in scored), pstdev(r[column] for r in scored)
        return [(r[column] - mean) / spread for r in scored]

    gaps: dict[str, float] = {}
    for row, a, b in zip(scored, standard("reward"), standard("score_gold"), strict=True):
        gaps[row["prompt_id"]] = max(abs(a - b), gaps.get(row["prompt_id"], 0.0))
    assert gaps[current(opened)] == pytest.approx(max(gaps.values()), abs=1e-3)
    assert max(gaps.values()) > min(gaps.values()) + 0.1


def test_counts_and_intervals_follow_the_filter(opened):
    """Of the prompts 1 and 10 to 19, SFT has the higher reward in the five even ones."""
    put(opened, "#responses-search", "question 1")
    opened.wait("document.querySelector('.rail').dataset.count === '11'")
    assert "11 of 24 examples" in text(opened, ".found")
    shown = opened.value(
        "[...document.querySelectorAll('[data-facet=\"pair@Base>SFT\"] li')]"
        ".find((l) => l.textContent.startsWith('SFT')).textContent"
    )
    low, high = wilson_interval(5, 11)
    assert shown == f"SFT wins5{500 / 11:.1f} % ({100 * low:.1f} % to {100 * high:.1f} %)"
    opened.value("document.querySelector('[data-value=\"cap_hit@PPO\"]').click()")
    assert count(opened) == 11
    opened.value("document.querySelector('[data-facet=\"pair@Base>SFT\"] input').click()")
    assert count(opened) in (5, 6)
    # The other value of the same facet is still counted as one click away.
    counts = opened.value(
        "[...document.querySelectorAll('[data-facet=\"pair@Base>SFT\"] .count')].map((c) => +c.textContent)"
    )
    assert sorted(counts) == [5, 6]


def test_limits_of_a_number(opened, run):
    ppo = [r for r in run["responses"] if r["policy"] == "PPO"]
    put(opened, '[data-facet="ranges"] select', "length@PPO", "change")
    put(opened, '[data-measure="length@PPO"] input', "20", "change")
    assert count(opened) == sum(r["response_tokens"] >= 20 for r in ppo)
    assert "length in tokens, PPO at least 20" in text(opened, ".conditions")
    click(opened, ".conditions button")
    assert count(opened) == 24


def test_an_expression_is_searched_and_a_damaged_one_is_named(opened):
    click(opened, ".tools .check input")
    put(opened, "#responses-search", r"^Question (7|8):")
    opened.wait("document.querySelector('.rail').dataset.count === '2'")
    opened.wait("document.querySelector('.example mark') !== null")
    put(opened, "#responses-search", "(")
    opened.wait("document.querySelector('#search-message').textContent.includes('no regular expression')")
    assert count(opened) == 24


def test_an_expression_without_end_is_stopped_and_the_page_stays_alive(opened):
    click(opened, ".tools .check input")
    start = time.monotonic()
    put(opened, "#responses-search", "(.|.|.)*(.|.|.)*(.|.|.)*~~~never")
    opened.wait("document.querySelector('#search-message').textContent.includes('too long')", 10)
    assert time.monotonic() - start < 6
    opened.press("j")
    put(opened, "#responses-search", "Question 3:")
    opened.wait("document.querySelector('.rail').dataset.count === '1'")


def test_two_responses_are_compared(opened):
    opened.press("d")
    assert opened.value("document.querySelectorAll('.response').length") == 2
    left, right = opened.value("[...document.querySelectorAll('.response .text')].map((t) => t.textContent)")
    gone = opened.value(
        "[...document.querySelectorAll('.response:first-child del')].map((d) => d.textContent)"
    )
    new = opened.value("[...document.querySelectorAll('.response:last-child ins')].map((d) => d.textContent)")
    assert gone and new and all(part in left for part in gone) and all(part in right for part in new)
    put(opened, ".modes label:nth-of-type(1) select", "Base", "change")
    assert text(opened, ".response:first-child h4").startswith("Base")
    opened.press("d")
    assert opened.value("document.querySelectorAll('.response').length") == 3


def test_a_region_of_the_plot_is_a_filter(opened, run):
    opened.call(
        "Emulation.setDeviceMetricsOverride",
        {"width": 1400, "height": 1000, "deviceScaleFactor": 1, "mobile": False},
    )
    click(opened, ".scatter summary")
    opened.wait("document.querySelector('.scatter canvas') !== null")
    opened.value("document.documentElement.style.scrollBehavior = 'auto'")
    opened.value("document.querySelector('.scatter canvas').scrollIntoView({block: 'center'})")
    box = opened.value("(({x, y, width, height}) => [x, y, width, height])("
                       "document.querySelector('.scatter canvas').getBoundingClientRect())")  # fmt: skip
    x, y, width, height = box
    # The upper half: around the middle of the axis of PPO's rewards.
    corners = [
        (x + 50, y + 5),
        (x + width - 5, y + 5),
        (x + width - 5, y + height / 2),
        (x + 50, y + height / 2),
    ]
    mouse = {"button": "left", "buttons": 1, "clickCount": 1}
    for i, (px, py) in enumerate(corners):
        kind = "mousePressed" if i == 0 else "mouseMoved"
        opened.call("Input.dispatchMouseEvent", {"type": kind, "x": px, "y": py, **mouse})
    opened.call(
        "Input.dispatchMouseEvent",
        {"type": "mouseReleased", "x": corners[-1][0], "y": corners[-1][1], **mouse},
    )
    opened.wait("document.querySelector('.conditions')?.textContent.includes('inside a region')")
    rewards = {r["prompt_id"]: r["reward"] for r in run["responses"] if r["policy"] == "PPO"}
    inside = set(opened.value("[...document.querySelectorAll('.rail button')].map((b) => b.dataset.id)"))
    assert 0 < len(inside) < 24
    assert min(rewards[i] for i in inside) > max(rewards[i] for i in rewards.keys() - inside)
    assert "region=" in opened.value("location.hash")


def test_a_region_by_numbers_needs_no_pointer(opened, run):
    click(opened, ".scatter summary")
    opened.wait("document.querySelector('.by-numbers') !== null")
    put(opened, ".by-numbers input:nth-of-type(3)", "5")
    click(opened, ".by-numbers button")
    assert count(opened) == sum(r["reward"] >= 5 for r in run["responses"] if r["policy"] == "PPO")


def test_the_arrow_keys_move_over_the_points_of_the_plot(opened):
    click(opened, ".scatter summary")
    opened.wait("document.querySelector('.scatter canvas') !== null")
    opened.value("document.querySelector('.scatter canvas').focus()")
    opened.press("ArrowRight")
    opened.press("ArrowUp")
    assert "Question" in text(opened, "#plot-readout")
    opened.press("Enter")
    asked = opened.value("document.querySelector('.example .turn .text').textContent")
    assert asked[:40] in text(opened, "#plot-readout")


def test_an_address_gives_back_the_whole_state(opened, browser, page):
    click(opened, '[data-facet="domain"] input')
    put(opened, '[data-facet="ranges"] select', "reward@PPO", "change")
    put(opened, '[data-measure="reward@PPO"] input', "-1", "change")
    put(opened, "#responses-search", "question")
    put(opened, "#responses-order", "length@PPO", "change")
    opened.wait("location.hash.includes('search=question')")
    click(opened, ".sample button")
    opened.press("j")
    opened.press("b")
    opened.press("d")

    def view():
        return browser.value(
            "JSON.stringify([document.querySelector('.conditions').textContent, document.querySelector('.found')"
            ".textContent, document.querySelector('.example').dataset.id, document.querySelector('#responses-order')"
            ".value, document.querySelector('#responses-search').value, [...document.querySelectorAll('.modes button')]"
            ".map((b) => b.ariaPressed), document.querySelector('.columns').textContent])"
        )

    before, address = view(), opened.value("location.hash")
    browser.open(page, address)
    assert view() == before
    assert browser.value("location.hash") == address


def test_a_damaged_address_is_ignored_with_a_note(browser, page):
    browser.open(page, "#f.domain=odd&r.reward@PPO=x,y&order=gone,down&sample=a,b&f.flag=nothing")
    assert count(browser) == 12
    note = text(browser, "#responses .message[role=status]")
    assert all(part in note for part in ("r.reward@PPO=x,y", "sample=a,b", "order by gone", "filter flag"))


def test_the_same_seed_draws_the_same_rows(opened):
    def ids():
        return opened.value("[...document.querySelectorAll('.rail button')].map((b) => b.dataset.id).sort()")

    put(opened, ".sample label:first-of-type input", "5", "change")
    click(opened, ".sample button")
    first = ids()
    put(opened, ".sample label:last-of-type input", "7", "change")
    other = ids()
    put(opened, ".sample label:last-of-type input", "0", "change")
    assert len(first) == 5 and ids() == first and other != first


def test_blind_mode_hides_who_wrote_what(opened):
    opened.press("b")
    shown = text(opened, ".example")
    assert all(
        name not in opened.value("document.querySelector('.columns').textContent") for name in ("SFT", "PPO")
    )
    assert "Response 1" in shown and "reward" not in text(opened, ".columns")
    assert (
        opened.value("document.querySelectorAll('.response .dot, .response.p0, .rail .reward').length") == 0
    )


def test_markdown_is_shown_on_request_as_elements_without_links(opened, page, run):
    opened.open(
        page,
        "#example="
        + run["responses"][0]["prompt_id"].replace("#", "%23").replace("%<", "%25<").replace("&", "%26"),
    )
    opened.press("m")
    assert opened.value("document.querySelectorAll('.markdown').length") == 3
    assert (
        opened.value("document.querySelectorAll('.markdown a, .markdown img, .markdown script').length") == 0
    )


def test_notes_stay_in_the_browser_and_come_back_from_a_file(opened, browser, page, tmp_path):
    opened.press("n")
    assert opened.value("document.activeElement.id") == "example-note"
    put(opened, "#example-note", "look at this")
    put(opened, ".note-editor input", "odd, later")
    opened.wait("Object.keys(localStorage).some((k) => k.startsWith('harken-notes:'))")
    wanted = current(opened)
    browser.open(page)
    assert current(browser) == wanted
    assert browser.value("document.querySelector('#example-note').value") == "look at this"
    put(browser, ".tools label:nth-of-type(2) select", "note", "change")
    put(browser, "#responses-search", "later")
    browser.wait("document.querySelector('.rail').dataset.count === '1'")
    saved = download(
        browser,
        tmp_path,
        "[...document.querySelectorAll('.menu button')].find((b) => b.textContent === 'Export notes').click()",
    )
    notes = json.loads(saved)
    assert notes["notes"][wanted]["tags"] == ["odd", "later"]


def download(browser, folder, script):
    """Click and return the text of the file that the browser saved."""
    browser.call("Page.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})
    browser.value(script)
    end = time.monotonic() + 15
    while not (files := [f for f in folder.iterdir() if not f.name.endswith(".crdownload")]):
        assert time.monotonic() < end, "nothing was saved"
        time.sleep(0.05)
    content = files[0].read_bytes().decode()
    files[0].unlink()
    return content


def test_exports_hold_the_filter_its_rows_and_their_origin(opened, run, tmp_path):
    put(opened, "#responses-search", "Question 7:")
    opened.wait("document.querySelector('.rail').dataset.count === '1'")
    rows = list(
        csv.DictReader(
            io.StringIO(download(opened, tmp_path, "document.querySelector('[data-format=csv]').click()"))
        )
    )
    assert [row["policy"] for row in rows] == ["Base", "SFT", "PPO"]
    wanted = next(r for r in run["responses"] if r["policy"] == "PPO" and r["prompt_id"] == rows[0]["id"])
    assert float(rows[2]["reward"]) == wanted["reward"] and rows[2]["response"] == wanted["response"]
    assert "“Question 7:” occurs in prompts" in rows[0]["filter"] and rows[0]["report"].startswith("Report")
    made = json.loads(download(opened, tmp_path, "document.querySelector('[data-format=json]').click()"))
    assert made["provenance"]["examples"] == 1 and made["provenance"]["of"] == 24
    assert made["provenance"][
        "report_fingerprint" if "report_fingerprint" in made["provenance"] else "fingerprint"
    ]
    assert made["examples"][0]["responses"][2]["text"] == wanted["response"]
    written = download(opened, tmp_path, "document.querySelector('[data-format=md]').click()")
    assert "- Examples: 1 of 24" in written and wanted["response"] in written


def test_the_page_is_used_with_the_keyboard_alone(opened):
    """Tab reaches the search, typing filters, Tab and Space choose a facet, ? opens the help, Escape closes it."""

    def key(name, code, kind="rawKeyDown", **more):
        opened.call(
            "Input.dispatchKeyEvent", {"type": kind, "key": name, "windowsVirtualKeyCode": code, **more}
        )
        opened.call("Input.dispatchKeyEvent", {"type": "keyUp", "key": name, "windowsVirtualKeyCode": code})

    opened.press("/")
    opened.call("Input.insertText", {"text": "question 1"})
    opened.wait("document.querySelector('.rail').dataset.count === '11'")
    for _ in range(20):
        key("Tab", 9)
        if opened.value("document.activeElement.closest('[data-facet=\"domain\"] li') !== null"):
            break
    key(" ", 32, "keyDown", text=" ")
    opened.wait("document.querySelector('.rail').dataset.count < 11")
    opened.press("?")
    assert opened.value("document.querySelector('dialog').open")
    before = current(opened)
    opened.press("j")
    assert current(opened) == before
    key("Escape", 27)
    opened.wait("!document.querySelector('dialog').open")
    opened.press("j")
    assert current(opened) != before


def test_the_slider_shows_one_prompt_at_each_checkpoint(opened):
    assert "After 3 updates." in text(opened, "#checkpoints")
    put(opened, "#checkpoints input[type=range]", "1")
    assert "After 1 updates." in text(opened, "#checkpoints")
    assert "update 2, 2 of 4, reward +0.500" in text(opened, "#checkpoints")


def test_equal_responses_are_marked_and_come_last(browser, run, tmp_path):
    rows = [
        row | {"response": "The same."} if row["prompt_id"] == run["responses"][5]["prompt_id"] else row
        for row in run["responses"]
    ]
    browser.open(build_report(tmp_path / "p.html", PageInputs(**run | {"responses": rows})))
    assert (
        browser.value("[...document.querySelectorAll('.rail button')].at(-1).dataset.id")
        == rows[5]["prompt_id"]
    )
    browser.value("[...document.querySelectorAll('.rail button')].at(-1).click()")
    assert "all responses are equal" in text(browser, ".example")
    assert "same text as SFT, PPO" in text(browser, ".response")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_scrolls_sideways_with_everything_open(opened, width):
    opened.call(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    opened.value("document.querySelectorAll('#responses details').forEach((d) => { d.open = true; })")
    opened.press("d")
    opened.wait("document.querySelector('.scatter canvas') !== null")
    assert opened.value("document.documentElement.scrollWidth") <= width
