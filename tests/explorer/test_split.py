"""A page with files beside it: what the files hold, that the page loads them, from a disk and from a host."""

from __future__ import annotations

import base64
import functools
import gzip
import http.server
import json
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harken.explorer import shards
from harken.explorer.build import build_report
from harken.explorer.page_inputs import PageInputs
from harken.explorer.shards import write_split_page

STEPS = [
    {
        "stage": "PPO: <b>/..", "step": 3, "recorded": 1, "files": [],
        "rollouts": [{"pieces": ["</script>", "\u2028", "'\"\\", "\U0001f600"]}],
    }
]  # fmt: skip


@pytest.fixture(scope="module")
def page(run: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the attacking run, ten examples a shard."""
    out = tmp_path_factory.mktemp("split") / "index.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "EXAMPLES_PER_SHARD", 10)
        return build_report(out, PageInputs(**run), write=partial(write_split_page, steps=STEPS))


def data(page: Path) -> dict[str, Any]:
    packed = re.search(r'type="application/gzip\+base64"[^>]*>([^<]+)<', page.read_text())
    assert packed
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))


def pushed(file: Path) -> tuple[str, Any]:
    """Name and content of a shard, which is one statement with two strings."""
    found = re.fullmatch(r"\(window\.harkenShards\?\?=\[\]\)\.push\((\[.*\])\);\n", file.read_text("ascii"))
    assert found
    name, content = json.loads(found[1])
    return name, json.loads(content)


def test_shards_hold_the_examples_in_order(page: Path, run: dict[str, Any]) -> None:
    found = data(page)
    assert found["examples"] == [] and len(found["parts"]) == 3
    examples = []
    for part in found["parts"]:
        name, content = pushed(page.parent / part)
        assert name == part
        examples += content
    assert [e["id"] for e in examples] == list(dict.fromkeys(row["prompt_id"] for row in run["responses"]))


def test_tokens_of_every_update_are_in_shards(page: Path) -> None:
    (step,) = data(page)["tokens"]["steps"]
    assert step["rollouts"] == [] and step["recorded"] == 1
    (file,) = step["files"]
    assert pushed(page.parent / file) == (file, STEPS[0]["rollouts"])
    assert re.fullmatch(r"shards/[\w.-]+\.js", file, re.ASCII) and "/.." not in file


def test_a_new_page_leaves_no_old_shards(page: Path, run: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "index.html"
    build_report(out, PageInputs(**run), write=partial(write_split_page, steps=STEPS))
    (tmp_path / "shards" / "old.js").write_text("")
    build_report(out, PageInputs(**run), write=write_split_page)
    assert sorted(path.name for path in (tmp_path / "shards").iterdir()) == ["examples-000000.js"]


@pytest.fixture
def address(page: Path) -> Iterator[str]:
    """The address of the page on a static host."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(page.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/index.html"
        server.shutdown()


def shown(browser: Any) -> tuple[int, list[str]]:
    """The prompts that the page counts, and the addresses of all that it has loaded."""
    count = browser.value("(window.harkenShards ?? []).length")
    loaded = [
        e["params"]["request"]["url"] for e in browser.events if e["method"] == "Network.requestWillBeSent"
    ]
    return count, loaded


def test_the_page_loads_its_shards_from_the_disk(browser: Any, page: Path) -> None:
    browser.open(page)
    count, loaded = shown(browser)
    assert count == 0, "parts are taken"
    assert {Path(url).name for url in loaded} == {
        "index.html",
        *(Path(part).name for part in data(page)["parts"]),
    }
    assert browser.value("document.body.innerText.includes('Question 23')") or browser.value(
        "document.body.innerText.includes('24')"
    )
    assert browser.value("document.title").startswith("Report")


def test_the_page_loads_its_shards_from_a_host(browser: Any, page: Path, address: str) -> None:
    class Address:
        def as_uri(self) -> str:
            return address

    browser.open(Address())
    _, loaded = shown(browser)
    assert sum("/shards/" in url for url in loaded) == 3
    assert all(url.startswith(address.rsplit("/", 1)[0]) for url in loaded if "favicon" not in url)
