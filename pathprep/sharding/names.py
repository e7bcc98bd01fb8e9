"""The name that each slide gets in a dataset."""

import hashlib
import os
import re
from collections.abc import Callable, Container
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, Self

from pathprep.dataset.failed import FailedShard, read_failed
from pathprep.dataset.marker import Marker, read_sealed
from pathprep.dataset.schema import slide_name
from pathprep.slides.find import SlideSource, hash_of_ends

READERS = 8  # markers at a time


def with_names(sources: list[SlideSource], root: Path, mpps: tuple[float, ...] = ()) -> list[SlideSource]:
    """Give every slide its name: the stem, or the stem and a short hash of the path where two would collide.

    A name that the dataset already holds belongs to the slide it was made from: the same path, or, if no
    slide of this run has that path, the same content under the same file name (the archive was moved, or is
    mounted elsewhere). So a slide enters a dataset once, whatever else a run is about.

    Args:
        sources: the slides. root: the dataset folder.
        mpps: if there are several, each slide is returned once for each, as ``<name>_mpp0-5``.
    """
    several = mpps if len(mpps) > 1 else ()
    endings = [f"_mpp{mpp:g}".replace(".", "-") for mpp in several] or [""]
    groups: dict[str, list[SlideSource]] = {}
    for source in sorted(sources, key=lambda source: source.path):
        groups.setdefault(slide_name(source.path.stem), []).append(source)
    standing = _standing(root, groups, endings)
    named = []
    for stem, group in groups.items():
        known = standing.get(stem, {})
        owners = {made.path: name for name, made in known.items()}
        listed = {str(source.path) for source in group}
        moved = {name: made for name, made in known.items() if made.path not in listed}
        for source in group:
            name = owners.get(str(source.path)) or next((n for n in moved if moved[n].is_from(source)), None)
            if name is None:
                digest = hashlib.sha256(str(source.path).encode()).hexdigest()[:8]
                name = stem if len(group) == 1 and stem not in known else f"{stem}-{digest}"
            moved.pop(name, None)
            for ending, at in zip(endings, several or (None,), strict=True):
                named.append(replace(source, name=name + ending, slide=name, at=at))
    return sorted(named, key=lambda source: source.name)


class _Made(NamedTuple):
    """What a name of the dataset stands for: path and bytes of a slide, and the hash of its ends if known."""

    path: str
    size: int | None
    ends: str | None

    @classmethod
    def of(cls, recorded: Marker | FailedShard) -> Self:
        """Of a slide that is done, or that failed."""
        ends = recorded.inputs.get("ends_sha256") if isinstance(recorded, Marker) else None
        return cls(recorded.source.path, recorded.source.size, ends)

    def is_from(self, source: SlideSource) -> bool:
        """Whether a slide has the file name, the size and, as far as known, the ends of this one."""
        same = source.made(self.path, self.size)
        return same and self.ends in (None, hash_of_ends(source.path))


def _standing(root: Path, stems: Container[str], endings: list[str]) -> dict[str, dict[str, _Made]]:
    """By stem: names that the dataset holds, and what each was made from."""
    known: list[tuple[str, str, Path, Callable[[Path], Marker | FailedShard | None]]] = []
    for folder, read in (("failed", read_failed), ("slides", read_sealed)):
        with suppress(FileNotFoundError), os.scandir(root / folder) as entries:
            for entry in entries:
                full = entry.name.removesuffix(".json")
                ending = next((ending for ending in endings if full.endswith(ending)), None)
                if ending is None or full == entry.name:
                    continue
                name = full.removesuffix(ending)
                stem = name if name in stems else re.sub("-[0-9a-f]{8}$", "", name)
                if stem in stems:
                    known.append((stem, name, Path(entry.path), read))
    standing: dict[str, dict[str, _Made]] = {}
    with ThreadPoolExecutor(READERS) as pool:  # small files wait more than they work
        recorded = pool.map(lambda item: item[3](item[2]), known)
        for (stem, name, _, _), each in zip(known, recorded, strict=True):
            if each is not None:
                standing.setdefault(stem, {})[name] = _Made.of(each)
    return standing
