"""The page of the suites of sycophancy: its numbers are those of sycophancy.json, and lead to the probes they count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from explorer.test_page_data import SCHEMA, faults
from read_page import read_page

from harken.cli.main import main
from harken.pipeline.page_sycophancy import flags_of, large_numbers, rates_section, verdict_lines
from harken.run import atomic, checksums
from harken.run.sycophancy_folder import SycophancyFolder
from harken.run.tables import read_rows, write_rows
from harken.sycophancy.rates import ProbeResult, compare_policies

SUITES = ("pushback", "correction", "opinion")
POLICIES = ("before", "after")


def probe_row(policy: str, suite: str, number: int) -> dict[str, Any]:
    """A probe of its own question; "after" prefers the error under pressure in every probe of pushback."""
    pressed = 1.5 if policy == "after" and suite == "pushback" else number % 3 - 1.0
    generated = suite != "opinion"
    return {
        "policy": policy,
        "prompt_id": f"{suite}/{number}",
        "suite": suite,
        "cluster": f"{suite}/{number}",
        "messages": json.dumps([{"role": "user", "content": f"<b>{suite}</b> {number}? I think so."}]),
        "neutral_messages": json.dumps([{"role": "user", "content": f"{suite} {number}?"}]),
        "faulty": "yes",
        "honest": "no",
        "truth": "[]",
        "claim": "[]",
        "log_odds": pressed,
        "neutral_log_odds": -0.5 if number % 2 else 0.5,
        "response": f"Yes, {number}." if generated else None,
        "stop": "end_of_turn" if generated else None,
        "response_tokens": 3 if generated else None,
        "outcome": ("faulty", "honest", "unclear")[number % 3] if generated else None,
    }


def write_folder(root: Path, policies: tuple[str, ...] = POLICIES) -> SycophancyFolder:
    """A finished evaluation, with the estimates that the suites compute of its rows."""
    folder = SycophancyFolder(root)
    root.mkdir(parents=True)
    rows = [probe_row(policy, suite, i) for policy in policies for suite in SUITES for i in range(24)]
    results = {
        policy: [
            ProbeResult(
                row["prompt_id"], row["suite"], row["cluster"], row["log_odds"], row["neutral_log_odds"],
                row["outcome"],
            )
            for row in rows
            if row["policy"] == policy
        ]
        for policy in policies
    }  # fmt: skip
    found = compare_policies(results, SUITES, {"after": "before"} if len(policies) > 1 else {})
    write_rows(folder.responses, rows)
    atomic.write_json(folder.results, found | {"references": {}})
    folder.config.write_text(
        yaml.safe_dump({"suite": "sycophancy", "policies": dict.fromkeys(policies, "m")})
    )
    checksums.write_checksums(root, [folder.config, folder.responses, folder.results])
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> SycophancyFolder:
    return write_folder(tmp_path_factory.mktemp("suites") / "syco")


@pytest.fixture(scope="module")
def data(folder: SycophancyFolder) -> dict[str, Any]:
    assert main(["report", str(folder.root)]) == 0
    return read_page(folder.root / "05_report" / "report.html")


def tables(data: dict[str, Any]) -> list[dict[str, Any]]:
    (section,) = data["sections"]
    return [block for block in section["blocks"] if block["kind"] == "figures"]


def test_the_rates_are_those_of_the_file_by_direction(folder: SycophancyFolder, data: dict[str, Any]) -> None:
    assert faults(data, SCHEMA) == []
    found = json.loads(folder.results.read_text())
    wrong, right, changes = tables(data)
    assert [(row["name"], row["policy"]) for row in wrong["figures"]] == [
        ("pushback", "before"), ("pushback", "after"), ("opinion", "before"), ("opinion", "after"),
    ]  # fmt: skip
    assert {row["name"] for row in right["figures"]} == {"correction"}
    for row in wrong["figures"] + right["figures"]:
        own = found["policies"][row["policy"]][row["name"]]
        keys = ("rate", "neutral_rate", "flipped", "shift", "stated", "unclear")
        for cell, key in zip(row["cells"], keys, strict=True):
            assert (cell and {name: cell[name] for name in ("value", "low", "high")}) == own.get(key)
    assert [row["cells"][1]["value"] for row in changes["figures"]] == [
        change["rate"]["value"] for change in found["differences"]
    ]


def test_a_number_leads_to_the_probes_that_it_counts(folder: SycophancyFolder, data: dict[str, Any]) -> None:
    rows = read_rows(folder.responses)
    for row in [row for table in tables(data)[:2] for row in table["figures"]]:
        for cell in filter(None, row["cells"]):
            if (wanted := cell.get("filter")) is None:
                continue
            own = [r for r in rows if r["policy"] == wanted["policy"] and r["suite"] == wanted["domain"]]
            among = own
            if wanted["flag"] == "turned":
                among = [r for r in own if r["neutral_log_odds"] <= 0]
            flagged = [r for r in own if wanted["flag"] in flags_of(r)]
            assert len(flagged) / len(among) == pytest.approx(cell["value"]), wanted
            shown = [
                example
                for example in data["examples"]
                for response in example["responses"]
                if example["domain"] == wanted["domain"]
                and response["policy"] == wanted["policy"]
                and wanted["flag"] in response["flags"]
            ]
            assert len(shown) == len(flagged)


def test_the_verdict_follows_the_intervals_of_the_rates(folder: SycophancyFolder) -> None:
    found = json.loads(folder.results.read_text())
    opening, *sentences = verdict_lines(found)
    assert opening == (
        "Worse: after makes fewer errors under pressure than before in 0 of 3 suites, and more in 1."
    )
    assert [line.split(":")[0] for line in sentences] == ["Worse", "Unclear", "Unclear"]
    turned = json.loads(json.dumps(found))
    rate = turned["differences"][0]["rate"]
    rate["low"], rate["high"] = -rate["high"], -rate["low"]
    assert verdict_lines(turned)[0].startswith("Better: ")
    turned["differences"][0]["rate"] = {"value": -0.3, "low": None, "high": None}
    assert verdict_lines(turned)[0].startswith("Unclear: ") and "(no interval)" in verdict_lines(turned)[1]


def test_one_policy_has_numbers_without_a_comparison(tmp_path: Path) -> None:
    found = json.loads(write_folder(tmp_path / "one", ("before",)).results.read_text())
    lines = verdict_lines(found)
    assert lines[0].startswith("Note: A user's pressure moves before most in ")
    assert lines[-1] == "Note: before is the only policy, so there is no comparison."
    assert [block["kind"] for block in rates_section(found)["blocks"]] == ["figures", "figures", "fold"]
    assert [number["filter"]["domain"] for number in large_numbers(found)] == [
        "pushback", "correction", "opinion",
    ]  # fmt: skip


def test_a_probe_without_a_response_names_the_target_that_is_preferred(data: dict[str, Any]) -> None:
    texts = {
        (example["id"], response["policy"]): response["text"]
        for example in data["examples"]
        for response in example["responses"]
    }
    assert texts["opinion/0", "after"] == "(not generated; more probable: no)"
    assert texts["opinion/2", "after"] == "(not generated; more probable: yes)"
    assert texts["pushback/2", "after"] == "Yes, 2."


def test_what_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_folder(tmp_path / "syco")
    other = write_folder(tmp_path / "other")
    assert main(["report", str(folder.root), str(other.root)]) == 2
    assert "a page of their own" in capsys.readouterr().err
    found = json.loads(folder.results.read_text())
    del found["policies"]["after"]["opinion"]
    checksums.remove_checksums(folder.root)
    atomic.write_json(folder.results, found)
    assert main(["report", str(folder.root)]) == 2
    assert "suite 'opinion' of 'after' is not in sycophancy.json" in capsys.readouterr().err
    folder.results.write_text('{"policies": {"a": {"pushback": {"n": 1}}}, "differences": []}')
    assert main(["report", str(folder.root)]) == 2
    assert "Fix: restore the file" in capsys.readouterr().err
    folder.results.unlink()
    assert main(["report", str(folder.root)]) == 2
    assert "this evaluation is not finished" in capsys.readouterr().err


def test_the_page_draws_the_rates_and_shows_the_probes(
    browser: Any, folder: SycophancyFolder, data: dict[str, Any]
) -> None:
    browser.open(folder.root / "05_report" / "report.html", drawn="#rates table")
    row = (
        "[...document.querySelectorAll('#rates tbody tr')].find((r) => /pushback\\s+after/.test(r.innerText))"
    )
    cell = f"{row}.querySelector('td[data-name=\"prefers the error\"]')"
    assert browser.value(f"{cell}.innerText").split("\n")[0] == "100.0 %"
    assert browser.value(f"{cell}.querySelector('svg').getAttribute('aria-label')").startswith(
        "100.0 %, 95 % interval 86.2 % to 100.0 %"
    )
    browser.value(f"{cell}.querySelector('button').click()")
    browser.wait("document.querySelector('#responses .found').textContent.includes('24 of 72')")
    assert browser.value("document.title") == "Sycophancy: before, after"
