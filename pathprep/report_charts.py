"""The page's charts, from what was measured of the slides."""

from typing import Any

import numpy as np
from markupsafe import Markup

from pathprep import chart
from pathprep.chart import Dots, Mark
from pathprep.report_measure import HISTOGRAMS, Measured
from pathprep.report_stain import Floats, numbers
from pathprep.stain import Target

MAX_DOTS = 3000  # more hide each other in a chart of 300 px
MAX_RINGS = 20
GOLDEN_ANGLE = 137.508  # degrees between neighbouring slides' hues: far apart for any number of slides


def mpp_chart(slides: list[Measured]) -> Markup | None:
    """Histogram over slides; the bins span what is there."""
    values = [slide.marker["mpp"] for slide in slides]
    if not values:
        return None
    low, high = min(values), max(values)
    # One resolution: a bar with some room on both sides
    room = 0.1 * low if high - low < 0.02 * low else 0.02 * (high - low)
    counts, edges = np.histogram(values, 25, (low - room, high + room))
    return chart.histogram(edges.tolist(), counts.tolist(), "Slides by micrometres per pixel")


def histograms(slides: list[Measured]) -> list[tuple[str, str, Markup]]:
    """Title, unit and chart of every measure of the tiles; nothing if there are no tiles."""
    drawn = []
    for name, (title, unit, edges, log) in HISTOGRAMS.items():
        counts = sum(
            (slide.histograms[name] for slide in slides if not slide.problem), np.zeros(len(edges) - 1, int)
        )
        if counts.any():
            used = np.flatnonzero(counts)
            # Cut off empty bins at the far ends, whole ranges of them: the axis keeps round ends
            last = min(len(counts), int(-(-(used[-1] + 1) // 4) * 4))
            first = int(used[0] // 4 * 4) if log else 0
            shown = edges[first : last + 1].tolist()
            drawn.append(
                (
                    title,
                    unit,
                    chart.histogram(shown, counts[first:last].tolist(), f"Tiles by {title}", log=log),
                )
            )
    return drawn


def stain_charts(slides: list[Measured], params: dict[str, Any], seed: int) -> list[tuple[str, str, Markup]]:
    """Title, explanation and chart: the stains' colours, and their strengths; nothing without a fit."""
    measured = [(place, slide) for place, slide in enumerate(slides) if len(slide.dots)]
    if not measured:
        return []
    dots = np.concatenate([slide.dots for _, slide in measured])
    owner = np.concatenate([np.full(len(slide.dots), place) for place, slide in measured])
    if len(dots) > MAX_DOTS:
        kept = np.sort(np.random.default_rng(seed).choice(len(dots), MAX_DOTS, replace=False))
        dots, owner = dots[kept], owner[kept]
    given = params["stain"].get("target")
    default = Target.default()
    target = numbers(given["he"] if given else default.he, given["max_c"] if given else default.max_c)[0]
    colour, strength = _groups(slides, dots, owner)
    rings = [slide for slide in sorted(slides, key=lambda s: (-s.weight, s.name)) if slide.stain_outlier]
    colour_marks, strength_marks = [], []
    for number, slide in enumerate(rings[:MAX_RINGS], start=1):
        fit = slide.marker["stain_fit"]
        h_red, h_blue, e_red, e_blue, h, e = numbers(fit["he"], fit["max_c"])[0].tolist()
        for point in ((h_red, h_blue), (e_red, e_blue)):
            colour_marks.append(Mark(point, str(number), "ring"))
        strength_marks.append(Mark((float(np.exp(h)), float(np.exp(e))), str(number), "ring"))
    h_red, h_blue, e_red, e_blue, h, e = target.tolist()
    colour_marks += [Mark((h_red, h_blue), "H", "cross"), Mark((e_red, e_blue), "E", "cross")]
    strength_marks.append(Mark((float(np.exp(h)), float(np.exp(e))), "", "cross"))
    shown = f"{len(dots):,} tiles of {len(measured):,} slides"
    return [
        (
            "Colour of the stains",
            "Right: haematoxylin, left: eosin; two dots per tile, where they lie is the stain's colour.",
            chart.scatter(colour, colour_marks, "red part", "blue part", f"Stain vectors of {shown}"),
        ),
        (
            "Strength of the stains",
            "99th percentile of the concentrations in the tile; one dot per tile.",
            chart.scatter(strength, strength_marks, "haematoxylin", "eosin", f"Stain strengths of {shown}"),
        ),
    ]


def _groups(slides: list[Measured], dots: Floats, owner: Any) -> tuple[list[Dots], list[Dots]]:
    colour, strength = [], []
    for place in np.unique(owner).tolist():
        own, hue, name = dots[owner == place], place * GOLDEN_ANGLE % 360, slides[place].name
        points = [(a, b) for a, b in np.concatenate([own[:, 0:2], own[:, 2:4]]).tolist()]
        colour.append(Dots(points, name, hue))
        strength.append(Dots([(a, b) for a, b in np.exp(own[:, 4:6]).tolist()], name, hue))
    return colour, strength
