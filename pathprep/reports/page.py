"""A dataset as one HTML page that needs nothing else: can this run be trusted, and where should one look?

Made from the dataset's files alone; only the pictures of tiles before normalisation come from the slides,
if those are still where they were. Memory and the size of the page are bounded whatever the archive's
size: every slide is measured and stands in the table, the most suspicious ones are drawn.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from pathprep.dataset.failed import FailedShard
from pathprep.dataset.info import NAME
from pathprep.dataset.marker import TileSetMarker
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import STATUSES
from pathprep.errors import DatasetError, why
from pathprep.page.environment import UNUSUAL, render, write
from pathprep.params.running import AnyPath
from pathprep.pseudonyms.slides import Pseudonyms, of_dataset
from pathprep.reports import contact_sheet, quality, stain_outliers
from pathprep.reports.charts import histograms, mpp_chart, stain_charts
from pathprep.reports.measure import ENOUGH_SLIDES, ENOUGH_TILES, Measured, Tile, judge, measure
from pathprep.reports.slide_pictures import picture
from pathprep.reports.words import FAILURES_SHOWN, REASONS, STATUS_WORDS, findings, in_words
from pathprep.storage.base import Url, is_url
from pathprep.storage.place import storage_at
from pathprep.words import size_in_words

# A drawn slide takes 20 to 120 KB: at 200 the page stays below about 20 MB, which every browser opens
MAX_SLIDES = 200
SAMPLE = 24  # tiles of the contact sheet
ODD = 12  # unusual tiles shown; at most two of a slide
BORROWED = 12  # tiles without a fit of their own shown


def report(
    dataset: AnyPath = "dataset", out: AnyPath | None = None, *, pseudonymise: AnyPath | None = None
) -> PurePath:
    """Write one self-contained HTML page about a dataset.

    Args:
        dataset: its folder or URL; unfinished and empty ones too.
        out: the page, in a folder or at a URL; default: ``report.html`` in the dataset.
        pseudonymise: key file of a pseudonymised dataset: with it, tiles are shown as they were, too.

    Returns:
        Where the page is.

    Raises:
        DatasetError: not a dataset, or one that holds what no version writes.
        UsageError: the page cannot be written; or the key file is not the dataset's.
    """
    data = Dataset(dataset)
    folder = None if is_url(dataset) else Path(dataset)
    secret = None if pseudonymise is None else of_dataset(data.info, Path(pseudonymise), folder)
    try:
        page = render(Path(__file__).with_suffix(".html"), **_content(data, secret))
    except UNUSUAL as error:
        raise DatasetError(
            f"{data.root}: its dataset.json, or a file in slides/ or index/, says what this version never "
            f"writes ({type(error).__name__}: {error}); make the dataset again, in another folder"
        ) from error
    place = data.root / "report.html" if out is None else Url(out) if is_url(out) else Path(out)
    if isinstance(place, Path):
        write(page, place)
    else:
        storage_at(place.parent).write(place.name, page.encode())
    return place


def _content(dataset: Dataset, secret: Pseudonyms | None) -> dict[str, Any]:
    start = time.perf_counter()
    words = _words(dataset)
    # The same dataset gives the same sample
    seed = int(dataset.info["build_id"], 16)
    names = dataset.slides
    # More than its part of each: slides with few tiles leave room
    samples = 4 * -(-SAMPLE // max(1, len(names)))
    slides = [measure(dataset, name, seed, samples) for name in names]
    judge(slides)
    ranked = sorted(slides, key=lambda slide: (-slide.weight, slide.name))
    failures = dataset.failed()
    imported = dataset.kind == "tiles"
    drawn = [] if imported else [(slide, picture(dataset, slide)) for slide in ranked[:MAX_SLIDES]]
    odd = _worst(slides)
    borrowed = _spread((slide.borrowed for slide in slides), BORROWED, seed)
    sample = _spread((slide.sample for slide in slides), SAMPLE, seed)
    shown = contact_sheet.sheet(dataset, [*sample, *odd, *borrowed], secret)
    filters = quality.content(dataset, slides, seed, secret)
    dataset.close()
    tiles = sum(slide.marker.tiles for slide in slides)
    stale = sum(info.name.endswith(".json") for info in dataset.storage.listing("slides")) - len(slides)
    return {
        "name": PurePath(dataset.storage.absolute).name,
        "root": PurePath(dataset.storage.absolute).name,  # pages are passed on: no path of the machine
        "made": datetime.now().astimezone().strftime("%d %B %Y, %H:%M %Z"),
        "seconds_made": lambda: time.perf_counter() - start,
        "findings": findings(slides, failures, stale),
        "facts": _facts(dataset, slides, failures, tiles),
        "words": words,
        "parameters": json.dumps(dataset.params, indent=1),
        "mode": dataset.params["stain"]["mode"],
        "imported": imported,
        "labels": _label_bars(slides) if imported else [],
        "slides": ranked,
        "drawn": drawn,
        "left_out": 0 if imported else len(ranked) - len(drawn),
        "failures": [(name, _without_folders(entry)) for name, entry in failures.items()][:FAILURES_SHOWN],
        "failures_left": max(0, len(failures) - FAILURES_SHOWN),
        "tiles": tiles,
        "counts": _bars(_total(slides, "counts"), REASONS),
        "stains": _bars(_total(slides, "stain"), STATUS_WORDS),
        "sources": _bars(Counter(slide.marker.mpp_source for slide in slides), {}),
        "stages": _bars(_total(slides, "seconds", leave="total"), {}),
        "mpps": mpp_chart(slides),
        "stain_charts": stain_charts(slides, dataset.params, seed),
        "outliers": [slide for slide in ranked if slide.stain_outlier],
        "judged": sum(slide.judged for slide in slides),
        "unusual": sum(slide.unusual for slide in slides),
        "limit": stain_outliers.LIMIT,
        "enough_slides": ENOUGH_SLIDES,
        "enough_tiles": ENOUGH_TILES,
        "histograms": histograms(slides),
        "quality": filters,
        "sample": [shown.pairs[tile] for tile in sample if tile in shown.pairs],
        "odd": [shown.pairs[tile] for tile in odd if tile in shown.pairs],
        "borrowed": [shown.pairs[tile] for tile in borrowed if tile in shown.pairs],
        "problems": shown.problems,
        "status_words": STATUS_WORDS,
        "reasons": REASONS,
        "statuses": STATUSES,
    }


def _words(dataset: Dataset) -> list[tuple[str, str]]:
    try:
        return in_words(dataset.params)
    except (KeyError, TypeError, ValueError, AttributeError, LookupError, OverflowError) as error:
        raise DatasetError(
            f"{dataset.root / NAME}: its parameters are not as pathprep writes them ({why(error)}); the page "
            "cannot say what they mean"
        ) from None


def _without_folders(entry: FailedShard) -> FailedShard:
    """What failed, with the names of files and not where they lay on the machine."""
    path = PurePath(entry.source.path)
    error = entry.error.replace(str(path), path.name).replace(f"{path.parent}/", "")
    return replace(entry, error=error)


def _facts(
    dataset: Dataset, slides: list[Measured], failures: dict[str, FailedShard], tiles: int
) -> list[tuple[str, str]]:
    stored = sum(entry.size for slide in slides for entry in slide.marker.files.values())
    empty = sum(not slide.marker.tiles for slide in slides)
    unit = "Shards" if dataset.kind == "tiles" else "Slides"
    failed = sum(failed.kind != "images" for failed in failures.values())
    return [
        (f"{unit} done", f"{len(slides):,}"),
        (f"{unit} failed", f"{failed:,}"),
        ("Done, but without a tile", f"{empty:,}"),
        ("Tiles", f"{tiles:,}"),
        ("Size", size_in_words(stored)),
        ("Build id", dataset.info["build_id"]),
    ]


def _total(slides: list[Measured], key: str, leave: str = "") -> Counter[str]:
    total: Counter[str] = Counter()
    for slide in slides:
        total.update({name: value for name, value in getattr(slide.marker, key).items() if name != leave})
    return total


def _bars(total: Counter[str], words: dict[str, str]) -> list[tuple[str, str, float, float]]:
    """Key, name, value and share of the whole, in the order of ``words``, then of size."""
    whole = sum(total.values())
    order = {key: place for place, key in enumerate(words)}
    keys = sorted(
        (key for key in total if total[key]), key=lambda key: (order.get(key, len(order)), -total[key])
    )
    return [
        (key, words.get(key, key.replace("_", " ")), total[key], total[key] / (whole or 1)) for key in keys
    ]


def _label_bars(slides: list[Measured]) -> list[tuple[str, str, float, float]]:
    total: Counter[str] = Counter()
    for slide in slides:
        if isinstance(slide.marker, TileSetMarker):
            total.update(slide.marker.labels)
    return _bars(total, {name: name or "(no label)" for name in sorted(total)})


def _worst(slides: list[Measured]) -> list[Tile]:
    tiles = [tile for slide in slides for tile in slide.odd[:2]]
    return sorted(tiles, key=lambda tile: -tile.score)[:ODD]


def _spread(groups: Iterable[list[Tile]], most: int, seed: int) -> list[Tile]:
    """Tiles of as many slides as possible: one of each in random order, then a second, and so on."""
    filled = [group for group in groups if group]
    order = np.random.default_rng(seed).permutation(len(filled))
    rounds = max((len(group) for group in filled), default=0)
    chosen = [
        filled[place][turn] for turn in range(rounds) for place in order.tolist() if turn < len(filled[place])
    ]
    return sorted(chosen[:most], key=lambda tile: (tile.slide, tile.y, tile.x))
