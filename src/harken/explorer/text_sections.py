"""Convert the report card of a reward model and the audit of responses to sections of the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

MAX_ROWS = 60
"""Maximum rows of a table on the page; the files have all of them."""

Block = dict[str, Any]
"""{"kind": "heading" | "text" | "item", "text"} or {"kind": "table", "heads", "rows"}."""


def card_section(markdown: str, title: str = "Reward model", key: str = "reward-model") -> dict[str, Any]:
    """Return the section of a reward model's card from its card.md, without the file's own title."""
    blocks = [block for block in _blocks(markdown) if block.get("level") != 1]
    return {"id": key, "title": title, "blocks": [_without_level(block) for block in blocks]}


def audit_section(audit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section of the audit from audit.json: its description, then every kind's rate that is not 0."""
    occurring = dict.fromkeys(rate["kind"] for rate in audit["rates"] if rate["count"])
    policies = list(dict.fromkeys(rate["policy"] for rate in audit["rates"]))
    rates = {(rate["kind"], rate["policy"]): rate for rate in audit["rates"]}
    rows = [
        [kind.replace("_", " "), *(_rate(rates[kind, policy]) for policy in policies)] for kind in occurring
    ]
    blocks: list[Block] = [{"kind": "text", "text": line} for line in audit["description"]]
    if rows:
        blocks.append({"kind": "table", "heads": ["responses with", *policies], "rows": rows})
        blocks.append(
            {
                "kind": "text",
                "text": "Number of responses, share with its 95 % Wilson interval, and the exact McNemar p against the "
                "baseline. The responses below can be filtered by each of them.",
            }
        )
    return {"id": "audit", "title": "Audit", "blocks": blocks}


def _rate(rate: Mapping[str, Any]) -> str:
    share = rate["count"] / rate["n"] if rate["n"] else 0.0
    p = "" if rate["mcnemar_p"] is None else f", p = {rate['mcnemar_p']:.2g}"
    return f"{rate['count']}: {100 * share:.1f} % ({100 * rate['low']:.1f} to {100 * rate['high']:.1f}){p}"


def _blocks(markdown: str) -> list[Block]:
    """Parse headings, paragraphs, items and tables: the Markdown that `card.markdown` writes."""
    blocks: list[Block] = []
    for paragraph in re.split(r"\n\s*\n", markdown.strip()):
        lines = paragraph.splitlines()
        if lines[0].startswith("#"):
            hashes, _, text = lines[0].partition(" ")
            blocks.append({"kind": "heading", "text": text, "level": len(hashes)})
        elif lines[0].startswith("|"):
            cells = [_cells(line) for line in lines]
            blocks.append({"kind": "table", "heads": cells[0], "rows": cells[2 : 2 + MAX_ROWS]})
        elif lines[0].startswith("* "):
            blocks += [{"kind": "item", "text": _plain(line.removeprefix("* "))} for line in lines]
        else:
            blocks.append({"kind": "text", "text": _plain(" ".join(lines))})
    return blocks


def _cells(line: str) -> list[str]:
    inner = line.strip().removeprefix("|").removesuffix("|")
    return [_plain(cell.strip().replace(r"\|", "|")) for cell in re.split(r"(?<!\\)\|", inner)]


def _plain(text: str) -> str:
    return text.replace("**", "")


def _without_level(block: Block) -> Block:
    return {key: value for key, value in block.items() if key != "level"}


def text_sections(cards: Mapping[str, str], audit: Mapping[str, Any] | None) -> Sequence[dict[str, Any]]:
    """Return the sections of the page: the card of each reward model by its run, and the audit if any."""
    if len(cards) == 1:
        sections = [card_section(card) for card in cards.values()]
    else:
        sections = [
            card_section(card, f"Reward model: {name}", f"reward-model-{name}")
            for name, card in cards.items()
        ]
    return [*sections, *([audit_section(audit)] if audit else [])]
