"""The name that each slide gets in a dataset; a slide enters it once, whatever its files are called."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Self

from pathprep.dataset.failed import FailedShard, read_failed
from pathprep.dataset.marker import Marker, SlideMarker, read_sealed
from pathprep.errors import UsageError
from pathprep.slides.find import Repeat, SlideSource
from pathprep.slides.identity import file_size, is_same, is_there
from pathprep.slides.own_names import hashed, safe_name
from pathprep.surveys.record import Surveyed

READERS = 8  # markers at a time

OnFile = Marker | Surveyed  # what a folder holds of a slide


@dataclass(frozen=True)
class Named:
    """Slides with their names, in the order of these; and the files of slides that are among them already."""

    slides: list[SlideSource]
    repeats: list[Repeat]


def with_names(
    sources: list[SlideSource],
    root: Path,
    mpps: tuple[float, ...] = (),
    made: Callable[[Path], OnFile | None] = read_sealed,
) -> Named:
    """Give every slide its name: the safe name of its own name, with a short hash of its path where two
    slides would collide.

    Of several files with the same content, or a link and its target, one is taken: that which the dataset
    holds, or has the shortest name. A name that the dataset
    already holds belongs to the slide it was made from: the same path, the same DICOM series, or, if no slide
    of this run has that path, the same content (the archive was moved, is mounted elsewhere, or files were
    renamed). So a slide enters a dataset once, whatever else a run is about.

    Args:
        sources: the slides. root: the dataset folder.
        mpps: if there are several, each slide is returned once for each, as ``<name>_mpp0-5``.
        made: reads a file of slides/: a marker, or a slide of a survey.

    Raises:
        UsageError: two files of one slide are given different MPPs or masks.
    """
    several = mpps if len(mpps) > 1 else ()
    endings = [f"_mpp{mpp:g}".replace(".", "-") for mpp in several] or [""]
    groups = _same(sorted(sources, key=lambda source: source.path))
    bases = {safe_name(source.own_name) for group in groups for source in group}
    standing = _standing(root, bases, endings, made)
    held = _Held(standing)
    if any(held.owned(group) is None for group in groups):  # it may be there under any name
        held = _Held(standing | _standing(root, None, endings, made, standing))
    listed = {source.recorded for group in groups for source in group}
    names, slides, repeats = dict[str, SlideSource](), list[SlideSource](), list[Repeat]()
    waiting: dict[str, list[SlideSource]] = defaultdict(list)
    for group in groups:
        # the dataset's own first; else the shortest name: A.svs, not "A (1).svs" or "Copy of A.svs"
        kept = held.owned(group) or min(group, key=lambda each: (len(each.called), each.path))
        repeats += [Repeat(other.path, kept.path) for other in group if other is not kept]
        source = _told(kept, group)
        name = held.at(source)
        if name is None:
            moved = (n for n in held.like(source) if n not in names and held.names[n].path not in listed)
            name = next(moved, None)
        if name is None:
            waiting[safe_name(source.own_name)].append(source)
        else:
            names[name] = source
    for base, some in waiting.items():
        for source in some:
            alone = len(some) == 1 and base not in held.names and base not in names
            full = hashed(base, source.recorded)
            # a marker that cannot be read any more stands under the name that its slide had
            names[base if alone and full not in held.unread else full] = source
    for name, source in names.items():
        for ending, at in zip(endings, several or (None,), strict=True):
            slides.append(replace(source, name=name + ending, slide=name, at=at))
    return Named(sorted(slides, key=lambda source: source.name), sorted(repeats))


def _same(sources: Iterable[SlideSource]) -> list[list[SlideSource]]:
    """Groups of files that are one slide; most have one. Only files of one size are read, and few are."""
    sizes: dict[object, list[SlideSource]] = defaultdict(list)
    for source in sources:
        key = source.series.uid if source.series else file_size(source.path)
        sizes[source.path if key is None else key].append(source)
    groups: list[list[SlideSource]] = []
    for some in sizes.values():
        mine: list[list[SlideSource]] = []
        ends: list[object] = []
        for source in some:
            mark = source.measures() if len(some) > 1 else None
            same = (g for g, e in zip(mine, ends, strict=True) if e == mark and _is_one(g[0], source))
            group = next(same, None)
            if group is None:
                mine.append([source])
                ends.append(mark)
            else:
                group.append(source)
        groups += mine
    return groups


def _is_one(one: SlideSource, other: SlideSource) -> bool:
    if one.series is not None or other.series is not None:
        return one.series is not None and other.series is not None and one.series.uid == other.series.uid
    return is_same(one.path, other.path)


def _told(kept: SlideSource, group: list[SlideSource]) -> SlideSource:
    """The slide that is taken, with what is said of any of its files."""
    told: dict[str, Any] = {}
    for name in ("mpp", "mask"):
        given: dict[object, Path] = {}
        for each in group:
            given.setdefault(getattr(each, name), each.path)
        given.pop(None, None)
        if len(given) > 1:
            (a, first), (b, second) = list(given.items())[:2]
            raise UsageError(
                f"{first} and {second} hold the same slide, and {name} is {a} for one and {b} for the other; "
                "leave one out"
            )
        told[name] = next(iter(given), None)
    origin = next((each.mask_origin for each in group if each.mask is not None), kept.mask_origin)
    return replace(kept, mpp=told["mpp"], mask=told["mask"], mask_origin=origin)


class _Made(NamedTuple):
    """What a name stands for: path and bytes of a slide file; measures and series if known; did it fail?"""

    path: str
    size: int | None
    measures: tuple[int | None, str | None] | None
    series: str | None
    failed: bool

    @classmethod
    def of(cls, recorded: Marker | Surveyed | FailedShard) -> Self:
        """Of a slide that is done, or that failed."""
        failed = isinstance(recorded, FailedShard)
        inputs = {} if isinstance(recorded, FailedShard) else recorded.inputs
        measures = (inputs.get("size"), inputs["ends_sha256"]) if inputs.get("ends_sha256") else None
        slide = isinstance(recorded, SlideMarker | Surveyed) and recorded.vendor == "dicom"
        series = recorded.own_name if isinstance(recorded, SlideMarker | Surveyed) and slide else None
        return cls(recorded.source.path, recorded.source.size, measures, series, failed)


class _Held:
    """What a dataset holds.

    Attributes:
        names: name -> what it stands for. unread: names of which nobody knows any more.
    """

    def __init__(self, standing: Mapping[str, _Made | None]) -> None:
        names = {name: made for name, made in standing.items() if made is not None}
        self.names, self.unread = names, standing.keys() - names.keys()
        self._paths = {made.path: name for name, made in names.items()}
        self._series = {made.series: name for name, made in names.items() if made.series is not None}
        self._sizes: dict[int | None, list[str]] = defaultdict(list)
        for name, made in names.items():
            self._sizes[made.size if made.measures is None else made.measures[0]].append(name)

    def at(self, source: SlideSource) -> str | None:
        """The name of what was made from a slide's path, or from its series."""
        name = self._paths.get(source.recorded)
        if name is None and source.series is not None:
            name = self._series.get(source.own_name)
            base = safe_name(source.own_name)
            if name is None and base in self.names and self.names[base].failed:
                name = base  # no other slide has this UID: it failed while not all of its files were there
        return name

    def owned(self, group: Iterable[SlideSource]) -> SlideSource | None:
        """The file of a slide that the dataset's was made from."""
        return next((source for source in group if self.at(source) is not None), None)

    def like(self, source: SlideSource) -> Iterator[str]:
        """Names of what was made from the same content: the slide has moved, or was renamed."""
        plain = source.series is None and source.path.suffix.lower() != ".mrxs"
        if plain and file_size(source.path) not in self._sizes:
            return  # most: the slide need not be read
        mine = source.measures()
        for name in self._sizes.get(mine[0], ()):
            made = self.names[name]
            if made.measures is None:  # of one that failed, or in an old dataset
                same = source.made(made.path, made.size)
            else:
                there = Path(made.path)
                same = made.measures == mine and (not is_there(there) or is_same(there, source.path))
            if same:
                yield name


