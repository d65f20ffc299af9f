"""The data inside a report's page."""

from __future__ import annotations

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any


def read_page(path: Path) -> dict[str, Any]:
    """Decode what the page's script draws."""
    packed = re.search(r'type="application/gzip\+base64"[^>]*>([^<]+)<', path.read_text())
    assert packed
    found: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed[1], validate=True)))
    return found
