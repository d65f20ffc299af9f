"""Tabulate what token limits would cost, by stage and domain, before training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from harken.data.chat import Renderer, RenderFailure
from harken.records import Demonstration, Preference, Prompt, TokenPair

GRID_LIMITS = (512, 1024, 2048, 3072, 4096)
"""Token limits of the table."""
MAX_DOMAINS = 6
"""Domains that are listed; the others are counted in "all" only."""


@dataclass(frozen=True)
class RowLength:
    """The tokens of one row as a stage reads it, and the limits of the grid at which the row would be dropped."""

    stage: str
    domain: str
    tokens: int
    dropped_at: frozenset[int]


def row_lengths(
    row: Demonstration | Preference | TokenPair | Prompt,
    renderer: Renderer,
    limits: Sequence[int],
    stage: str = "sft",
) -> list[RowLength]:
    """Measure a row for every stage that can read it: preferences as SFT (the better side) and reward rows.

    `stage` is the name of the stage that reads demonstrations.
    Rows over a limit are encoded at that limit, to see whether shortening the prompt is enough. Raises TemplateRefusal
    as the renderer does.
    """
    if isinstance(row, TokenPair):
        longest = max(len(row.chosen_tokens), len(row.rejected_tokens))
        return [RowLength("reward", row.domain, longest, frozenset(n for n in limits if n < longest))]
    if isinstance(row, Prompt):
        tokens = len(renderer.encode_prompt(row.messages, row.tools))
        return [
            RowLength(
                "ppo", row.domain, tokens, _dropped(limits, tokens, lambda n: renderer.try_fit_prompt(row, n))
            )
        ]
    if isinstance(row, Demonstration):
        return [_demonstration(row, renderer, limits, stage)]
    tokens = renderer.count_tokens(row)
    dropped = _dropped(limits, tokens, lambda n: renderer.encode_preference(row, n))
    lengths = [RowLength("reward", row.prompt.domain, tokens, dropped)]
    if row.label != 0.5:
        demonstration = Demonstration(row.prompt, row.chosen if row.label > 0.5 else row.rejected)
        lengths.insert(0, _demonstration(demonstration, renderer, limits, stage))
    return lengths


def grid_cells(lengths: Iterable[RowLength], limits: Sequence[int]) -> dict[str, list[str]]:
    """Tabulate the share of rows over each limit, and in brackets the share that is dropped, as title → cells.

    The other rows over a limit keep their response and lose the beginning of their prompt.
    """
    rows = list(lengths)
    stages = list(dict.fromkeys(row.stage for row in rows))
    groups: list[tuple[str, str]] = []
    for stage in stages:
        domains = Counter(row.domain for row in rows if row.stage == stage)
        names = [name for name, _ in domains.most_common(MAX_DOMAINS)] if len(domains) > 1 else []
        groups += [(stage, "all"), *((stage, name or "none") for name in names)]
    cells: dict[str, list[str]] = {"stage": [], "domain": [], "rows": []}
    cells |= {f"> {limit:,}": [] for limit in limits}
    for stage, domain in groups:
        cell_rows = [r for r in rows if r.stage == stage and domain in ("all", r.domain or "none")]
        cells["stage"].append(stage)
        cells["domain"].append(domain)
        cells["rows"].append(f"{len(cell_rows):,}")
        for limit in limits:
            over = sum(row.tokens > limit for row in cell_rows) / len(cell_rows)
            dropped = sum(limit in row.dropped_at for row in cell_rows) / len(cell_rows)
            cells[f"> {limit:,}"].append(f"{over:.2%}" + (f" ({dropped:.2%})" if dropped else ""))
    return cells


def _demonstration(row: Demonstration, renderer: Renderer, limits: Sequence[int], stage: str) -> RowLength:
    tokens = renderer.count_tokens(row)
    dropped = _dropped(limits, tokens, lambda n: renderer.encode_demonstration(row, n))
    return RowLength(stage, row.prompt.domain, tokens, dropped)


def _dropped(limits: Sequence[int], tokens: int, encode: Callable[[int], object]) -> frozenset[int]:
    return frozenset(n for n in limits if n < tokens and isinstance(encode(n), RenderFailure))
