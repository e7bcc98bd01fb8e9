"""The viewer: one slide, what is drawn over it, and the server that shows it."""

import json
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any

from markupsafe import Markup

from pathprep import page
from pathprep.dataset.marker import SlideMarker
from pathprep.dataset.reader import Dataset
from pathprep.errors import SlideError, UsageError
from pathprep.folders import open_dataset
from pathprep.page.environment import render
from pathprep.params.origin import AskedOrigin
from pathprep.params.running import AnyPath, path
from pathprep.params.shard import MPP, ShardParams
from pathprep.scores.placed import Placed, place
from pathprep.scores.read import read_scores
from pathprep.slides.find import SlideSource, find
from pathprep.slides.own_names import safe_name
from pathprep.storage.printable import printable
from pathprep.viewing import scene
from pathprep.viewing.deep_zoom import OVERLAP, TILE, DeepZoom
from pathprep.viewing.reading import Reading, Seen
from pathprep.viewing.server import Answer, Pages, Server
from pathprep.words import counted

HERE = Path(__file__).parent
KINDS = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
PARTS = [HERE / name for name in ("openseadragon.min.js", "layers.js", "viewer.js", "viewer.css")]
PARTS.append(Path(page.__file__).parent / "page.css")
# Settings that say something of a slide that is cut already
OF_ANY = ("mpp", "reader", "default_mpp", "min_mpp", "max_mpp")


def view(
    slide: AnyPath,
    *,
    scores: AnyPath | None = None,
    score: Sequence[str] = (),
    masks: AnyPath | None = None,
    mask_origin: AskedOrigin = "auto",
    dataset: AnyPath | None = None,
    side: int | None = None,
    port: int = 0,
    browser: bool = True,
    ready: Callable[[str], None] = print,
    **settings: Any,
) -> None:
    """Show a slide with its tissue, tiles and scores in a browser, until Ctrl-C.

    Args:
        slide: the file, or a DICOM slide's folder.
        scores: Parquet, CSV or HDF5: slide, x, y, side, and a column per score (pathprep.scores.read).
        score: columns that are shown; default: all.
        masks, mask_origin: the user's tissue instead of what is found, as of ``pathprep.shard``.
        dataset: that the slide is in: its tissue, its tiles, and those that quality filters dropped. Without,
            they are what ``pathprep.shard`` would make.
        side: of a tile with scores, level-0 pixels, where neither the file nor the dataset tells.
        port: of the server; 0 for any that is free.
        browser: open one; what to do without stands in the guide.
        ready: is told the address.
        settings: as of ``pathprep.shard``, such as ``tile=512, min_tissue=0.2``; not with ``dataset``.

    Raises:
        UsageError: a setting is wrong, or scores, masks or the dataset are not of the slide.
        UnreadableSlide: the slide cannot be opened.
    """
    made: dict[str, Any] = {"scores": scores, "score": score, "masks": masks, "mask_origin": mask_origin}
    with opened(slide, **made, dataset=dataset, side=side, port=port, **settings) as server:
        ready(server.url)
        if browser:
            Thread(target=webbrowser.open, args=[server.url], daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


@contextmanager
def serving(slide: AnyPath, **given: Any) -> Iterator[str]:
    """The address of a viewer that is served while the block runs. Args, and errors: as of ``view``."""
    with opened(slide, **given) as server:
        thread = Thread(target=server.serve_forever, args=[0.05], daemon=True)
        thread.start()
        try:
            yield server.url
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def opened(
    slide: AnyPath,
    *,
    scores: AnyPath | None = None,
    score: Sequence[str] = (),
    masks: AnyPath | None = None,
    mask_origin: AskedOrigin = "auto",
    dataset: AnyPath | None = None,
    side: int | None = None,
    port: int = 0,
    **settings: Any,
) -> Iterator[Server]:
    """A server that is to be run. Args, and errors: as of ``view``."""
    params = ShardParams.of(mpp=settings.pop("mpp", MPP), **settings)
    source = _source(Path(slide), path(masks), mask_origin)
    cut: tuple[Dataset, SlideMarker] | None = None
    if dataset is not None:
        idle = sorted({*settings} - {*OF_ANY}) + (["masks"] if masks is not None else [])
        if idle:
            raise UsageError(f"`{idle[0]}` shapes tiles, which `dataset` has already; leave one of them out")
        found = open_dataset(dataset)
        cut = found, scene.slide_in(found, source.called, params.mpp)
    with Reading(source, params) as reading, ThreadPoolExecutor(1) as aside:
        seen = reading.seen()
        if cut is not None and (cut[1].width, cut[1].height) != (seen.width, seen.height):
            raise UsageError(
                f"{cut[0].root}: its slide {cut[1].slide} has {cut[1].width}x{cut[1].height} pixels, "
                f"{source.path} has {seen.width}x{seen.height}; it is another one"
            )
        own_side = cut[1].grid.side if cut is not None else side
        drawn = None if scores is None else _scores(Path(scores), score, source, seen, own_side or side or 0)
        layers = aside.submit(_layers, reading, cut, seen)
        files = {
            "": Answer(_page(source, seen).encode(), "text/html; charset=utf-8"),
            "slide.dzi": Answer(DeepZoom(seen.width, seen.height).descriptor().encode(), "application/xml"),
            **{place.name: _file(place) for place in PARTS},
        }
        made = {
            "layers.json": lambda: Answer.of_json(layers.result()),
            "scores.json": lambda: Answer.of_json(drawn),
        }
        try:
            server = Server(Pages(files, made, reading.tile, reading.figures), port)
        except OSError as error:
            raise UsageError(
                f"`port` {port}: cannot be listened on ({error.strerror}); choose another"
            ) from None
        try:
            yield server
        finally:
            server.server_close()
            aside.shutdown(wait=False, cancel_futures=True)


def _source(slide: Path, masks: Path | None, mask_origin: AskedOrigin) -> SlideSource:
    found = find([slide], masks, mask_origin)
    if len(found) != 1:
        raise UsageError(f"{slide}: holds {counted(len(found))}; give one of them")
    return found[0]


def _scores(path: Path, score: Sequence[str], source: SlideSource, seen: Seen, side: int) -> dict[str, Any]:
    table = read_scores(path)
    names = table.chosen(score)
    slide = safe_name(source.called)
    placed: Placed = place(path, slide, table.only(source.called), seen.width, seen.height, side)
    return scene.scores_as_json(placed, names, table.ranges, table.notes)


def _layers(reading: Reading, cut: tuple[Dataset, SlideMarker] | None, seen: Seen) -> dict[str, Any]:
    """Tissue and tiles; of a slide in which they cannot be found, why."""
    if cut is not None:
        return {"layers": scene.as_json(scene.of_dataset(*cut)), "problem": ""}
    try:
        found = scene.of_survey(reading.survey(), reading.params, seen.width, seen.height)
    except SlideError as error:  # without an MPP there is no grid; the slide is shown all the same
        return {"layers": None, "problem": printable(str(error))}
    return {"layers": scene.as_json(found), "problem": ""}


def _page(source: SlideSource, seen: Seen) -> str:
    facts = asdict(seen) | {
        "tile": TILE,
        "overlap": OVERLAP,
        "maps": scene.maps(),
        "name": printable(source.called),
        "mpp_source": printable(seen.mpp_source),
    }
    # what could end the script element is written as an escape
    data = Markup(json.dumps(facts, allow_nan=False).replace("<", "\\u003c"))
    return render(HERE / "viewer.html", name=printable(source.called), facts=data)


def _file(place: Path) -> Answer:
    return Answer(place.read_bytes(), KINDS[place.suffix])
