"""Small slides of several kinds, ways to damage their bytes, and what pathprep makes of the result.

Shared by the corpus of damaged slides (damaged/) and by the fuzzer (tests/fuzz/slides.py). Slides
are examined in child processes with limits on memory and time, as the launchers run them.
"""

import resource
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import TimeoutError
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile
from pebble import ProcessExpired, ProcessPool

from helpers.slides import tissue
from pathprep.dataset.reader import Dataset
from pathprep.errors import PathprepError
from pathprep.images import jpeg
from pathprep.launchers import server
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.sharding import pipeline
from pathprep.sharding.pipeline import ShardTask
from pathprep.sharding.plan import prepare
from pathprep.slides import cross_check
from pathprep.slides import tissue as segmentation
from pathprep.slides.find import SlideSource

Pixels = npt.NDArray[np.uint8]

WIDTH, HEIGHT, TILE, LEVELS, MPP = 512, 384, 64, 3, 0.5
PARAMS = ShardParams(tile=64, region=256, quality=100, subsampling="444", stain=StainParams("none"))
# These slides have small overviews, read from a reduced level as those of real slides, and native tiles of a
# quarter of the usual side
OVERVIEW_SIDE, CELL = 256, 32
# Beyond what a worker has mapped when it starts
MEMORY, SECONDS = 2 << 30, 60.0
# Grey levels, mean of a tile: nobody takes the two for the same tissue
GROSS = 40.0

APERIO = "Aperio Image Library v1\r\n512x384 (64x64) JPEG/RGB Q=90|AppMag = 20|MPP = 0.5000"


def pixels() -> Pixels:
    """What all bases show: tissue with some glass around it."""
    return tissue(HEIGHT, WIDTH, seed=3, margin=40)


def _jpeg(tile: Pixels, colours: str) -> bytes:
    subsampling = "420" if colours == "YCBCR" else "444"
    return imagecodecs.jpeg8_encode(
        tile, level=90, colorspace="RGB", outcolorspace=colours, subsampling=subsampling, optimize=False
    )


def _split(data: bytes) -> tuple[bytes, bytes]:
    """A JPEG as its tables and the rest, as Aperio stores them."""
    tables, rest, at = b"", data[:2], 2
    while True:
        length = 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        segment = data[at : at + length]
        if segment[1] in (0xDB, 0xC4):
            tables += segment
        elif segment[1] < 0xE0:  # without the markers that name the colour space: the TIFF's tags do
            rest += segment
        at += length
        if segment[1] == 0xDA:
            return b"\xff\xd8" + tables + b"\xff\xd9", rest + data[at:]


KINDS: dict[str, dict[str, Any]] = {
    "pyramid": {"suffix": ".tif", "encode": lambda tile: _jpeg(tile, "YCBCR"), "photometric": "ycbcr"},
    "big": {"suffix": ".tif", "encode": lambda tile: _jpeg(tile, "YCBCR"), "photometric": "ycbcr"},
    "aperio": {"suffix": ".svs", "encode": lambda tile: _split(_jpeg(tile, "RGB"))[1], "photometric": "rgb"},
    "rgb": {"suffix": ".tif", "encode": lambda tile: _jpeg(tile, "RGB"), "photometric": "rgb"},
    "jp2k": {
        "suffix": ".svs",
        "encode": lambda tile: imagecodecs.jpeg2k_encode(tile, level=40, codecformat="j2k", mct=True),
        "photometric": "rgb",
        "compression": 33005,
    },
    "lzw": {"suffix": ".tif", "encode": imagecodecs.lzw_encode, "photometric": "rgb", "compression": "lzw"},
    "deflate": {
        "suffix": ".tif",
        "encode": lambda tile: imagecodecs.zlib_encode(tile.tobytes()),
        "photometric": "rgb",
        "compression": "zlib",
    },
    "endian": {"suffix": ".tif", "encode": lambda tile: _jpeg(tile, "YCBCR"), "photometric": "ycbcr"},
    # whole native tiles: the last level is half white
    "padded": {"suffix": ".tif", "encode": lambda tile: _jpeg(tile, "YCBCR"), "photometric": "ycbcr"},
    # as Bio-Formats writes them: the tag says RGB
    "mislabelled": {"suffix": ".tif", "encode": lambda tile: _jpeg(tile, "YCBCR"), "photometric": "ycbcr"},
    "single": {"suffix": ".tif", "encode": lambda tile: _jpeg(tile, "YCBCR"), "photometric": "ycbcr"},
}


def _tiles(level: Pixels, kind: dict[str, Any]) -> Iterator[bytes]:
    padded = np.pad(level, ((0, -level.shape[0] % TILE), (0, -level.shape[1] % TILE), (0, 0)), mode="edge")
    for y in range(0, level.shape[0], TILE):
        for x in range(0, level.shape[1], TILE):
            yield kind["encode"](np.ascontiguousarray(padded[y : y + TILE, x : x + TILE]))


