"""The page in a real browser: what it shows, what keys do, and that no text of a run acts."""

import json
from itertools import pairwise
from urllib.parse import quote

import pytest

from harken.evaluation.tables import tables
from harken.explorer.build import build_report
from harken.explorer.page_inputs import PageInputs


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    return build_report(tmp_path_factory.mktemp("page") / "report.html", PageInputs(**run))


@pytest.fixture
def opened(browser, page):
    browser.open(page)
    return browser


def text(browser, selector):
    return browser.value(f"document.querySelector({json.dumps(selector)}).innerText")


def current(browser):
    return browser.value("document.querySelector('.rail [aria-current]').dataset.id")


def cells(browser, caption):
    """The rows of the table with this caption as lists of texts, the head first; also inside closed details."""
    script = """(() => {
      const shown = [...document.querySelectorAll("#comparison table")];
      const table = shown.find((t) => t.caption.textContent.startsWith(CAPTION));
      const isText = (n) => n.nodeName !== "svg" && n.className !== "ends";
      const nodes = (cell) => [...(cell.querySelector(".interval") ?? cell).childNodes];
      const text = (cell) => nodes(cell).filter(isText).map((n) => n.textContent);
      return [...table.rows].map((row) => [...row.cells].map((cell) => text(cell).join(" ").trim()));
    })()"""
    return browser.value(script.replace("CAPTION", json.dumps(caption)))


def percents(rate):
    value, low, high = (f"{100 * rate[key]:.1f} %" for key in ("value", "low", "high"))
    return f"{value} {low} to {high}"


def signed(figures):
    """What a cell shows of a difference; PPO's reward differs from Base's by 3 on every prompt."""

    def text(number):
        return "0.000" if round(number, 3) == 0 else f"{number:+.3f}".replace("-", "−")

    known = figures["low"] is not None
    return f"{text(figures['value'])} " + (
        f"{text(figures['low'])} to {text(figures['high'])}" if known else figures["no_interval"]
    )


@pytest.mark.parametrize(
    ("policies", "judged", "why", "order"),
    [
        (("Base", "PPO"), True, "on which reward and gold disagree most", "largest disagreement of scorers"),
        (("Base", "PPO"), False, "the policies differ most in reward", "largest difference of reward"),
        (("PPO",), False, "with the most flags", "most flags"),
        (("Base",), False, "the first example", "first order"),
    ],
)
def test_the_first_example_names_the_number_that_chose_it(
    browser, run, tmp_path, policies, judged, why, order
):
    """A page of one policy compares nothing, and one without a judge has no disagreement of scorers."""
    rows = [row for row in run["responses"] if row["policy"] in policies]
    if not judged:
        rows = [{name: value for name, value in row.items() if name != "score_gold"} for row in rows]
    audited = {
        key: found for key, found in run["audited"].items() if key[2] in policies and "PPO" in policies
    }
    changes = {"summary": None, "headline": ["Note: x."], "responses": rows, "audited": audited}
    browser.open(build_report(tmp_path / "p.html", PageInputs(**run | changes)), drawn=".first")
    assert why in text(browser, ".first p")
    assert text(browser, "#responses-order option") == order
    assert ("best reward" in text(browser, "#responses")) == (len(policies) > 1)


