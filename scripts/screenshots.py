"""Take pictures of a report in light and dark, at the widths of a large screen, a laptop and a phone.

    python scripts/screenshots.py outputs/demo/05_report/report.html docs/images

Writes report_WIDTH_THEME.png for each; needs Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = {1920: 1400, 1280: 1500, 390: 1500}
"""Height of the picture by its width, in pixels."""
THEMES = {"light": 1, "dark": 0}
"""Chromium's number of each preferred colour scheme."""


def take(page: Path, out: Path, width: int, height: int, theme: str) -> None:
    """Write one picture. Raises CalledProcessError if Chromium fails."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        sys.exit("chromium is not installed: install it, or put google-chrome on the PATH")
    with tempfile.TemporaryDirectory() as profile:
        subprocess.run(
            [
                program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                f"--user-data-dir={profile}", f"--blink-settings=preferredColorScheme={THEMES[theme]}",
                f"--window-size={width},{height}", "--virtual-time-budget=8000", f"--screenshot={out}", page.as_uri(),
            ],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip


def main() -> None:
    """Take all pictures of the page in the first argument into the folder in the second."""
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} REPORT.html FOLDER")
    page, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES.items():
        for theme in THEMES:
            out = folder / f"report_{width}_{theme}.png"
            take(page, out, width, height, theme)
            print(out)


if __name__ == "__main__":
    main()
