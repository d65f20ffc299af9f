"""Take pictures of a report in light and dark, at the widths of a large screen, a laptop and a phone.

    python scripts/screenshots.py outputs/demo/05_report/report.html docs/pictures

Writes NAME_WIDTH_THEME.webp for the top of the page at every width, and for its sections at the width of a laptop.
Needs Chromium.
"""

from __future__ import annotations

import argparse
import base64
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from explorer.conftest import Browser

TOP = {1920: 1080, 1280: 1000, 390: 844}
"""Height of the picture of the top of the page by its width, in pixels."""
SECTIONS = {"comparison": 1280, "reward-model": 1280, "training": 1280, "responses": 1280, "tokens": 1280}
"""Sections that have a picture of their own, with the width of the page."""
PHONE_SECTIONS = ("responses",)
"""Sections that are also shown on a phone."""
HEIGHT = 900
THEMES = ("light", "dark")
QUALITY = 72


def main() -> None:
    """Take all pictures of the page in the first argument into the folder in the second."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("page", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="report", help="how the files' names begin")
    given = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("chromium is not installed: install it, or put google-chrome on the PATH")
    given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, Path(profile))
        browser.open(given.page.resolve(), drawn="main section")
        browser.call("Emulation.setScrollbarsHidden", {"hidden": True})
        for theme in THEMES:
            for width, height in TOP.items():
                _show(browser, width, height, theme, "title")
                _save(browser, given.folder / f"{given.name}_{width}_{theme}.webp")
            for section, width in SECTIONS.items():
                if _show(browser, width, HEIGHT, theme, section):
                    _save(browser, given.folder / f"{given.name}_{section}_{theme}.webp")
            for section in PHONE_SECTIONS:
                if _show(browser, 390, TOP[390], theme, section):
                    _save(browser, given.folder / f"{given.name}_{section}_390_{theme}.webp")
        browser.close()
    size = sum(path.stat().st_size for path in given.folder.glob(f"{given.name}_*.webp"))
    print(f"{given.folder}: {size / 1e3:,.0f} KB")


def _show(browser: Browser, width: int, height: int, theme: str, section: str) -> bool:
    """Bring a section to the top of the window; return whether the page has it."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.call("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}, _STILL]}
    browser.call("Emulation.setEmulatedMedia", media)
    there = f"document.getElementById({section!r})"
    if not browser.value(f"{there} !== null"):
        return False
    where = "scrollTo(0, 0)" if section == "title" else f"{there}.scrollIntoView()"
    # Scrolled twice: a section above may be drawn only when it is near, and has another height then.
    browser.call(
        "Runtime.evaluate",
        {
            "expression": f"(async () => {{ for (const _ of [0, 1]) {{ {where};"
            "await new Promise((done) => setTimeout(done, 700)); } })()",
            "awaitPromise": True,
        },
    )
    return True


_STILL = {"name": "prefers-reduced-motion", "value": "reduce"}


def _save(browser: Browser, path: Path) -> None:
    found = browser.call("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    path.write_bytes(base64.b64decode(found["data"]))
    print(path)


if __name__ == "__main__":
    main()
