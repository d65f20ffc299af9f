"""Write the report of a review as a page: its text and tables, and how every rater votes over time. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harken.explorer.build import build_report
from harken.explorer.page_inputs import PageInputs
from harken.explorer.text_sections import card_section
from harken.review.rater_figures import BLOCK

KIND = "review"
"""Kind of the stage that has the charts: the page calls its steps votes."""
_CHARTS = {
    "left": (
        "Chooses left",
        "share of decided votes",
        "share",
        (0.5, "balanced"),
        "The plan balances the sides, so about half is expected. A rise may show a rater who stops reading.",
    ),
    "undecided": (
        "Ties and both bad",
        "share of votes",
        "share",
        None,
        "A rise may mean fatigue; a fall may mean that a rater has understood the rubric.",
    ),
    "second_policy": (
        "Prefers the later policy",
        "share of decided votes",
        "share",
        (0.5, "no preference"),
        "Items come in a random order, so a trend is of the rater and not of the items.",
    ),
    "seconds": (
        "Time per item",
        "seconds, median",
        "number",
        None,
        "Some practice makes raters faster. Times below reading speed are counted in the table of raters.",
    ),
}
"""Key of `over_time` → title, unit, format, reference level and caption."""


def write_report_page(path: Path, figures: Mapping[str, Any], lines: Sequence[str]) -> None:
    """Write report.html. `lines` are those of report.md, `figures` those of report.json."""
    headline = next(line for line in lines[1:] if line)
    votes = [entry["votes"] for entry in figures["raters"]]
    charts = drift_charts(figures["raters"])
    stage = {"title": "All raters", "charts": charts}
    build_report(
        path,
        PageInputs(
            title=f"Blinded review: {', '.join(figures['policies'])}",
            notice="",
            summary=None,
            responses=[],
            stage_metrics={KIND: [{"step": max(votes)}]} if charts else {},
            stage_info={KIND: stage} if charts else {},
            headline=[f"Note: {headline.replace('**', '')}"],
            sections=[card_section("\n".join(_markdown(lines)), "Statistics", "statistics")],
            numbers=_numbers(figures, sum(votes)),
        ),
    )


def drift_charts(raters: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the charts of all raters over their votes, as page data; [] if no rater has two blocks of votes."""
    if not any(entry["over_time"]["seconds"] for entry in raters):
        return []
    charts = []
    for key, (title, unit, value_format, level, caption) in _CHARTS.items():
        series = [
            {
                "label": entry["rater"],
                "metric": key,
                "points": [[end, value] for end, value, _ in entry["over_time"][key]],
            }
            for entry in raters
        ]
        charts.append(
            {
                "title": title,
                "unit": unit,
                "caption": f"{caption} {_noise(raters, key) if value_format == 'share' else ''}".strip(),
                "format": value_format,
                "marks": [] if level is None else [{"value": level[0], "label": level[1]}],
                "bands": [],
                "series": series,
            }
        )
    return charts


def _noise(raters: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return a sentence on how far a share of a block varies by chance."""
    counts = [count for entry in raters for _, _, count in entry["over_time"][key]]
    least = min(counts, default=BLOCK)
    return (
        f"A point is a block of {least} votes or more: by chance alone a share of 50 % varies by up to "
        f"{100 * 1.96 * 0.5 / least**0.5:.0f} points."
    )


def _numbers(figures: Mapping[str, Any], votes: int) -> list[dict[str, Any]]:
    """Return the large numbers: the first pair's win rate, the raters' agreement, and how many votes there are."""
    numbers = []
    for pair in figures["pairs"][:1]:
        if (rate := pair["win_rate_decided"]) is not None:
            numbers.append(
                {
                    "label": f"{pair['right']} preferred to {pair['left']}",
                    "value": f"{100 * rate['value']:.0f} %",
                    "detail": f"{pair['wins']} of {rate['n']} decided items; 95 % interval "
                    f"{100 * rate['low']:.0f} to {100 * rate['high']:.0f} %",
                }
            )
    if (agreement := figures["agreement"]) is not None:
        numbers.append(
            {
                "label": "Raters agree with each other",
                "value": f"{100 * agreement['percent']:.0f} %",
                "detail": f"equal outcomes on {agreement['items']} items with two or more votes",
            }
        )
    numbers.append(
        {
            "label": "Votes",
            "value": f"{votes:,}",
            "detail": f"of {len(figures['raters'])} rater{'s' * (len(figures['raters']) != 1)}",
        }
    )
    return numbers


def _markdown(lines: Sequence[str]) -> list[str]:
    """Return the report without its headline, which is at the top of the page, in the Markdown that the page reads."""
    start = next(i for i, line in enumerate(lines[1:], 1) if line) + 1
    page_lines: list[str] = []
    for line in lines[start:]:
        item = line.strip().startswith("- ")
        if item and page_lines and page_lines[-1] and not page_lines[-1].startswith("* "):
            page_lines.append("")
        page_lines.append("* " + line.strip().removeprefix("- ") if item else line)
    return page_lines
