"""Measure what the page of a large evaluation costs in a headless Chromium.

    python benchmarks/page.py                # about a minute for the audit; --no-audit leaves it out
    python benchmarks/page.py --prompts 6667 --split

Synthetic responses by three policies to 2,017 prompts. Targets: a file of at most 8 MB that can be used after 2 s, a
filter that answers within 100 ms, at most 250 KB of script, and no request to a network.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import result

from harken.explorer.build import build_report, static
from harken.explorer.page_inputs import PageInputs
from harken.explorer.shards import write_split_page

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from explorer.conftest import Browser  # noqa: E402  the tests' browser
from explorer.large_page import evaluation, measure  # noqa: E402

TARGETS = {"file_mb": 8.0, "open_ms": 2000.0, "filter_ms": 100.0, "script_kb": 250.0, "requests": 0.0}


def main() -> None:
    """Build the page, open it several times, and write the file."""
    asked = result.arguments("Measure what the page of a large evaluation costs in a headless Chromium.")
    asked.add_argument("--prompts", type=int, default=2017)
    asked.add_argument("--repeats", type=int, default=5)
    asked.add_argument("--split", action="store_true", help="the examples in shards beside the page")
    asked.add_argument("--no-audit", action="store_true", help="no flags, which take longest to compute")
    given = result.parsed(asked, {"prompts": 30, "repeats": 1})
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("no Chromium is installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        page = folder / "page" / "index.html"
        started = time.perf_counter()
        arguments = evaluation(given.prompts, audited=not given.no_audit)
        built = time.perf_counter()
        build_report(page, PageInputs(**arguments), write=write_split_page if given.split else None)
        seconds = time.perf_counter() - built
        browser = Browser(program, folder / "browser")
        runs = [measure(browser, page) for _ in range(given.repeats)]
        browser.close()
        size = sum(path.stat().st_size for path in page.parent.rglob("*") if path.is_file())
    figures = {
        "responses": len(arguments["responses"]),
        "characters": sum(len(row["response"]) for row in arguments["responses"])
        / len(arguments["responses"]),
        "file_mb": size / 1e6,
        "open_ms": median(run["open_ms"] for run in runs),
        "filter_ms": median(run["filter_ms"][-1] for run in runs),
        "filter_median_ms": median(median(run["filter_ms"]) for run in runs),
        "painted_median_ms": median(median(run["painted_ms"]) for run in runs),
        "heap_mb": median(run["heap_mb"] for run in runs),
        "script_kb": len(static("explorer.js").encode()) / 1e3,
        "requests": float(sum(len(run["requests"]) for run in runs)),
        "write_seconds": seconds,
        "audit_seconds": built - started,
    }
    result.table(["measure", "value", "target"], [_row(name, value) for name, value in figures.items()])
    result.save("page_split" if given.split else "page", given, {}, figures)


def _row(name: str, value: float) -> list[str]:
    target = TARGETS.get(name)
    met = "" if target is None else f"≤ {target:g}: {'met' if value <= target else 'missed'}"
    return [name, f"{value:,.1f}", met]


if __name__ == "__main__":
    main()
