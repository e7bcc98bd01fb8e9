"""`pathprep overlay`: a file of scores to GeoJSON and OME-TIFF, slide by slide.

A slide is read in a child process: a reader that crashes costs one slide, which is named.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import TimeoutError
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from pathprep.dataset.reader import Dataset
from pathprep.errors import MppError, PathprepError, UsageError, cannot_write
from pathprep.folders import open_dataset
from pathprep.launchers import server
from pathprep.params.overlay import OverlayParams
from pathprep.params.running import SLIDE_TIMEOUT_S, AnyPath, listed
from pathprep.params.settings import build
from pathprep.params.shard import ReaderName
from pathprep.scores import colours, ome_tiff, qupath, raster
from pathprep.scores.columns import Classes
from pathprep.scores.placed import Placed, place, side_in
from pathprep.scores.read import read_scores
from pathprep.scores.rows import Rows, Scores, named
from pathprep.slides.find import SlideSource, find
from pathprep.slides.mpp.settle import MppRules
from pathprep.slides.own_names import file_name, safe_name
from pathprep.slides.slide import Slide
from pathprep.storage import atomic
from pathprep.storage.place import local_folder
from pathprep.storage.printable import printable
from pathprep.words import counted


@dataclass(frozen=True)
class Made:
    """What became of a slide.

    Attributes:
        slide: its own name. tiles: with scores. objects: features in the GeoJSON.
        files: that were written. notes: what to look at. problem: why there is nothing; "" if all is well.
    """

    slide: str
    tiles: int = 0
    objects: int = 0
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Overlays:
    """What a run made.

    Attributes:
        slides: in the order of their paths. notes: about the file of scores.
    """

    slides: list[Made]
    notes: list[str] = field(default_factory=list)

    @property
    def failures(self) -> list[Made]:
        """Slides of which nothing could be made."""
        return [each for each in self.slides if each.problem]

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"slides": [vars(each) for each in self.slides], "notes": self.notes}


@dataclass(frozen=True)
class _Task:
    """One slide for a child process."""

    scores: Path
    source: SlideSource
    rows: Rows
    columns: list[str]
    side: int
    ends: tuple[float, float]
    out: Path
    params: OverlayParams
    reader: ReaderName


def overlay(
    scores: AnyPath,
    slides: AnyPath | Iterable[AnyPath],
    out: AnyPath = "overlays",
    *,
    score: Sequence[str] = (),
    dataset: AnyPath | None = None,
    side: int | None = None,
    reader: ReaderName = "auto",
    watch: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Overlays:
    """Write scores of tiles as GeoJSON for QuPath and as a pyramidal OME-TIFF, for each slide.

    Args:
        scores: Parquet, CSV or HDF5: slide, x, y, side, and a column per score (pathprep.scores.read).
        slides: files, folders or CSVs of slides.
        out: folder for <slide>.geojson and <slide>.ome.tif.
        score: columns, the first is the one that colours show; default: all, classes first.
        dataset: that the tiles are of; tells their side where the file does not.
        side: of a tile, level-0 pixels, where neither the file nor the dataset tells.
        reader: of slides.
        watch: is told how many slides of how many are done.
        settings: of OverlayParams, such as ``colours="cividis", opacity=0.7``.

    Raises:
        UsageError: the scores cannot be read or are of none of these slides, or a setting is wrong.
    """
    params = build(OverlayParams, settings)
    path, folder = Path(scores), local_folder(out)
    if side is not None and side <= 0:
        raise UsageError("`side` is of a tile, level-0 pixels: above 0")
    table = read_scores(path)
    columns = _in_order(table.chosen(score), next(iter(table.slides.values())), bool(score))
    first = next(iter(table.slides.values())).columns[columns[0]]
    if params.merge and not isinstance(first, Classes):
        raise UsageError(
            f"`merge` joins tiles of one class, {printable(columns[0])} are numbers; name a "
            "`score` of classes"
        )
    sources = find([Path(each) for each in listed(slides)])
    rows, notes = _by_slide(table, sources)
    opened = open_dataset(dataset) if dataset is not None else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(cannot_write(folder, error)) from None
    tasks = [
        _Task(
            path,
            source,
            rows[source.path],
            columns,
            _side(opened, source, side),
            (0.0, 1.0) if isinstance(first, Classes) else colours.ends(*table.ranges[columns[0]]),
            folder,
            params,
            reader,
        )
        for source in sources
        if source.path in rows
    ]
    return Overlays(_run(tasks, watch), [*table.notes, *notes])


def _in_order(columns: list[str], rows: Rows, asked: bool) -> list[str]:
    """Classes first, unless the user gave an order."""
    return columns if asked else sorted(columns, key=lambda name: not isinstance(rows.columns[name], Classes))


def _by_slide(table: Scores, sources: list[SlideSource]) -> tuple[dict[Path, Rows], list[str]]:
    """Rows by slide file, and what has no slide or no rows."""
    if table.is_anonymous:
        if len(sources) > 1:
            raise UsageError(
                f"{table.path}: does not say which slide it is of (column slide), and {len(sources):,} "
                "slides were given"
            )
        return {sources[0].path: table.slides[""]}, []
    paths: dict[str, Path] = {}
    for source in sources:
        other = paths.setdefault(source.called, source.path)
        if other != source.path:
            raise UsageError(f"{other} and {source.path} have one name; give one of them at a time")
    found = table.of(named(paths))
    if not found:
        raise UsageError(f"{table.path}: none of the slides has rows in it; it has {table.has()}")
    by_path = {
        source.path: found[safe_name(source.called)]
        for source in sources
        if safe_name(source.called) in found
    }
    left, without = len(table.slides) - len(found), len(sources) - len(by_path)
    notes = [f"{counted(left)} of the scores not among the slides; left out"] if left else []
    return by_path, [*notes, *([f"{counted(without)} without scores; left out"] if without else [])]


def _side(dataset: Dataset | None, source: SlideSource, side: int | None) -> int:
    if dataset is None:
        return side or 0
    slide = dataset.slide_names(dataset.slides).find(source.called)
    return (side_in(dataset, slide) if slide is not None else 0) or side or 0


def _run(tasks: list[_Task], watch: Callable[[int, int], None] | None) -> list[Made]:
    made = []
    with ProcessPool(1, context=server.context(loaded=False)) as pool:
        waiting = [pool.schedule(_make, args=[task], timeout=SLIDE_TIMEOUT_S) for task in tasks]
        for task, future in zip(tasks, waiting, strict=True):
            error = future.exception()
            if error is None:
                made.append(future.result())
            elif isinstance(error, PathprepError | ProcessExpired | TimeoutError):
                made.append(Made(printable(task.source.called), problem=_problem(error, task)))
            else:
                pool.stop()
                raise error
            if watch is not None:
                watch(len(made), len(tasks))
    return made


def _problem(error: BaseException, task: _Task) -> str:
    if isinstance(error, ProcessExpired):
        return (
            f"{task.source.path}: its reader crashed (exit code {error.exitcode}); copy the slide again from "
            "its source"
        )
    if isinstance(error, TimeoutError):
        return f"{task.source.path}: took longer than {SLIDE_TIMEOUT_S:g} s"
    return str(error)


def _make(task: _Task) -> Made:
    own = task.source.called
    safe, params = safe_name(own), task.params
    called, files, objects = file_name(own, safe), list[str](), 0
    atomic.sweep(task.out)
    with Slide(task.source.path, task.reader) as slide:
        placed = place(task.scores, safe, task.rows, slide.width, slide.height, task.side)
        notes = list(placed.notes)
        name = task.columns[0]
        if params.geojson:
            if params.merge:
                data, objects = qupath.areas(placed, name, slide.bounds)
            else:
                data, objects = qupath.tiles(placed, task.columns, slide.bounds, params.colours, task.ends)
            target = task.out / f"{called}.geojson"
            atomic.write_alone(target, data)
            files.append(str(target))
        if params.tiff:
            notes += _write_tiff(task, slide, placed, task.out / f"{called}.ome.tif")
            files.append(str(task.out / f"{called}.ome.tif"))
    return Made(printable(own), len(placed.rows), objects, tuple(files), tuple(notes))


def _write_tiff(task: _Task, slide: Slide, placed: Placed, target: Path) -> list[str]:
    params, name = task.params, task.columns[0]
    column = placed.rows.columns[name]
    seen, by = raster.view(placed, slide.bounds)
    colour, there = raster.paint(placed, column, seen, params.colours, task.ends)
    below = None if params.opacity == 1 else raster.ground(slide, seen, by)
    picture = raster.over(below, colour, there, params.opacity)
    notes, mpp = list[str](), None
    try:
        own = slide.mpp(MppRules(task.source.mpp)).value
        mpp = own / seen.scale[0], own / seen.scale[1]
    except MppError as error:
        notes.append(f"no MPP in {target.name}: {error}")
    part = "" if slide.bounds is None else f", the part from {seen.x},{seen.y} on, as QuPath shows it"
    about = (
        f"{name} of {counted(len(placed.rows), 'tile')} over {task.source.called}: "
        f"{seen.width} x {seen.height} level-0 pixels{part}, reduced to {seen.columns} x {seen.rows}"
    )
    legend = _legend(column, params, task.ends) | {"score": name, "opacity": f"{params.opacity:g}"}
    ome_tiff.write(target, picture, mpp, task.source.called, about, legend, lossless=below is None)
    return notes


def _legend(column: Any, params: OverlayParams, ends: tuple[float, float]) -> dict[str, str]:
    if isinstance(column, Classes):
        made = colours.class_colours(len(column.names)).tolist()
        return {f"class {name}": _hex(one) for name, one in zip(column.names, made, strict=True)}
    table = colours.table(params.colours).tolist()
    return {
        "map": params.colours,
        **{
            f"value {ends[0] + (ends[1] - ends[0]) * share:g}": _hex(table[round(255 * share)])
            for share in (0, 0.25, 0.5, 0.75, 1)
        },
    }


def _hex(colour: list[int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
