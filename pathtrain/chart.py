"""Line charts as inline SVG, coloured by the page's own style sheet, so that they follow light and dark."""

import math
from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 340, 180
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 10, 24
MOST_POINTS = 400  # more than the chart has pixels; longer runs are averaged


def line(xs: Sequence[float], ys: Sequence[float], label: str) -> Markup:
    """A chart of one value over optimiser steps.

    Args:
        xs: steps, rising; at least one.
        ys: finite values.
        label: what is drawn, for those who cannot see it.

    Returns:
        An ``<svg>`` with the classes ``grid``, ``tick`` and ``curve``.
    """
    xs, ys = thinned(xs, ys)
    low_x, high_x = min(xs), max(xs)
    ticks = nice_ticks(min(ys), max(ys))
    low_y, high_y = min(ticks[0], *ys), max(ticks[-1], *ys)

    def place_x(x: float) -> float:
        share = (x - low_x) / (high_x - low_x) if high_x > low_x else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def place_y(y: float) -> float:
        share = (y - low_y) / (high_y - low_y) if high_y > low_y else 0.5
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    parts = []
    for tick in ticks:
        y = place_y(tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(tick)}</text>'
        )
    for x, anchor in ((low_x, "start"), (high_x, "end")):
        text = f"step {short(x)}" if anchor == "start" else short(x)
        parts.append(
            f'<text class="tick" x="{place_x(x):.1f}" y="{HEIGHT - 7}" text-anchor="{anchor}">{text}</text>'
        )
    points = " ".join(f"{place_x(x):.1f},{place_y(y):.1f}" for x, y in zip(xs, ys, strict=True))
    if len(xs) == 1:
        parts.append(f'<circle class="dot" cx="{place_x(xs[0]):.1f}" cy="{place_y(ys[0]):.1f}" r="3"/>')
    else:
        parts.append(f'<polyline class="curve" points="{points}"/>')
    spoken = f"{label}: {short(ys[0])} at step {short(xs[0])}, {short(ys[-1])} at step {short(xs[-1])}"
    opening = Markup('<svg role="img" viewBox="0 0 {} {}" aria-label="{}">').format(WIDTH, HEIGHT, spoken)
    return opening + Markup("".join(parts)) + Markup("</svg>")


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
