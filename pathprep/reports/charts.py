"""The page's charts, from what was measured of the slides."""

from typing import Any

import numpy as np
from markupsafe import Markup

from pathprep.dataset.schema import SHARE
from pathprep.page import chart
from pathprep.page.chart import Dots, Mark
from pathprep.reports.measure import HISTOGRAMS, SHARE_EDGES, Histogram, Measured
from pathprep.reports.stain_outliers import Floats, numbers
from pathprep.stain import Target
from pathprep.words import counted

MAX_DOTS = 3000  # more hide each other in a chart of 300 px
MAX_RINGS = 20
STAIN_CHARTS = (
    ("Colour of haematoxylin", "Its share of red and of blue in optical density.", "red part", "blue part"),
    ("Colour of eosin", "Its share of red and of blue in optical density.", "red part", "blue part"),
    ("Strength of both", "99th percentile of each stain's concentration.", "haematoxylin", "eosin"),
)
GOLDEN_ANGLE = 137.508  # degrees between neighbouring slides' hues: far apart for any number of slides


def mpp_chart(slides: list[Measured]) -> Markup | None:
    """Histogram over slides; the bins span what is there."""
    values = [slide.marker.mpp for slide in slides if slide.marker.mpp is not None]
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
    kinds = dict(HISTOGRAMS)
    for name in sorted({name for slide in slides for name in slide.histograms} - HISTOGRAMS.keys()):
        title = f"Class of the tissue model: {name.removeprefix(SHARE)}"
        kinds[name] = Histogram(title, "share of the tile", SHARE_EDGES)
    for name, (title, unit, edges, log) in kinds.items():
        counts = sum(
            (slide.histograms[name] for slide in slides if name in slide.histograms),
            np.zeros(len(edges) - 1, int),
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
    """Title, explanation and chart of STAIN_CHARTS; nothing without a fit."""
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
    groups = _groups(slides, dots, owner)
    marks: list[list[Mark]] = [[], [], []]
    outliers = [slide for slide in sorted(slides, key=lambda s: (-s.weight, s.name)) if slide.stain_outlier]
    rings = [slide.marker.stain_fit for slide in outliers if slide.marker.stain_fit is not None]
    for number, fit in enumerate(rings[:MAX_RINGS], start=1):
        for chart_marks, point in zip(marks, _points(numbers(fit.he, fit.max_c)), strict=True):
            chart_marks.append(Mark(point[0], str(number), "ring"))
    for chart_marks, point in zip(marks, _points(target[None]), strict=True):
        chart_marks.append(Mark(point[0], "", "cross"))
    shown = f"{counted(len(dots), 'tile')} of {counted(len(measured))}"
    return [
        (title, text, chart.scatter(dots, marked, x_name, y_name, f"{title}, {shown}"))
        for (title, text, x_name, y_name), dots, marked in zip(STAIN_CHARTS, groups, marks, strict=True)
    ]


def _groups(slides: list[Measured], dots: Floats, owner: Any) -> list[list[Dots]]:
    """Per chart, a group of dots per slide."""
    groups: list[list[Dots]] = [[], [], []]
    for place in np.unique(owner).tolist():
        for group, points in zip(groups, _points(dots[owner == place]), strict=True):
            group.append(Dots(points, slides[place].name, place * GOLDEN_ANGLE % 360))
    return groups


def _points(values: Floats) -> list[list[tuple[float, float]]]:
    """The six numbers of N fits as N points in each chart."""
    pairs = (values[:, 0:2], values[:, 2:4], np.exp(values[:, 4:6]))
    return [[(x, y) for x, y in pair.tolist()] for pair in pairs]