def write_base(path: Path, name: str) -> Path:
    """Write the base slide called ``name``: a pyramid whose levels are averages of the first."""
    kind = KINDS[name]
    level = pixels()
    aperio = kind["suffix"] == ".svs"
    options: dict[str, Any] = {"subsampling": (2, 2)} if kind["photometric"] == "ycbcr" else {}
    if name in ("aperio", "rgb"):
        options["compressionargs"] = {"outcolorspace": "rgb"}
    if name == "aperio":
        options["jpegtables"] = _split(_jpeg(level[:TILE, :TILE], "RGB"))[0]
    with tifffile.TiffWriter(path, bigtiff=name == "big", byteorder=">" if name == "endian" else "<") as tiff:
        for number in range(1 if name == "single" else LEVELS):
            if number:
                shape = (level.shape[0] // 2, 2, level.shape[1] // 2, 2, 3)
                level = np.rint(level.reshape(shape).mean((1, 3))).astype(np.uint8)
            shown = level
            if name == "padded":
                more = [(0, -side % TILE) for side in level.shape[:2]]
                shown = np.pad(level, (*more, (0, 0)), constant_values=255)
            tiff.write(
                _tiles(shown, kind),
                shape=shown.shape,
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric=kind["photometric"],
                compression=kind.get("compression", "jpeg"),
                resolution=(1e4 / MPP,) * 2 if number == 0 and not aperio else None,
                resolutionunit="CENTIMETER" if number == 0 and not aperio else None,
                description=APERIO if aperio and number == 0 else None,
                subfiletype=int(number > 0),
                metadata=None,
                **options,
            )
    if name == "mislabelled":
        tags = [{"tag": "PhotometricInterpretation", "page": page, "value": 2} for page in range(LEVELS)]
        path.write_bytes(patch(path.read_bytes(), anatomy(path), tags))
    return path


class Place(NamedTuple):
    """An IFD entry: where it stands, its value's place, type and count, and how many bytes an item has."""

    entry: int
    value: int
    dtype: int
    count: int
    item: int


@dataclass(frozen=True)
class Anatomy:
    """Where things stand in an undamaged file.

    Attributes:
        pages: tag name -> place, per page. next: where each page's pointer to the next stands.
        tiles: (offset, length) of each tile, per page. big: BigTIFF.
    """

    pages: list[dict[str, Place]]
    next: list[int]
    tiles: list[list[tuple[int, int]]]
    big: bool

    @property
    def structure(self) -> list[tuple[int, int]]:
        """(offset, length) of all that is not tile data: header, directories, values outside them."""
        spans = [(0, 16 if self.big else 8)]
        for page, pointer in zip(self.pages, self.next, strict=True):
            first = min(place.entry for place in page.values())
            spans.append((first - (8 if self.big else 2), pointer + 8 - first))
            spans += [(p.value, p.count * p.item) for p in page.values() if not first <= p.value < pointer]
        return spans


def anatomy(path: Path) -> Anatomy:
    """Look into an undamaged file."""
    with tifffile.TiffFile(path) as tiff:
        size = 20 if tiff.is_bigtiff else 12
        pages, pointers, tiles = [], [], []
        for page in tiff.pages:
            tags = list(page.tags.values())
            pages.append(
                {
                    tag.name: Place(
                        tag.offset,
                        tag.valueoffset,
                        int(tag.dtype),
                        tag.count,
                        tag.valuebytecount // tag.count,
                    )
                    for tag in tags
                }
            )
            pointers.append(max(tag.offset for tag in tags) + size)
            tiles.append(list(zip(page.dataoffsets, page.databytecounts, strict=True)))
        return Anatomy(pages, pointers, tiles, tiff.is_bigtiff)


def patch(data: bytes, parts: Anatomy, steps: Iterable[dict[str, Any]]) -> bytes:
    """Damage a file as the corpus says it.

    Each step is one of
        {tag: NAME, page: 0, item: 0, value: N}   set an item of a tag's value
        {tag: NAME, page: 0, as: TYPE, value: N}  make the entry one number: type 3 has 16 bits, 4 has 32
        {tag: NAME, page: 0, code: N}             give the entry another tag number
        {tile: N, page: 0, at: N, hex: ...}       bytes in a tile's data, from its start or its end
        {tile: N, marker: XX, at: N, hex: ...}    the same, from the JPEG marker ffXX on
        {tile: N, page: 0, fill: 0}               a whole tile's data
        {tile: N, page: 0, from: [page, tile]}    another tile's place in the table
        {next: PAGE, page: 0}                     the page that follows this one (-1: none; maybe itself)
        {at: N, hex: ...}                         bytes anywhere
        {text: OLD, becomes: NEW}                 text of the same length
        {cut: F}                                  only the first share of the file
        {whole: TEXT}                             another content altogether
    """
    out = bytearray(data)

    def put(at: int, new: bytes) -> None:
        if at < 0 or at + len(new) > len(out):
            raise ValueError("a patch outside the file")
        out[at : at + len(new)] = new

    def number(value: int, size: int) -> bytes:
        return int(value).to_bytes(size, "little")

    for step in steps:
        page = step.get("page", 0)
        if "tag" in step:
            place = parts.pages[page][step["tag"]]
            if "as" in step:
                width = 8 if parts.big else 4
                put(place.entry + 2, number(step["as"], 2) + number(1, width) + number(step["value"], width))
            elif "code" in step:
                put(place.entry, number(step["code"], 2))
            else:
                put(place.value + step.get("item", 0) * place.item, number(step["value"], place.item))
        elif "tile" in step and "from" in step:
            offset, length = parts.tiles[step["from"][0]][step["from"][1]]
            for tag, value in (("TileOffsets", offset), ("TileByteCounts", length)):
                place = parts.pages[page][tag]
                put(place.value + step["tile"] * place.item, number(value, place.item))
        elif "tile" in step:
            offset, length = parts.tiles[page][step["tile"]]
            if "marker" in step:
                put(
                    out.index(bytes([0xFF, int(str(step["marker"]), 16)]), offset) + step["at"],
                    bytes.fromhex(step["hex"]),
                )
            elif "fill" in step:
                put(offset, bytes([step["fill"]]) * length)
            else:
                put(offset + step["at"] + (length if step["at"] < 0 else 0), bytes.fromhex(step["hex"]))
        elif "next" in step:
            width = 8 if parts.big else 4
            first = (
                min(place.entry for place in parts.pages[step["next"]].values()) if step["next"] >= 0 else 0
            )
            put(parts.next[page], number(first and first - (8 if parts.big else 2), width))
        elif "text" in step:
            old, new = step["text"].encode(), step["becomes"].encode()
            if len(old) != len(new) or old not in out:
                raise ValueError(f"not in the file, or of another length: {step}")
            out[:] = out.replace(old, new, 1)
        elif "cut" in step:
            del out[int(len(out) * step["cut"]) :]
        elif "whole" in step:
            out[:] = step["whole"].encode()
        else:
            put(step["at"] + (len(out) if step["at"] < 0 else 0), bytes.fromhex(step["hex"]))
    return bytes(out)


class Outcome(NamedTuple):
    """What became of a slide.

    Attributes:
        kind: ``refused``, ``equal``, ``differs`` (tiles with small differences), ``gross`` (at least one that
            is another picture), ``crash``, ``timeout`` or ``unexpected`` (an error that is not ours).
        error: class of the error. text: its message.
        tiles: accepted. reader: that read them. difference: the largest of a tile, mean grey levels.
    """

    kind: str
    error: str = ""
    text: str = ""
    tiles: int = 0
    reader: str = ""
    difference: float = 0.0


@cache
def _truth() -> Pixels:
    return pixels()


def examine(path: str, options: dict[str, Any] | None = None) -> Outcome:
    """Shard one slide with the real per-slide function and compare its tiles with the undamaged pixels."""
    segmentation.OVERVIEW_MIN_SIDE, cross_check.CELL = OVERVIEW_SIDE, CELL
    params = ShardParams(**{**vars(PARAMS), **(options or {})})
    root = Path(tempfile.mkdtemp(prefix="examine-", dir=Path(path).parent))
    try:
        build = prepare(root, params, rebuild=False)
        marker = pipeline.process(ShardTask(root, SlideSource(Path(path), name="s"), params, build))
        dataset, truth, worst = Dataset(root), _truth(), 0.0
        rows = dataset.table("s").to_pylist()
        for row in rows:
            tile = jpeg.decode(dataset.read("s", row["offset"], row["length"]))
            there = truth[row["y"] : row["y"] + row["side"], row["x"] : row["x"] + row["side"]]
            if there.shape != tile.shape:
                return Outcome(
                    "gross", text=f"a tile at {row['x']},{row['y']} outside the slide", tiles=len(rows)
                )
            worst = max(worst, float(np.abs(tile.astype(int) - there).mean()))
        # the slides are JPEGs of the truth, some at half the colour resolution
        kind = "equal" if worst < 8 else "differs" if worst < GROSS else "gross"
        return Outcome(kind, tiles=len(rows), reader=marker.reader, difference=worst)
    except PathprepError as error:
        return Outcome("refused", type(error).__name__, str(error))
    except Exception as error:
        return Outcome("unexpected", type(error).__name__, str(error))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _limit() -> None:
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def examine_all(paths: list[Path], workers: int = 2) -> Iterator[Outcome]:
    """Outcomes in the order of the paths; several slides a child, a new one after a death."""
    with ProcessPool(workers, max_tasks=50, initializer=_limit, context=server.context()) as pool:
        futures = [pool.schedule(examine, args=[str(path)], timeout=SECONDS) for path in paths]
        for future in futures:
            try:
                yield future.result()
            except ProcessExpired as error:
                yield Outcome("crash", text=f"exit code {error.exitcode}")
            except TimeoutError:
                yield Outcome("timeout", text=f"{SECONDS:g} s")
