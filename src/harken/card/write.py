"""Write and read the files of a card: card.json, card.md, rows.json, and their checksums. No torch."""

from __future__ import annotations

from typing import Any, Literal

from harken.card.faults import Measured
from harken.card.markdown import to_markdown
from harken.run import atomic, checksums, json_io
from harken.run.folder import CardFolder

ROWS = "rows"
"""Key of a built card that is written to its own file, rows.json."""
_FIX = "run `harken card` on the run again"


def write_card(folder: CardFolder, card: Measured) -> None:
    """Write card.json, card.md and rows.json, then their checksums."""
    figures = {key: value for key, value in card.items() if key != ROWS}
    folder.root.mkdir(parents=True, exist_ok=True)
    checksums.remove_checksums(folder.root)
    atomic.write_json(folder.card, figures)
    atomic.write_text(folder.markdown, to_markdown(figures))
    atomic.write_json(folder.rows, card.get(ROWS, {"pairs": 0, "rule": "", "rows": []}))
    checksums.write_checksums(folder.root, [folder.card, folder.markdown, folder.rows])


class _Accuracy(json_io.Schema):
    share: float
    low: float
    high: float
    pairs: int


class _Fault(json_io.Schema):
    name: str
    sentence: str
    fix: str


class _Warning(json_io.Schema):
    what: str
    fix: str


class _Difference(json_io.Schema):
    mean: float
    low: float | None
    high: float | None


class _Baseline(json_io.Schema):
    share: float
    difference: _Difference


class _Probe(json_io.Schema):
    name: str
    description: str
    pairs: int
    change: _Difference
    flips: _Accuracy | None


class _CalibrationError(json_io.Schema):
    error: float
    null_high: float


class _Bin(json_io.Schema):
    pairs: int
    confidence: float
    accuracy: float
    low: float
    high: float


class _Calibration(json_io.Schema):
    pairs: int
    ece: _CalibrationError
    temperature: float | None
    bins: list[_Bin]


class _Card(json_io.Schema):
    version: int
    status: Literal["good", "weak", "bad"]
    verdict: str
    model: dict[str, Any]
    accuracy: _Accuracy | None
    slices: dict[str, dict[str, _Accuracy]]
    baselines: dict[str, _Baseline]
    calibration: _Calibration | None
    probes: list[_Probe]
    faults: list[_Fault]
    warnings: list[_Warning]


def read_card_file(folder: CardFolder) -> dict[str, Any]:
    """Read card.json. Raises UserError when it is missing or damaged, or is not a card."""
    card = json_io.read_object(folder.card, _FIX)
    json_io.validate(card, _Card, str(folder.card), _FIX)
    return card


class _Edit(json_io.Schema):
    change: float
    wins: bool


class _Row(json_io.Schema):
    id: str
    prompt: str
    preferred: str
    other: str
    rewards: list[float]
    margin: float | None
    slices: dict[str, str]
    edits: dict[str, _Edit]


class _Rows(json_io.Schema):
    pairs: int
    rule: str
    rows: list[_Row]


def read_card_rows(folder: CardFolder) -> dict[str, Any]:
    """Read rows.json; no rows if an older version wrote the card. Raises UserError when it is damaged."""
    if not folder.rows.exists():
        return {"pairs": 0, "rule": "", "rows": []}
    rows = json_io.read_object(folder.rows, _FIX)
    json_io.validate(rows, _Rows, str(folder.rows), _FIX)
    return rows
