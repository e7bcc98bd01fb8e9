"""Making files of features: which are due, who makes them, and what became of each.

A file that was made from the same things is kept; the others are written whole or not at all. A slide that
cannot be used costs its own file: the reason stands in ``failed/<slide>.json``, the others are made, and the
next run tries it again. A file that an older run made of it is removed, since it is of other tiles or
another model. An image of a folder costs its row: the file is made without it, and anew by the next run.

Under torchrun every process takes slides of its own, and its own card. They talk to each other once, at the
end, so that all of them know what failed.
"""

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

from pathprep.errors import DatasetError, UsageError
from pathprep.storage import atomic
from pathprep.words import counted
from pathtrain.distributed.workers import Place
from pathtrain.features import anndata_files
from pathtrain.features.encode import Features
from pathtrain.features.files import FORMATS
from pathtrain.features.part import IDENTITY, Part
from pathtrain.features.progress import TileProgress
from pathtrain.features.read import files_of
from pathtrain.params.encoding import Dtype, Format

FAILED = "failed"

# Features of parts in their order, or why there are none; progress is advanced by tiles
Encode = Callable[[list[Part], TileProgress], Iterator[Features | DatasetError]]


@dataclass(frozen=True)
class EmbedSummary:
    """What was done, by all processes together.

    Attributes:
        written, kept: files. empty: slides without a tile, which have none.
        failed: slide (or folder) -> why it has no file; image of a folder -> why it has no row in it.
        tiles: encoded. dim: D, 0 if nothing was encoded. seconds: of the slowest process.
        place: this process.
    """

    written: int
    kept: int
    empty: int
    failed: dict[str, str]
    tiles: int
    dim: int
    seconds: float
    place: Place

    @property
    def stopped(self) -> str:
        """Why the work ended before its last file: it does not."""
        return ""

    def __str__(self) -> str:
        parts = [f"{counted(self.written, 'file')} written"]
        parts += [f"{self.kept} kept as they were"] if self.kept else []
        parts += [f"{counted(self.empty)} without a tile"] if self.empty else []
        parts += [f"{len(self.failed)} failed"] if self.failed else []
        made = [f"{counted(self.tiles, 'tile')}, {counted(self.dim, 'number')} each"] if self.written else []
        made += [f"{self.seconds:.1f} s" + (f", {self.place.world} processes" * (self.place.world > 1))]
        return f"{', '.join(parts)}; {', '.join(made)}"

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "place"}
        return {**values, "processes": self.place.world}


def check_format(format: Format, dtype: Dtype) -> None:
    """Refuse a format that is not there, or cannot hold such numbers, before anything is read.

    Raises:
        UsageError: naming the way out.
    """
    if format not in FORMATS:
        raise UsageError(f"`format` {format}: give {' or '.join(FORMATS)}")
    if dtype not in get_args(Dtype):
        raise UsageError(f"`dtype` is {dtype!r}; give {', '.join(get_args(Dtype))}")
    if format in ("anndata", "zarr"):
        anndata_files.check(dtype)
    elif format == "parquet" and dtype == "bfloat16":
        raise UsageError("`dtype` bfloat16: Parquet has no such numbers; give float16, or `format` hdf5")


def settle(out: Path, made: Mapping[str, Any] | None, replace: bool) -> None:
    """Make the folder, and see that it holds no features of another model, level or image size.

    Args:
        made: what the new files are made from; None if there are none.
        replace: remove those of others, instead of refusing.

    Raises:
        UsageError: it holds such files, which would be mixed with these.
    """
    out.mkdir(parents=True, exist_ok=True)
    for folder in (out, out / FAILED):
        atomic.sweep(folder)
    if made is None:
        return
    others = {
        path: there
        for kind in FORMATS.values()
        for path in files_of(out, kind.ending)
        if (there := kind.made(path)) and not _alike(there, made)
    }
    if not others:
        return
    if replace:
        for path in others:
            remove(path)
        return
    first, there = next(iter(others.items()))
    differs = [
        f"{key} {there[key]} there, {made.get(key, 'none')} now"
        for key in ("fingerprint", "readout", "level", "size")
        if key in there and there[key] != made.get(key)
    ]
    what = ", ".join([f"of {there['encoder']}", *differs] if "encoder" in there else differs)
    raise UsageError(
        f"{out}: holds features of another model or image size ({counted(len(others), 'file')}, such as "
        f"{first.name}: {what or 'not written by pathtrain'}); give another `out`, or `replace`, which "
        "removes them"
    )


