"""Copy a report for a static host, with the paths of the machine that made it shortened.

    python scripts/publish_page.py outputs/demo/05_report/report.html docs/demo_page/index.html

The home folder becomes ~, and the working directory that the run was started in (--root) is left out.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import re
from pathlib import Path

from harken.explorer.build import page

_DATA = re.compile(r'<script[^>]*id="data"[^>]*>([^<]*)</script>')


def main() -> None:
    """Read the data of the page, shorten its paths, and write the page again with the present script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("report", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--root", default=str(Path.cwd()), help="folder that paths are made relative to")
    parser.add_argument("--title", help="another title")
    parser.add_argument("--notice", help="another notice above everything")
    given = parser.parse_args()
    found = _DATA.search(given.report.read_text(encoding="utf-8"))
    if found is None:
        parser.error(f"{given.report}: no report of Harken in one file")
    text = gzip.decompress(base64.b64decode(found[1])).decode()
    text = re.sub(r"[^\s\"]*/harken/cli/main\.py", "harken", text)
    text = text.replace(f"{given.root.rstrip('/')}/", "").replace(str(Path.home()), "~")
    data = json.loads(text)
    data |= {"title": given.title or data["title"], "notice": given.notice or data["notice"]}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(page(data["title"], data), encoding="utf-8")
    print(f"{given.out}: {given.out.stat().st_size / 1e3:,.0f} KB")


if __name__ == "__main__":
    main()
