"""Plot runs as reward against KL: one static page of SVG without scripts or external files."""

from __future__ import annotations

import base64
import hashlib
import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harken.run import atomic

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 44, 44
"""Size of the plot and its margins in pixels."""
MIN_TICK_GAP = 0.07
"""Minimum distance of ticks as a share of the axis."""
MIN_KL_RANGE = 0.1
"""Minimum range of the KL axis in nats."""
CHAR_WIDTH, LINE_HEIGHT = 6.7, 14
"""Approximate width of a character and height of a line of labels in pixels."""
MAX_LABEL = 48
"""Largest number of characters of a label in the plot; the table has the full label."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1d1f22; --muted: #5f636b; --line: #d5d1c8; --front: #0b5c66; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e6e1; --muted: #a0a5ad; --line: #3b4046; --front: #6fc3ce; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
svg { width: 100%; height: auto; overflow: visible; }
svg text { font-size: 12px; fill: var(--muted); }
svg text.label { fill: var(--ink); }
svg .grid { stroke: var(--line); }
svg .stairs { stroke: var(--front); stroke-dasharray: 4 4; fill: none; }
svg circle { stroke: var(--muted); fill: none; stroke-width: 1.5; }
svg circle.front { stroke: var(--front); fill: var(--front); }
.muted { color: var(--muted); }
table { border-collapse: collapse; margin-top: 0.8rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: 0.15rem 0.9rem; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
"""


@dataclass(frozen=True, slots=True)
class Point:
    """A run: its settings, name, KL from the reference in nats per sequence, and reward.

    Runs of one group differ only in their seed, and share one label.
    """

    group: str
    label: str
    kl: float
    reward: float


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: a measure of reward against the KL of the same runs."""

    title: str
    caption: str
    points: tuple[Point, ...]


def pareto(points: Sequence[Point]) -> list[int]:
    """Return the indices of the Pareto-optimal points, sorted by KL.

    A point dominates another if its KL is not larger, its reward is not smaller, and one of the two differs.
    """
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i].kl, -points[i].reward)):
        last_point = points[front[-1]] if front else None
        is_equal = last_point is not None and (points[i].kl, points[i].reward) == (
            last_point.kl,
            last_point.reward,
        )
        if last_point is None or points[i].reward > last_point.reward or is_equal:
            front.append(i)
    return front


def write_frontier(out: Path, *, title: str, notes: Sequence[str], panels: Sequence[Panel]) -> Path:
    """Write the page to `out` and return it. The same arguments give the same bytes.

    Raises ValueError if a point is not finite.
    """
    policy = f"default-src 'none'; style-src '{_hash(_STYLE)}'; base-uri 'none'; form-action 'none'"
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width">',
        f"<title>{html.escape(title)}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>{html.escape(title)}</h1>",
        *(f'<p class="muted">{html.escape(note)}</p>' for note in notes),
        *(_panel(panel) for panel in panels),
        "</body></html>",
    ]
    atomic.write_text(out, "\n".join(parts) + "\n")
    return out


def _panel(panel: Panel) -> str:
    front = pareto(panel.points)
    rows = "".join(
        f"<tr><td>{html.escape(p.label)}</td><td>{p.kl:.2f}</td><td>{p.reward:+.3f}</td>"
        f"<td>{'yes' if i in front else ''}</td></tr>"
        for i, p in sorted(enumerate(panel.points), key=lambda pair: pair[1].kl)
    )
    return (
        f"<section><h2>{html.escape(panel.title)}</h2>"
        f'<p class="muted">{html.escape(panel.caption)}</p>{_plot(panel, front)}'
        "<table><thead><tr><th>run</th><th>KL, nats per sequence</th>"
        f"<th>{html.escape(panel.title)}</th><th>on the front</th></tr></thead><tbody>{rows}</tbody></table></section>"
    )


def _plot(panel: Panel, front: Sequence[int]) -> str:
    """Return the SVG: KL on a horizontal square-root scale, reward on a vertical linear scale."""
    points = panel.points
    if not all(math.isfinite(value) for p in points for value in (p.kl, p.reward)):
        raise ValueError(f"{panel.title}: a point of the frontier is not finite")
    lowest, highest = min(p.reward for p in points), max(p.reward for p in points)
    margin = 0.08 * (highest - lowest) or 0.5
    furthest = max(*(1.1 * p.kl for p in points), MIN_KL_RANGE)
    x = _Axis(0.0, furthest, LEFT, WIDTH - RIGHT, _root)
    y = _Axis(lowest - margin, highest + margin, HEIGHT - BOTTOM, TOP, float)
    elements = [
        *_grid(x, y),
        _front_line([(x.pixel(points[i].kl), y.pixel(points[i].reward)) for i in front]),
    ]
    for i, point in enumerate(points):
        tip = f"{point.label}: KL {point.kl:.2f} nats per sequence, reward {point.reward:+.3f}"
        elements.append(
            f'<circle class="{"front" if i in front else "beaten"}" cx="{x.pixel(point.kl):.1f}" '
            f'cy="{y.pixel(point.reward):.1f}" r="5"><title>{html.escape(tip)}</title></circle>'
        )
    elements += _labels(points, x, y)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{html.escape(panel.title)} against KL">{"".join(elements)}</svg>'
    )


@dataclass(frozen=True, slots=True)
class _Axis:
    low: float
    high: float
    start: float
    end: float
    transform: Callable[[float], float]

    def fraction(self, value: float) -> float:
        """Return the position of a value on the axis, 0 … 1."""
        low = self.transform(self.low)
        return (self.transform(value) - low) / (self.transform(self.high) - low)

    def pixel(self, value: float) -> float:
        """Return the pixel of a value."""
        return self.start + self.fraction(value) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Return round numbers at least `MIN_TICK_GAP` apart."""
        ticks: list[float] = []
        power = math.floor(math.log10((self.high - self.low) / 1000))
        round_numbers = sorted(
            digit * 10.0**p
            for p in range(power, power + 5)
            for digit in (1, 2, 5)
            if digit * 10.0**p <= self.high - self.low
        )
        if self.transform is _root:
            for value in [0.0, *round_numbers]:
                if not ticks or self.fraction(value) - self.fraction(ticks[-1]) >= MIN_TICK_GAP:
                    ticks.append(value)
            return ticks
        step = next(
            candidate
            for candidate in round_numbers
            if self.fraction(self.low + candidate) >= 2 * MIN_TICK_GAP
        )
        first_multiple = math.ceil(self.low / step)
        return [step * n for n in range(first_multiple, math.floor(self.high / step) + 1)]


