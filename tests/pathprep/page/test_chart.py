"""Charts: round ticks, short numbers, every value drawn, every text escaped."""

import re

import pytest

from pathprep.page import chart
from pathprep.page.chart import Curve, Dots, Mark


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (0, 5e-4, [0, 2e-4, 4e-4, 6e-4]),
        (3, 3, [3]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_ticks(low: float, high: float, expected: list[float]) -> None:
    assert chart.nice_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.04, "0.04"), (5e-4, "5e-4"), (-2.5e-5, "-2.5e-5"), (7.612, "7.612"), (123456, "123.5k")],
)
def test_short_numbers(value: float, text: str) -> None:
    assert chart.short(value) == text


def test_long_runs_are_averaged() -> None:
    xs, ys = chart.thinned(list(range(1000)), [float(x % 2) for x in range(1000)])
    assert len(xs) == 334
    assert xs[0] == 1
    assert ys[0] == pytest.approx(1 / 3)
    drawn = chart.line(list(range(1, 3)), [2.0, 4.0], "A & B")
    assert "A &amp; B: 2 at step 1, 4 at step 2" in drawn
    assert 'points="54.0,156.0 330.0,10.0"' in drawn
    assert "<circle" in chart.line([1], [2.0], "one")


def test_histogram_draws_every_bin_that_holds_something() -> None:
    drawn = chart.histogram([0, 1, 2, 3], [1, 0, 1_000_000], "Tiles")
    heights = [float(height) for height in re.findall(r'class="bar".*? height="([\d.]+)"', drawn)]
    assert len(heights) == 2
    assert heights[0] >= 1  # one among a million is still seen
    assert heights[1] == pytest.approx(chart.HEIGHT - chart.TOP - chart.BOTTOM)
    assert "Tiles: 1,000,001, 0 to 3" in drawn


def test_histogram_of_logarithms_shows_values() -> None:
    drawn = chart.histogram([1, 2, 3], [1, 1], "Sharpness", log=True)
    assert re.findall(r'class="tick"[^>]*>(\d+)</text>', drawn)[-3:] == ["10", "100", "1000"]


def test_histogram_of_few_has_whole_ticks() -> None:
    drawn = chart.histogram([0, 1], [1], "One")
    assert re.findall(r'text-anchor="end">([^<]+)</text>', drawn)[:2] == ["0", "1"]


def test_scatter_places_and_escapes() -> None:
    marks = [Mark((0.0, 1.0), "<1>", "ring"), Mark((1.0, 0.0), "", "cross")]
    drawn = chart.scatter([Dots([(0.0, 0.0), (1.0, 1.0)], "a<b>", 10)], marks, "x & y", "up", "Both")
    bottom, top = chart.SQUARE - chart.BOTTOM - chart.NAMED, chart.TOP + chart.NAMED
    assert f'd="M54.0 {bottom:.1f}h0M330.0 {top:.1f}h0"' in drawn
    assert f'class="ring" cx="54.0" cy="{top:.1f}"' in drawn
    for text in ("a&lt;b&gt;", "&lt;1&gt;", "x &amp; y", 'class="cross"'):
        assert text in drawn
    assert "<b>" not in drawn


def test_scatter_of_one_point() -> None:
    assert 'd="M192.0 ' in chart.scatter([Dots([(3.0, 3.0)], "one", 0)], [], "x", "y", "One")


def test_lines_of_several_runs_share_their_axes() -> None:
    styles = [chart.style(40 * number, number) for number in range(3)]
    assert len(set(styles)) == 3
    curves = [
        Curve([0, 10], [1.0, 2.0], "a<b", styles[0]),
        Curve([5], [4.0], "point", styles[1]),
        Curve([0, 20], [0.0, 4.0], "long", styles[2]),
    ]
    drawn = str(chart.lines(curves, "Loss", [("colour & all", 3.0)]))
    points = re.findall(r'points="([^"]*)"', drawn)
    left, right = chart.LEFT, chart.WIDTH - chart.RIGHT
    top, bottom = chart.TOP, chart.HEIGHT - chart.BOTTOM
    assert points[1] == f"{left:.1f},{bottom:.1f} {right:.1f},{top:.1f}"
    middle, quarter = (left + right) / 2, bottom - (bottom - top) / 4
    assert points[0] == f"{left:.1f},{quarter:.1f} {middle:.1f},{(top + bottom) / 2:.1f}"
    assert f"M{left + (right - left) / 4:.1f} {top:.1f}h0" in drawn
    level = bottom - (bottom - top) * 3 / 4
    assert f'class="level" x1="{left}" x2="{right}" y1="{level:.1f}"' in drawn
    assert "colour &amp; all 3" in drawn
    assert "<title>a&lt;b</title>" in drawn
    assert "a&lt;b 2 at step 10; point 4 at step 5; long 4 at step 20" in drawn


def test_one_step_is_written_once() -> None:
    assert str(chart.line([7], [1.0], "Loss")).count(">step 7<") == 1
    assert ">7<" not in str(chart.line([7], [1.0], "Loss"))
