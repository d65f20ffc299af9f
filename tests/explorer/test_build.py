import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harken.explorer import build
from harken.explorer.build import build_report
from harken.explorer.page_inputs import PageInputs

STATIC = Path(build.__file__).parent / "static"
WEB = Path(__file__).parents[2] / "web" / "src"
MARKUP = (
    r"\b(inner|outer)HTML|dangerouslySetInnerHTML|insertAdjacentHTML|document\.write|createContextualFragment"
    r"|DOMParser|setHTML|srcdoc|\beval\b|new Function|setTimeout\([\"'`]|javascript:"
)
NETWORK = r"|\bimport\s*\(|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|EventSource"
SINKS = re.compile(MARKUP + NETWORK)
SOURCES = sorted(path for path in WEB.rglob("*.ts*") if not path.name.endswith((".test.ts", ".d.ts")))
MAX_SCRIPT = 250_000
"""Bytes of the report's script."""


class Reader(HTMLParser):
    """Tags with their attributes, and the text of scripts and styles."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.tags and self.tags[-1][0] in ("script", "style", "title") and data.strip():
            self.texts.append((self.tags[-1], data))


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    return build_report(tmp_path_factory.mktemp("report") / "05_report" / "report.html", PageInputs(**run))


def data(page):
    texts = Reader(page.read_text()).texts
    packed = next(t for (_, attrs), t in texts if attrs.get("type") == "application/gzip+base64")
    return json.loads(gzip.decompress(base64.b64decode(packed, validate=True)))


def test_the_texts_come_back_as_they_were(page, run):
    shown = {(e["id"], a["policy"]): a["text"] for e in data(page)["examples"] for a in e["responses"]}
    assert shown == {(row["prompt_id"], row["policy"]): row["response"] for row in run["responses"]}


def test_no_text_of_the_run_is_in_the_html(page, run):
    text = page.read_text()
    strange = {row["response"] for row in run["responses"]} | {row["prompt"] for row in run["responses"]}
    assert not [s for s in [*strange, run["title"], run["notice"]] if s in text]
    assert "pwned'" not in text


def test_the_page_has_its_own_tags_and_no_others(page):
    tags = [tag for tag, _ in Reader(page.read_text()).tags]
    own = [tag for tag, _ in Reader((STATIC / "report.html").read_text()).tags]
    assert tags == own and tags.count("script") == 2


def test_the_policy_allows_the_script_and_the_style_by_their_hashes_alone(page):
    reader = Reader(page.read_text())
    policy = next(a["content"] for _, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))

    def digest(text):
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    scripts = [text for (tag, attrs), text in reader.texts if tag == "script" and not attrs]
    styles = [text for (tag, _), text in reader.texts if tag == "style"]
    assert rules == {
        "default-src": "'none'", "script-src": digest(*scripts), "style-src": digest(*styles), "img-src": "data:",
        "worker-src": "blob:", "connect-src": "'none'", "base-uri": "'none'", "form-action": "'none'",
        "object-src": "'none'",
    }  # fmt: skip


def test_the_page_names_no_other_file():
    """One file that opens from anywhere: no link, no image, no address."""
    for tag, attrs in Reader((STATIC / "report.html").read_text()).tags:
        assert "src" not in attrs and tag not in {"link", "img", "iframe", "base"}
        assert attrs.get("href", "#").startswith("#")
    style = (STATIC / "explorer.css").read_text()
    assert "url(" not in style and "@import" not in style


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: str(path.relative_to(WEB)))
def test_no_source_can_turn_text_into_code_or_reach_the_network(source):
    """The review's page talks to its own server; nothing else of the pages reaches the network."""
    sinks = re.compile(MARKUP) if source.is_relative_to(WEB / "review") else SINKS
    text = source.read_text()
    assert not sinks.findall(text) and len(text.splitlines()) <= 400


def test_the_built_script_can_neither():
    """Also not in the libraries that it contains."""
    text = (STATIC / "explorer.js").read_text()
    assert not re.findall(SINKS.pattern.replace("|dangerouslySetInnerHTML", ""), text)
    assert "</script" not in text.lower() and "<!--" not in text


def test_the_script_is_small():
    assert len((STATIC / "explorer.js").read_bytes()) <= MAX_SCRIPT


def test_a_sink_would_be_seen():
    for line in (
        "x.innerHTML = y",
        "eval(x)",
        "document.write(x)",
        "a.insertAdjacentHTML('x', y)",
        "fetch(u)",
    ):
        assert SINKS.search(line)


def test_the_same_run_gives_the_same_bytes(page, run, tmp_path):
    assert build_report(tmp_path / "again.html", PageInputs(**run)).read_bytes() == page.read_bytes()


def test_secrets_stay_out(page):
    stage = next(stage for stage in data(page)["stages"] if stage["name"] == "ppo")
    assert stage["facts"]["lineage"] == {"model": "m", "hf_token": "[redacted]"}


def test_values_that_are_no_json_are_refused(run, tmp_path):
    broken = run | {"summary": run["summary"] | {"tie_epsilon": float("nan")}}
    with pytest.raises(ValueError, match="JSON"):
        build_report(tmp_path / "report.html", PageInputs(**broken))
    assert not list(tmp_path.iterdir())


def test_half_a_surrogate_pair_does_not_stop_the_report(run, tmp_path):
    rows = [row | {"response": "half \ud83d"} for row in run["responses"]]
    assert data(build_report(tmp_path / "report.html", PageInputs(**run | {"responses": rows})))["examples"]