def test_the_tables_show_the_summary(opened, run):
    """The page has the win rates and statistics of every pair under the names that the terminal prints."""
    pairs = run["summary"]["pairs"]
    wins, differences = cells(opened, "Wins"), cells(opened, "Differences")
    changes, lengths = cells(opened, "Changes of rates"), cells(opened, "Effects of length")
    printed = tables(run["summary"], 400)
    for name in [
        *wins[0][1:],
        *differences[0][1:],
        "length-controlled",
        "length effect φ",
        "same length, W / T / L",
    ]:
        assert name in printed
    assert (wins[0][2:5], lengths[0][2:4]) == (
        ["win rate", "without ties", "ties as half"], ["length-controlled", "length effect φ"],
    )  # fmt: skip
    for i, pair in enumerate(pairs, start=1):
        assert wins[i][1] == f"{pair['wins']} / {pair['ties']} / {pair['losses']}"
        assert wins[i][2:5] == [
            percents(pair[rate]) for rate in ("win_rate", "win_rate_decided", "win_share")
        ]
        assert [differences[i][1], differences[i][3]] == [
            signed(pair["reward"]),
            signed(pair["hodges_lehmann"]),
        ]
        p = pair["cap_hit"]["mcnemar_p"]
        assert changes[i][2] == ("< 0.001" if p < 0.001 else f"{p:.3f}")
        assert lengths[i][2] == percents(pair["length"]["controlled"])
    for row in run["summary"]["table"]:
        assert f"{100 * row['cap_hit']['value']:.1f} %" in text(opened, "#comparison")
    slices = cells(opened, "Every pair of policies by domain")
    assert [row[1:4] for row in slices[1:3]] == [
        [part["value"], str(part["prompts"]), f"{part['wins']} / {part['ties']} / {part['losses']}"]
        for part in pairs[0]["slices"] if part["column"] == "domain"
    ]  # fmt: skip


def test_bars_beside_each_other_have_one_axis_with_labelled_ends(opened, run):
    """Shares go from 0 to 100 % in every column, so a bar of 6 % is short beside one of 100 %."""
    script = """(() => {
      const shown = [...document.querySelectorAll("#comparison table")];
      const table = shown.find((t) => t.caption.textContent.startsWith(CAPTION));
      const ends = (cell) => [...cell.querySelectorAll(".ends > span")].map((end) => end.textContent);
      const names = [...table.tHead.rows[0].cells].map((cell) => [cell.firstChild.textContent, ends(cell)]);
      const points = [...table.tBodies[0].rows].map((row) => [...row.cells].map((cell) =>
        Number(cell.querySelector("svg .point")?.getAttribute("cx") ?? NaN)));
      return [names, points];
    })()"""
    names, points = opened.value(script.replace("CAPTION", json.dumps("Every policy")))
    shares = [
        place for place, (name, _) in enumerate(names) if name in ("best response", "truncated", "empty")
    ]
    assert len(shares) == 3 and all(names[place][1] == ["0 %", "100 %"] for place in shares)
    assert all(len(ends) == 2 for name, ends in names if name in ("learned reward", "gold"))
    for row, policy in zip(points, run["summary"]["table"], strict=True):
        for place, key in zip(shares, ("win_rate", "cap_hit", "empty"), strict=True):
            assert row[place] == pytest.approx(6 + 104 * policy[key]["value"], abs=0.1)
    changes, _ = opened.value(script.replace("CAPTION", json.dumps("Changes of rates")))
    assert len({tuple(ends) for _, ends in changes if ends}) == 1


