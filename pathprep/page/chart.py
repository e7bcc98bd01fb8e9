"""Charts as inline SVG, coloured by the page's own style sheet, so that they follow light and dark.

Every chart is an ``<svg role="img">`` with a spoken summary. Its parts have the classes ``grid``, ``tick``
and ``name`` (axes), ``curve`` and ``dot`` (a line), ``run`` (several lines), ``bar`` (histograms), ``dots``,
``ring``, ``cross`` and ``note`` (scatter plots).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pathprep.page.text import shown

WIDTH, HEIGHT = 340, 180
SQUARE = 290  # height of a scatter plot
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 10, 24
NAMED = 18  # further height below, and above, for the names of the axes
MOST_POINTS = 400  # more than the chart has pixels; longer runs are averaged

Point = tuple[float, float]
Level = tuple[str, float]  # its name and value


@dataclass(frozen=True)
class Dots:
    """Points of one colour in a scatter plot.

    Attributes:
        points: x and y of each.
        name: shown where the pointer rests on them; any text.
        hue: degrees on the colour circle.
    """

    points: Sequence[Point]
    name: str
    hue: float


@dataclass(frozen=True)
class Mark:
    """A place in a scatter plot that is pointed out, with a ``ring`` or a ``cross`` and a text."""

    point: Point
    text: str
    kind: str


@dataclass(frozen=True)
class Curve:
    """One of several lines in a chart.

    Attributes:
        xs, ys: at least one point; xs rise, ys are finite.
        name: shown where the pointer rests on it; any text.
        style: of ``style``.
    """

    xs: Sequence[float]
    ys: Sequence[float]
    name: str
    style: str


@dataclass(frozen=True)
class _Frame:
    """From values to the places of a chart; a range without width is drawn in the middle."""

    x_range: Point
    y_range: Point
    top: float
    bottom: float

    def x(self, value: float) -> float:
        low, high = self.x_range
        share = (value - low) / (high - low) if high > low else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        share = (value - low) / (high - low) if high > low else 0.5
        return self.bottom - share * (self.bottom - self.top)

    def rows(self, ticks: Sequence[float]) -> list[str]:
        """Lines across the chart, with their values."""
        parts = []
        for tick in ticks:
            y = self.y(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(_tick(LEFT - 6, y + 4, short(tick), "end"))
        return parts


def line(xs: Sequence[float], ys: Sequence[float], label: str, levels: Sequence[Level] = ()) -> Markup:
    """A chart of one value over optimiser steps.

    Args:
        xs: steps, rising; at least one.
        ys: finite values.
        label: what is drawn, for those who cannot see it.
        levels: what the value is held against, as lines across.
    """
    xs, ys = thinned(xs, ys)
    frame, parts = _over_steps(xs, ys, levels)
    points = _points(frame, xs, ys)
    if len(xs) == 1:
        parts.append(f'<circle class="dot" cx="{frame.x(xs[0]):.1f}" cy="{frame.y(ys[0]):.1f}" r="3"/>')
    else:
        parts.append(f'<polyline class="curve" points="{points}"/>')
    spoken = f"{label}: {short(ys[0])} at step {short(xs[0])}, {short(ys[-1])} at step {short(xs[-1])}"
    return _svg(HEIGHT, spoken, parts)


def lines(curves: Sequence[Curve], label: str, levels: Sequence[Level] = ()) -> Markup:
    """A chart of one value of several runs over optimiser steps, each line in its own style."""
    thin = [(curve, *thinned(curve.xs, curve.ys)) for curve in curves]
    every_x, every_y = [x for _, xs, _ in thin for x in xs], [y for _, _, ys in thin for y in ys]
    frame, parts = _over_steps(every_x, every_y, levels)
    for curve, xs, ys in thin:
        name = Markup("<title>{}</title>").format(shown(curve.name))
        if len(xs) == 1:
            x, y = frame.x(xs[0]), frame.y(ys[0])
            drawn = Markup('<path class="run point" style="{}" d="M{:.1f} {:.1f}h0">{}</path>').format(
                curve.style, x, y, name
            )
        else:
            drawn = Markup('<polyline class="run" style="{}" points="{}">{}</polyline>').format(
                curve.style, _points(frame, xs, ys), name
            )
        parts.append(drawn)
    spoken = "; ".join(f"{curve.name} {short(ys[-1])} at step {short(xs[-1])}" for curve, xs, ys in thin)
    return _svg(HEIGHT, f"{label}: {spoken}", parts)


def style(hue: float, number: int) -> str:
    """What tells the line of a run from others: colour, on white and black alike, and dashes beside it."""
    dashes = ("", "7 3", "2 3", "9 3 2 3")[number % 4]
    return f"stroke:oklch(62% .17 {hue % 360:.0f})" + (f";stroke-dasharray:{dashes}" if dashes else "")


def _over_steps(
    xs: Sequence[float], ys: Sequence[float], levels: Sequence[Level]
) -> tuple[_Frame, list[str]]:
    """The frame of a chart over steps, its axes and levels."""
    ys = [*ys, *(value for _, value in levels)]
    ticks = nice_ticks(min(ys), max(ys))
    low_x, high_x = min(xs), max(xs)
    frame = _Frame((low_x, high_x), (min(ticks[0], *ys), max(ticks[-1], *ys)), TOP, HEIGHT - BOTTOM)
    parts = frame.rows(ticks)
    parts.append(_tick(frame.x(low_x), HEIGHT - 7, f"step {short(low_x)}", "start"))
    if high_x > low_x:
        parts.append(_tick(frame.x(high_x), HEIGHT - 7, short(high_x), "end"))
    for name, value in levels:
        y = frame.y(value)
        parts.append(f'<line class="level" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        beside = y - 4 if y > TOP + 14 else y + 12  # above the line, unless there is no room
        parts.append(
            Markup('<text class="tick" x="{}" y="{:.1f}" text-anchor="end">{} {}</text>').format(
                WIDTH - RIGHT, beside, shown(name), short(value)
            )
        )
    return frame, parts


def _points(frame: _Frame, xs: Sequence[float], ys: Sequence[float]) -> str:
    return " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(xs, ys, strict=True))


def histogram(edges: Sequence[float], counts: Sequence[int], label: str, *, log: bool = False) -> Markup:
    """Bars over equally wide bins.

    Args:
        edges: rising, one more than there are counts.
        counts: of each bin.
        label: what is counted, for those who cannot see it.
        log: edges are decimal logarithms; the axis shows the values themselves.
    """
    top = max(1, *counts)
    ticks = [tick for tick in nice_ticks(0, top) if tick == int(tick)]
    frame = _Frame((edges[0], edges[-1]), (0, max(top, ticks[-1])), TOP, HEIGHT - BOTTOM)
    parts = frame.rows(ticks)
    floor = frame.y(0)
    for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
        if count:  # one tile among a million must not vanish
            tall = max(1.5, floor - frame.y(count))
            wide = max(1.0, frame.x(high) - frame.x(low) - 1)
            parts.append(
                f'<rect class="bar" x="{frame.x(low) + 0.5:.1f}" y="{floor - tall:.1f}" '
                f'width="{wide:.1f}" height="{tall:.1f}"><title>{count:,}</title></rect>'
            )

    def shown(edge: float) -> str:
        return short(10**edge if log else edge)

    marks = [tick for tick in nice_ticks(edges[0], edges[-1]) if edges[0] <= tick <= edges[-1]]
    if log:
        marks = [tick for tick in marks if tick == int(tick)]
    parts += [_tick(frame.x(mark), HEIGHT - 7, shown(mark), _anchor(frame.x(mark))) for mark in marks]
    filled = [number for number, count in enumerate(counts) if count]
    where = f", {shown(edges[filled[0]])} to {shown(edges[filled[-1] + 1])}" if filled else ""
    return _svg(HEIGHT, f"{label}: {sum(counts):,}{where}", parts)


def scatter(groups: Sequence[Dots], marks: Sequence[Mark], x_name: str, y_name: str, label: str) -> Markup:
    """Points of several groups, and marks over them; there must be at least one point or mark."""
    places = [point for group in groups for point in group.points] + [mark.point for mark in marks]
    x_ticks = nice_ticks(min(x for x, _ in places), max(x for x, _ in places))
    y_ticks = nice_ticks(min(y for _, y in places), max(y for _, y in places))
    bottom = SQUARE - BOTTOM - NAMED
    frame = _Frame((x_ticks[0], x_ticks[-1]), (y_ticks[0], y_ticks[-1]), TOP + NAMED, bottom)
    parts = frame.rows(y_ticks)
    for tick in x_ticks:
        x = frame.x(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP + NAMED}" y2="{bottom}"/>')
        parts.append(_tick(x, bottom + 17, short(tick), _anchor(x)))
    parts.append(
        Markup('<text class="name" x="{}" y="{}" text-anchor="end">{}</text>').format(
            WIDTH - RIGHT, SQUARE - 6, x_name
        )
    )
    parts.append(Markup('<text class="name" x="4" y="{}">{}</text>').format(TOP + 3, y_name))
    for group in groups:
        # A line of no length with round ends is a dot in a third of a circle's bytes
        path = "".join(f"M{frame.x(x):.1f} {frame.y(y):.1f}h0" for x, y in group.points)
        parts.append(
            Markup('<path class="dots" stroke="hsl({:.0f} 65% 55%)" d="{}"><title>{}</title></path>').format(
                group.hue, path, shown(group.name)
            )
        )
    for mark in marks:
        x, y = frame.x(mark.point[0]), frame.y(mark.point[1])
        if mark.kind == "ring":
            parts.append(f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
        elif mark.kind == "cross":
            parts.append(f'<path class="cross" d="M{x - 6:.1f} {y:.1f}h12M{x:.1f} {y - 6:.1f}v12"/>')
        right = x > WIDTH - 60
        parts.append(
            Markup('<text class="note" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
                x - 8 if right else x + 8, y - 6, "end" if right else "start", shown(mark.text)
            )
        )
    return _svg(SQUARE, label, parts)


def thinned(xs: Sequence[float], ys: Sequence[float]) -> tuple[list[float], list[float]]:
    """At most MOST_POINTS points: means of equally long stretches."""
    stretch = -(-len(xs) // MOST_POINTS)
    starts = range(0, len(xs), stretch)

    def means(values: Sequence[float]) -> list[float]:
        return [math.fsum(values[s : s + stretch]) / len(values[s : s + stretch]) for s in starts]

    return (list(xs), list(ys)) if stretch == 1 else (means(xs), means(ys))


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to six round values that span low to high; one value if they are equal."""
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        return [low]
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def short(value: float) -> str:
    """A number in few characters: 0.04, 7.61, 12k, 5e-4."""
    size = abs(value)
    if size >= 10_000:
        return f"{value / 1000:.4g}k" if size < 1e7 else f"{value:.3g}"
    if 0 < size < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    return f"{value:.4g}"


def _tick(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _anchor(x: float) -> str:
    """Text under the right edge would leave the chart."""
    return "end" if x > WIDTH - RIGHT - 8 else "middle"


def _svg(height: int, spoken: str, parts: Sequence[str]) -> Markup:
    opening = Markup('<svg role="img" viewBox="0 0 {} {}" aria-label="{}">').format(
        WIDTH, height, shown(spoken)
    )
    # Markup.join would escape the plain strings, which hold numbers and tags only
    return opening + Markup("".join(str(part) for part in parts)) + Markup("</svg>")
