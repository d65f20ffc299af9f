"""Convert the report card of a reward model and the audit of responses to sections of the page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MAX_ROWS = 60
"""Maximum rows of a table on the page; the files have all of them."""

Block = dict[str, Any]
"""A block of `schema.json`: a heading, a paragraph, an item, a table of texts, figures with intervals, or a fold."""

_NAMES = {"cap_hit": "truncated"}
"""What the page calls a kind of failure, where that is not the kind's own name."""


def card_section(markdown: str, title: str = "Reward model", key: str = "reward-model") -> dict[str, Any]:
    """Return the section of a reward model's card from its card.md, without the file's own title."""
    blocks = [block for block in _blocks(markdown) if block.get("level") != 1]
    return {"id": key, "title": title, "blocks": [_without_level(block) for block in blocks]}


def audit_section(audit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section of the audit from audit.json: every kind's rate that is not 0, then what happened in words."""
    occurring = dict.fromkeys(rate["kind"] for rate in audit["rates"] if rate["count"])
    policies = list(dict.fromkeys(rate["policy"] for rate in audit["rates"]))
    rates = {(rate["kind"], rate["policy"]): rate for rate in audit["rates"]}
    lines = [_readable(line, audit.get("meanings", {})) for line in audit["description"]]
    if not occurring:
        return {"id": "audit", "title": "Audit", "blocks": [{"kind": "text", "text": line} for line in lines]}
    blocks: list[Block] = [
        {
            "kind": "figures",
            "text": "Failures that occur, as shares of the responses with 95 % Wilson intervals; p: exact McNemar test "
            f"against {policies[0]}",
            "heads": ["responses with", *policies],
            "formats": ["share"] * len(policies),
            "figures": [
                {"name": _kind_name(kind), "cells": [_rate(rates[kind, policy]) for policy in policies]}
                for kind in occurring
            ],
        },
        {"kind": "fold", "text": f"What the audit found, in words ({len(lines)})", "items": lines},
    ]
    return {"id": "audit", "title": "Audit", "blocks": blocks}


def _readable(line: str, names: Iterable[str]) -> str:
    """Write a sentence of the audit as the page does: names without underscores, a space before a percent sign."""
    for name in sorted((name for name in names if "_" in name), key=len, reverse=True):
        line = re.sub(rf"\b{name}\b", _kind_name(name), line)
    return re.sub(r"(?<=\d)%", " %", line)


def _kind_name(kind: str) -> str:
    return _NAMES.get(kind, kind.replace("_", " "))


def _rate(rate: Mapping[str, Any]) -> dict[str, Any]:
    note = f"{rate['count']} of {rate['n']}" + (
        "" if rate["mcnemar_p"] is None else f", p {_probability(rate['mcnemar_p'])}"
    )
    cell = {
        "value": rate["count"] / rate["n"] if rate["n"] else 0.0,
        "low": rate["low"],
        "high": rate["high"],
        "note": note,
    }
    return cell | ({"filter": {"policy": rate["policy"], "flag": rate["kind"]}} if rate["count"] else {})


def _probability(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


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