def _root(value: float) -> float:
    """Return the square root; KL estimates slightly below 0 become 0."""
    return math.sqrt(max(value, 0.0))


def _grid(x: _Axis, y: _Axis) -> list[str]:
    lines = []
    for value in x.ticks():
        across = f"{x.pixel(value):.1f}"
        lines += [
            f'<line class="grid" x1="{across}" x2="{across}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>',
            f'<text x="{across}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>',
        ]
    for value in y.ticks():
        up = y.pixel(value)
        lines += [
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up:.1f}" y2="{up:.1f}"/>',
            f'<text x="{LEFT - 8}" y="{up + 4:.1f}" text-anchor="end">{value:.6g}</text>',
        ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    words = "KL from the reference, nats per sequence (square-root scale)"
    return [*lines, f'<text x="{middle:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{words}</text>']


def _labels(points: Sequence[Point], x: _Axis, y: _Axis) -> list[str]:
    """Label each group above its highest point, moved up to avoid overlaps; labels beyond the top are dropped."""
    texts: list[str] = []
    occupied: list[tuple[float, float, float]] = []
    highest = {p.group: p for p in sorted(points, key=lambda p: p.reward)}
    for group, point in sorted(highest.items(), key=lambda pair: pair[1].reward):
        name = group if len(group) <= MAX_LABEL else f"{group[: MAX_LABEL - 1]}…"
        across, up, width = x.pixel(point.kl), y.pixel(point.reward) - 9, CHAR_WIDTH * len(name)
        is_left = across > WIDTH / 2
        left = across - width if is_left else across
        while any(
            abs(up - height) < LINE_HEIGHT and left < end and start < left + width
            for start, end, height in occupied
        ):
            up -= LINE_HEIGHT
        if up < LINE_HEIGHT:
            continue
        occupied.append((left, left + width, up))
        anchor = "end" if is_left else "start"
        texts.append(
            f'<text class="label" x="{across:.1f}" y="{up:.1f}" text-anchor="{anchor}">{html.escape(name)}</text>'
        )
    return texts


def _front_line(corners: Sequence[tuple[float, float]]) -> str:
    """Return the path of the highest reward that any run reached within each KL."""
    (across, up), *later = corners
    path = f"M{across:.1f} {up:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in later)
    return f'<path class="stairs" d="{path}H{WIDTH - RIGHT}"/>'


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
