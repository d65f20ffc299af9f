"""The frontier page: which points no other beats, and a picture that holds them all and nothing else."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harken.explorer.frontier import Panel, Point, pareto, write_frontier

SVG = "{http://www.w3.org/2000/svg}"
small = st.integers(-3, 3).map(float)
clouds = st.lists(st.builds(Point, st.just("a"), st.just("a run"), small, small), min_size=1, max_size=12)


def beats(one: Point, other: Point) -> bool:
    no_worse = one.kl <= other.kl and one.reward >= other.reward
    return no_worse and (one.kl, one.reward) != (other.kl, other.reward)


@given(clouds)
@example(
    [
        Point("a", "a", 1.0, 1.0),
        Point("b", "b", 1.0, 1.0),
        Point("c", "c", 2.0, 1.0),
        Point("d", "d", 1.0, 0.0),
    ]
)
def test_the_front_is_the_runs_that_none_dominates(points: list[Point]) -> None:
    """S4-18: against the definition, point by point."""
    front = pareto(points)
    assert sorted(front) == [i for i, p in enumerate(points) if not any(beats(q, p) for q in points)]
    assert [points[i].kl for i in front] == sorted(points[i].kl for i in front)


def pictures(page: str) -> list[ElementTree.Element]:
    return [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL)]


def places(picture: ElementTree.Element) -> list[tuple[float, float, str]]:
    """Of each circle: where it is, and whether it is filled."""
    return [
        (float(c.attrib["cx"]), float(c.attrib["cy"]), c.attrib["class"])
        for c in picture.iter(f"{SVG}circle")
    ]


@pytest.fixture
def page(tmp_path: Path) -> str:
    points = (
        Point("<b> & co", "<b> & co", -0.02, 0.1),
        Point("mid", "mid", 4.0, 0.5),
        Point("worse", "worse", 9.0, 0.2),
        Point("far", "far", 16.0, 0.9),
    )
    panels = [Panel("Reward", "Trained for.", points), Panel("judge", "Not trained for.", points[:1])]
    return write_frontier(tmp_path / "f.html", title="<sweep>", notes=["A note"], panels=panels).read_text()


def test_a_circle_a_run_at_its_place(page: str) -> None:
    """S2-92: one point a run, KL to the right on a square-root scale, reward upwards."""
    first, second = pictures(page)
    (x0, y0, _), (x4, y4, _), (x9, y9, nine), (x16, y16, _) = places(first)
    assert nine == "beaten" and [kind for _, _, kind in places(first)].count("front") == 3
    assert x16 - x0 == pytest.approx(2 * (x4 - x0), abs=0.2) and x9 - x0 == pytest.approx(
        1.5 * (x4 - x0), abs=0.2
    )
    assert (y0 - y16) / (y0 - y4) == pytest.approx(2.0, abs=0.02) and y16 < y4 < y9 < y0
    assert len(places(second)) == 1
    tips = [title.text for title in first.iter(f"{SVG}title")]
    assert tips[0] == "<b> & co: KL -0.02 nats per sequence, reward +0.100"


def test_every_mark_is_inside_the_picture(page: str) -> None:
    for picture in pictures(page):
        _, _, width, height = map(float, picture.attrib["viewBox"].split())
        spots = [(float(t.attrib["x"]), float(t.attrib["y"])) for t in picture.iter(f"{SVG}text")]
        assert len(spots) > 4
        for x, y in [*spots, *[(x, y) for x, y, _ in places(picture)]]:
            assert 0 <= x <= width and 0 <= y <= height


def test_a_group_is_named_once_and_no_name_covers_another(tmp_path: Path) -> None:
    """Seeds of one group share a name; four groups at one place are named one above the other."""
    points = [Point(f"kl_coef {g}", f"{g}{seed}", 1.0 + seed / 9, 2.0) for g in "abcd" for seed in range(3)]
    page = write_frontier(tmp_path / "f.html", title="t", notes=[], panels=[Panel("p", "", tuple(points))])
    named = [t for t in pictures(page.read_text())[0].iter(f"{SVG}text") if t.get("class") == "label"]
    assert sorted(str(t.text) for t in named) == [f"kl_coef {g}" for g in "abcd"]
    heights = sorted(float(t.attrib["y"]) for t in named)
    assert all(lower - upper >= 12 for upper, lower in itertools.pairwise(heights))


def test_the_axes_can_be_read(page: str) -> None:
    """Two ticks at least on each axis, and the tick of a value stands where its circle stands."""
    first = pictures(page)[0]
    texts = {t.text: t for t in first.iter(f"{SVG}text")}
    across = {v: float(t.attrib["x"]) for v, t in texts.items() if t.attrib.get("text-anchor") == "middle"}
    assert {"0", "2", "5", "10"} <= across.keys()
    x0, x4 = (x for x, _, _ in places(first)[:2])
    assert across["0"] == x0
    assert across["5"] - x0 == pytest.approx((x4 - x0) * (5 / 4) ** 0.5, abs=0.2)
    assert {"0.2", "0.4", "0.6", "0.8"} <= texts.keys()


def test_the_page_is_text_alone(page: str) -> None:
    assert "<script" not in page and "<b>" not in page and "<sweep>" not in page
    assert not re.search(r"src=|href=|url\(", page) and "default-src 'none'" in page
    assert page.count("<td>yes</td>") == 4 and "A note" in page


def test_one_point_at_nought_can_be_drawn(tmp_path: Path) -> None:
    out = write_frontier(
        tmp_path / "f.html", title="t", notes=[], panels=[Panel("p", "", (Point("a", "a", 0.0, 0.0),))]
    )
    assert places(pictures(out.read_text())[0])[0][2] == "front"


def test_non_finite_points_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not finite"):
        write_frontier(
            tmp_path / "f.html",
            title="t",
            notes=[],
            panels=[Panel("p", "", (Point("a", "a", float("nan"), 0.0),))],
        )
