"""Write and read the files of a card: card.json, card.md and their checksums in the run's `card` folder. No torch."""

from __future__ import annotations

from typing import Any

from harken.card.faults import Measured
from harken.card.markdown import to_markdown
from harken.run import atomic, checksums, json_io
from harken.run.folder import CardFolder

_FIX = "run `harken card` on the run again"


def write_card(folder: CardFolder, card: Measured) -> None:
    """Write card.json and card.md, then their checksums."""
    folder.root.mkdir(parents=True, exist_ok=True)
    checksums.remove_checksums(folder.root)
    atomic.write_json(folder.card, dict(card))
    atomic.write_text(folder.markdown, to_markdown(card))
    checksums.write_checksums(folder.root, [folder.card, folder.markdown])


class _Accuracy(json_io.Schema):
    share: float
    low: float
    high: float
    pairs: int


class _Fault(json_io.Schema):
    name: str
    sentence: str
    fix: str


class _Card(json_io.Schema):
    version: int
    status: str
    verdict: str
    accuracy: _Accuracy | None
    faults: list[_Fault]


def read_card_file(folder: CardFolder) -> dict[str, Any]:
    """Read card.json. Raises UserError when it is missing or damaged, or is no card."""
    card = json_io.read_object(folder.card, _FIX)
    json_io.validate(card, _Card, str(folder.card), _FIX)
    return card