def test_the_contents_show_that_they_go_on_and_follow_the_section(opened):
    opened.call(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        opened.wait("document.querySelector('#contents').dataset.more === 'end'")
        assert opened.value(
            "getComputedStyle(document.querySelector('#contents')).maskImage.includes('gradient')"
        )
        opened.value("document.querySelector('.bar-top .further').click()")
        opened.wait("document.querySelector('#contents').dataset.more.includes('start')")
        opened.value("document.querySelector('#run').scrollIntoView()")
        inside = """(() => {
          const nav = document.querySelector("#contents").getBoundingClientRect();
          const link = document.querySelector("#contents [aria-current]")?.getBoundingClientRect();
          return Boolean(link) && link.left >= nav.left - 1 && link.right <= nav.right + 1;
        })()"""
        opened.wait(inside)
    finally:
        opened.call("Emulation.clearDeviceMetricsOverride", {})
    opened.wait("document.querySelector('#contents').dataset.more === ''")
    assert opened.value("document.querySelector('.bar-top .further') === null")


def test_the_verdict_starts_with_its_word(opened, run):
    assert run["headline"][0].startswith("Warning: the reward model is being over-optimised")
    assert text(opened, "#verdict .tag").split() == ["⚠", "Warning"]
    assert "over-optimised" in text(opened, "#verdict p")
    assert "Synthetic." in text(opened, ".notice")


def test_no_text_of_the_run_acts(opened, run):
    """Titles, notices, prompts, responses, sources and configurations try; the page shows them as text."""
    for _ in range(24):
        opened.press("j")
    assert opened.value("document.title") == run["title"]
    assert (
        opened.value(
            "document.querySelectorAll('img, iframe, main script, main style, a[href^=java]').length"
        )
        == 0
    )
    assert opened.value("getComputedStyle(document.body).display") == "block"
    requests = [
        e["params"]["request"]["url"] for e in opened.events if e["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in requests if not url.startswith("file:")] == [] and len(requests) == 1


def test_the_page_itself_breaks_no_rule_of_its_policy(opened):
    opened.press("j")
    complaints = [
        e["params"] for e in opened.events if e["method"] in ("Log.entryAdded", "Runtime.exceptionThrown")
    ]
    assert complaints == []


def test_a_planted_image_is_stopped_by_the_policy_alone(opened):
    """Were a text ever to become markup, the policy still lets nothing run and nothing out."""
    opened.value(
        "document.body.insertAdjacentHTML('beforeend', `<img src=x onerror=\"document.title='pwned'\">`)"
    )
    opened.value("document.body.insertAdjacentHTML('beforeend', '<img src=\"http://127.0.0.1:9/x.png\">')")
    opened.wait("[...document.images].every((image) => image.complete)")
    assert opened.value("document.title") != "pwned"
    blocked = [e["params"]["entry"]["text"] for e in opened.events if e["method"] == "Log.entryAdded"]
    assert sum("Content Security Policy" in entry for entry in blocked) >= 2


def test_characters_that_cannot_be_seen_are_named(opened, page, run):
    opened.open(page, f"#example={quote(run['responses'][0]['prompt_id'], safe='')}")
    assert "U+202E" in text(opened, ".response .text") and "\u202e" not in text(opened, ".response .text")


def test_keys_move_through_the_responses(opened):
    ids = found(opened)
    assert len(ids) == 24
    seen = [current(opened)]
    for key in "jjkk":
        opened.press(key)
        seen.append(current(opened))
    assert seen == [ids[0], ids[1], ids[2], ids[1], ids[0]]
    opened.press("k")
    assert current(opened) == ids[0]
    opened.press("r")
    assert current(opened) != ids[0]
    opened.press("/")
    assert opened.value("document.activeElement.type") == "search"
    before = current(opened)
    opened.press("j")
    assert current(opened) == before  # typing a j in the search box moves nothing


def test_the_responses_of_all_policies_are_side_by_side(opened, page, run):
    shown = opened.value(
        "[...document.querySelectorAll('.response h4')].map((h) => h.firstChild.textContent)"
    )
    assert shown == ["Base", "SFT", "PPO"]
    tops = opened.value(
        "[...document.querySelectorAll('.response')].map((a) => a.getBoundingClientRect().top)"
    )
    assert len(set(tops)) == 1
    opened.open(page, f"#example={quote(run['responses'][12]['prompt_id'], safe='')}")
    chips = text(opened, ".response:last-child .chips")
    for chip in ("reward +3.000", "gold −3.000", "tokens 20", "truncated", "reward mismatch", "loop × 4"):
        assert chip in chips


def check(browser, facet, label):
    """Click the checkbox of a facet's value."""
    browser.value(
        f"[...document.querySelectorAll('[data-facet=\"{facet}\"] label')]"
        f".find((l) => l.querySelector('.value').textContent === {json.dumps(label)}).querySelector('input').click()"
    )


def order(browser, measure):
    browser.value(
        f"(() => {{ const s = document.querySelector('#responses-order'); s.value = {json.dumps(measure)};"
        "s.dispatchEvent(new Event('change')); return s.value; })()"
    )


def found(browser):
    return browser.value("[...document.querySelectorAll('.rail button')].map((b) => b.dataset.id)")


def test_filters_agree_with_the_rows(opened, run):
    rows = run["responses"]
    order(opened, "index")
    check(opened, "domain", "odd")
    assert found(opened) == [r["prompt_id"] for r in rows if r["policy"] == "Base" and r["domain"] == "odd"]
    check(opened, "domain", "odd")
    opened.value("document.querySelector('[data-value=\"cap_hit@PPO\"]').click()")
    assert len(found(opened)) == 24
    opened.value("document.querySelector('[data-value=\"cap_hit@PPO\"]').click()")
    check(opened, "domain", "even")
    opened.value(
        "(() => { const q = document.querySelector('#responses-search'); q.value = 'nowhere';"
        "q.dispatchEvent(new Event('input')); })()"
    )
    opened.wait("document.querySelectorAll('.rail button').length === 0")
    assert "No example matches" in text(opened, "#responses")


def test_search_finds_and_marks(opened, run):
    opened.value(
        "(() => { const q = document.querySelector('input[type=search]'); q.value = 'QUESTION 7:';"
        "q.dispatchEvent(new Event('input')); })()"
    )
    opened.wait("document.querySelectorAll('.rail button').length === 1")
    assert found(opened) == [run["responses"][7]["prompt_id"]]
    assert text(opened, ".example mark") == "Question 7:"


def test_the_order_by_reward_difference(opened, run):
    reward = {(r["policy"], r["prompt_id"]): r["reward"] for r in run["responses"]}
    order(opened, "margin@SFT>PPO")
    differences = [reward["PPO", i] - reward["SFT", i] for i in found(opened)]
    assert differences == sorted(differences, reverse=True) and len(set(differences)) > 1


def test_a_missing_score_sorts_last(opened, run):
    order(opened, "margin.gold@Base>SFT")
    for _ in range(2):
        assert found(opened)[-1] == run["responses"][3]["prompt_id"]
        opened.value("document.querySelector('.tools button').click()")


def test_an_address_leads_to_its_example(browser, page, run):
    wanted = run["responses"][9]["prompt_id"]
    browser.open(page, f"#example={quote(wanted, safe='')}")
    assert current(browser) == wanted
    browser.press("j")
    address = browser.value("location.hash")
    following = current(browser)
    assert following != wanted
    browser.open(page, address)
    assert current(browser) == following


@pytest.mark.parametrize("anchor", ["#example=nothing", "#example=%E0%A4%A", "#training"])
def test_an_address_to_nothing_shows_the_first(browser, page, anchor):
    browser.open(page, anchor)
    assert current(browser) == found(browser)[0]
    assert ("parts that this page does not know" in text(browser, "#responses")) == ("example" in anchor)


def test_the_values_of_a_curve_are_reachable_by_keyboard(opened):
    opened.value("document.querySelector('#training .plot').focus()")
    assert "last training 0.375" in text(opened, "#training .readout").replace("\n", " ")
    opened.press("ArrowLeft")
    opened.press("ArrowLeft")
    assert "step 7 training 0.429" in text(opened, "#training .readout").replace("\n", " ")


STRETCHES = [
    (0.0998, 0.1),
    (1e-9, 2e-9),
    (0.0002, 0.001),
    (-3.0, 1.0),
    (1234.5, 1234.9),
    (5e7, 6e7),
    (0.0, 1e-7),
]


@pytest.mark.parametrize(("low", "high"), STRETCHES)
def test_tick_labels_differ_and_match_their_positions(browser, run, tmp_path, low, high):
    """However small the range: no two labels are the same, and equal distances lie between them."""
    lines = [{"step": i + 1, "loss": low + (high - low) * i / 4} for i in range(5)]
    browser.open(
        build_report(
            tmp_path / "page.html", PageInputs(**run | {"stage_metrics": {"sft": lines}, "stage_info": {}})
        )
    )
    browser.value("document.querySelector('.plot').scrollIntoView()")
    browser.wait("document.querySelector('.canvas').dataset.yTicks")
    ticks = browser.value("JSON.parse(document.querySelector('.canvas').dataset.yTicks)")
    values = [float(label.replace("−", "-")) for label, _ in ticks]
    gaps = [b - a for a, b in pairwise(values)]
    assert len(gaps) >= 2 and gaps == pytest.approx([gaps[0]] * len(gaps), rel=0.02) and gaps[0] > 0, ticks


def test_a_chart_by_kl_has_a_root_scale_from_0_and_says_the_kl(browser, run, tmp_path):
    """√4 lies half way to √16, and the readout names the KL of a point, not a step."""
    chart = {
        "title": "Held-out reward against KL", "unit": "by KL", "caption": "…", "format": "number", "scale": "root",
        "marks": [], "series": [{"label": "PPO", "metric": "ppo", "points": [[4.0, 1.0], [16.0, 2.0]]}],
    }  # fmt: skip
    info = {"ppo": {"charts": [chart]}}
    browser.open(
        build_report(tmp_path / "p.html", PageInputs(**run | {"stage_metrics": {}, "stage_info": info}))
    )
    browser.value("document.querySelector('.plot').scrollIntoView()")
    browser.wait("document.querySelector('.canvas').dataset.xPositions")
    (_, four), (_, sixteen) = browser.value(
        "JSON.parse(document.querySelector('.canvas').dataset.xPositions)"
    )
    zero = browser.value("Number(document.querySelector('.canvas').dataset.xZero)")
    assert four - zero == pytest.approx(sixteen - four)
    assert browser.value("document.querySelector('.charts .axis-name').textContent").startswith("KL")
    browser.value(
        "document.querySelector('.plot').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}))"
    )
    assert browser.value("document.querySelector('.charts .readout').textContent").startswith("KL 16.0")


def test_the_card_and_the_audit_are_sections_of_text_and_tables(browser, run, tmp_path):
    blocks = [
        {"kind": "heading", "text": "Accuracy"}, {"kind": "text", "text": "<b>plain</b>"},
        {"kind": "item", "text": "one"}, {"kind": "table", "heads": ["a", "b"], "rows": [["x", "<i>y</i>"]]},
    ]  # fmt: skip
    section = {"id": "audit", "title": "Audit", "blocks": blocks}
    browser.open(build_report(tmp_path / "p.html", PageInputs(**run | {"sections": [section]})))
    text = browser.value("document.querySelector('#audit').textContent")
    assert all(part in text for part in ("Accuracy", "<b>plain</b>", "one", "<i>y</i>"))
    assert browser.value("document.querySelectorAll('#audit i, #audit b').length") == 0


def test_every_axis_has_a_name(opened, run):
    names = opened.value("[...document.querySelectorAll('.charts .axis-name')].map(t => t.textContent)")
    assert len(names) == opened.value("document.querySelectorAll('.charts figure').length") > 0
    assert set(names) == {"update" if kind == "ppo" else "step" for kind in run["stage_metrics"]}


def test_everything_that_can_be_used_has_a_name(opened):
    nameless = opened.value(
        "[...document.querySelectorAll('input, select, button, a, svg[role=img], [tabindex]')].filter((e) => "
        "!(e.textContent.trim() || e.ariaLabel || e.labels?.length)).length"
    )
    assert nameless == 0


@pytest.mark.parametrize("width", [360, 800, 1400])
def test_the_page_never_scrolls_sideways(opened, width):
    opened.call(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    assert opened.value("document.documentElement.scrollWidth") <= width