def _alike(there: Mapping[str, Any], made: Mapping[str, Any]) -> bool:
    """Whether features lie in the same space. Files of older versions do not say their read-out."""
    return all(
        there.get(key) == made.get(key) for key in IDENTITY if key != "readout" or {key} <= there.keys()
    )


def make(
    parts: Sequence[Part], empty: int, out: Path, format: Format, encode: Encode, replace: bool = False
) -> EmbedSummary:
    """Write this process's share of the files to the folder ``out``, which is created.

    Args:
        empty: slides without a tile, for the summary. replace: see ``settle``.

    Raises:
        UsageError: an unknown format, or one that does not hold such numbers; ``out`` holds features of
            another model.
        PeerError: another process stopped.
    """
    check_format(format, parts[0].dtype if parts else "float32")
    kind = FORMATS[format]
    place, start = Place.of_environment(), time.perf_counter()
    settle(out, parts[0].made if parts else None, replace)
    mine = share(parts, place)
    todo = [part for part in mine if not kind.fits(out / f"{part.file}{kind.ending}", part)]
    failed: dict[str, str] = {}
    broken: set[str] = set()  # parts of which failed/ tells
    tiles = dim = lost = 0
    progress = TileProgress(sum(len(part.tiles) for part in todo), "embed")
    for part, found in zip(todo, encode(todo, progress), strict=True):
        path = out / f"{part.file}{kind.ending}"
        if isinstance(found, DatasetError):
            failed |= part.left_out or {part.name: str(found)}
            broken.add(part.name)
            _record(out, part, str(found))
            remove(path)
            progress.note(f"{part.name}: failed")
            lost += 1
            continue
        kind.write(path, part, found)
        used = len(part.tiles) - len(part.left_out)
        if part.left_out:
            failed |= part.left_out
            broken.add(part.name)
            _record(out, part, f"{len(part.left_out):,} of {counted(len(part.tiles), 'image')} left out")
        tiles, dim = tiles + used, found.shape[1]
        progress.line(f"{part.name}: {counted(used, 'tile')}")
    mended = {part.name for part in mine} - broken
    for path in (out / FAILED).glob("*.json"):  # few; slides may be many
        if path.stem in mended:
            path.unlink(missing_ok=True)
    kept, seconds = len(mine) - len(todo), time.perf_counter() - start
    every = place.gather((len(todo) - lost, kept, failed, tiles, dim, seconds))
    return EmbedSummary(
        written=sum(one[0] for one in every),
        kept=sum(one[1] for one in every),
        empty=empty,
        failed={name: why for one in every for name, why in sorted(one[2].items())},
        tiles=sum(one[3] for one in every),
        dim=max(one[4] for one in every),
        seconds=max(one[5] for one in every),
        place=place,
    )


def remove(path: Path) -> None:
    """Remove a file of features, or a Zarr folder; that it is absent is well."""
    while path.is_dir():
        with suppress(FileNotFoundError):  # another process removes it, too
            shutil.rmtree(path)
    path.unlink(missing_ok=True)


def _record(out: Path, part: Part, error: str) -> None:
    path = out / FAILED / f"{part.name}.json"
    path.parent.mkdir(exist_ok=True)
    images = {"images": part.left_out} if part.left_out else {}
    atomic.write_json(path, {"slide": part.name, "error": error, **images})


def share(parts: Sequence[Part], place: Place) -> list[Part]:
    """The files of one of several processes: each file in one share, the shares' tiles about equal.

    It depends on the files alone, not on which are done: processes that start at different times agree.
    """
    if place.world == 1:
        return list(parts)
    loads = [0] * place.world
    mine = []
    for part in sorted(parts, key=lambda part: (-len(part.tiles), part.name)):
        least = loads.index(min(loads))
        loads[least] += len(part.tiles)
        if least == place.rank:
            mine.append(part)
    return sorted(mine, key=lambda part: part.tiles.start)