def _standing(
    root: Path,
    bases: Container[str] | None,
    endings: list[str],
    made: Callable[[Path], OnFile | None],
    known: Container[str] = (),
) -> dict[str, _Made | None]:
    """Names that the dataset holds, and what each was made from; None if that cannot be read.

    Args:
        root: the dataset folder. bases: safe names, to look for them and theirs with a hash only; None: all.
        endings: of the run's resolutions. known: names that need not be read again.
    """
    found: dict[str, list[Callable[[], OnFile | FailedShard | None]]] = defaultdict(list)
    for name, path, read in _files(root, endings, made):
        wanted = bases is None or name in bases or re.sub("-[0-9a-f]{8}$", "", name) in bases
        if wanted and name not in known:
            found[name].append(partial(read, path))
    tasks = [(name, each) for name, several in found.items() for each in several]
    standing: dict[str, _Made | None] = {}
    with ThreadPoolExecutor(READERS) as pool:  # small files wait more than they work
        for (name, _), each in zip(tasks, pool.map(lambda task: task[1](), tasks), strict=True):
            if each is not None:
                standing[name] = _Made.of(each)
            else:
                standing.setdefault(name)
    return standing


def _files(
    root: Path, endings: list[str], made: Callable[[Path], OnFile | None]
) -> Iterator[tuple[str, Path, Callable[[Path], OnFile | FailedShard | None]]]:
    """Names, without the resolution, of what failed and then of what was made, which counts more."""
    for folder, read in (("failed", read_failed), ("slides", made)):
        with suppress(FileNotFoundError), os.scandir(root / folder) as entries:
            for entry in entries:
                full = entry.name.removesuffix(".json")
                ending = next((ending for ending in endings if full.endswith(ending)), None)
                if ending is not None and full != entry.name:
                    yield full.removesuffix(ending), Path(entry.path), read
