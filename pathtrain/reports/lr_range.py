"""A learning rate range test as one HTML page."""

import math
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from pathprep.page import chart
from pathprep.page.chart import Dots, Mark
from pathprep.page.environment import render
from pathtrain.training.lr_range import LrRange

ROWS = 20  # of the table


def page(found: LrRange, recipe: str, dataset: str) -> str:
    """The page: what was found in words, the curves over log10 of the rate, a table."""
    xs = [math.log10(lr) for lr in found.lr]
    reading = found.reading
    smooth = reading.smoothed
    marks = [
        Mark((math.log10(lr), smooth[found.lr.index(lr)]), text, "ring")
        for lr, text in ((reading.steepest, "steepest"), (reading.lowest, "lowest"), (reading.rises, "rises"))
        if lr is not None
    ]
    charts = [
        _drawn(
            "Loss - teacher entropy: each step (blue), smoothed (orange)",
            "nats",
            xs,
            [_excess(found), smooth],
            marks,
        ),
        _drawn("What an output says of its tile; 0 is a collapse", "nats", xs, [found.told]),
        _drawn("Loss", "nats", xs, [found.loss]),
        _drawn("Gradient norm, before clipping", "L2", xs, [found.gradient_norm]),
    ]
    return render(
        Path(__file__).with_suffix(".html"),
        found=found,
        recipe=recipe,
        dataset=dataset,
        charts=[one for one in charts if one is not None],
        rows=table(found),
    )


def table(found: LrRange) -> list[list[str]]:
    """Evenly chosen steps: rate, loss, that less the teacher's entropy, what outputs tell, gradient norm."""
    count = len(found.lr)
    places = sorted({round(n * (count - 1) / (ROWS - 1)) for n in range(ROWS)}) if count else []
    columns = (found.lr, found.loss, _excess(found), found.told, found.gradient_norm)
    forms = (".2e", ".4f", ".4f", ".4f", ".3g")
    return [[f"{values[n]:{form}}" for values, form in zip(columns, forms, strict=True)] for n in places]


def _excess(found: LrRange) -> list[float]:
    return [loss - entropy for loss, entropy in zip(found.loss, found.teacher_entropy, strict=True)]


def _drawn(
    title: str, unit: str, xs: list[float], curves: Sequence[Sequence[float]], marks: Sequence[Mark] = ()
) -> tuple[str, Markup] | None:
    if not xs:
        return None
    groups = [
        Dots(list(zip(xs, ys, strict=True)), ("each step", "smoothed")[number], (210.0, 25.0)[number])
        for number, ys in enumerate(curves)
    ]
    return title, chart.scatter(groups, marks, "log10 of the learning rate", unit, title)
