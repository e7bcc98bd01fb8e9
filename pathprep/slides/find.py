"""Which slides a run is about: files, folders and CSV lists, and the name that each gets in the dataset."""

import hashlib
import os
import re
from collections.abc import Callable, Container, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pathprep.dataset.marker import read_sealed
from pathprep.dataset.schema import slide_name
from pathprep.errors import UsageError
from pathprep.slides.readers import EXTENSIONS, one_per_series
from pathprep.storage import tables
from pathprep.storage.json_files import read_json

READERS = 8  # markers at a time


@dataclass(frozen=True)
class SlideSource:
    """One slide file and what the user says about it.

    Attributes:
        path: absolute. mpp: overrides the file's. mask: GeoJSON or PNG instead of tissue detection.
        name: in the dataset. slide: the same without the resolution, where there are several.
        at: the resolution that it is to be sharded at; None: the run's only one.
        default_mpp: the run's, for a slide that states none.
    """

    path: Path
    mpp: float | None = None
    mask: Path | None = None
    name: str = ""
    slide: str = ""
    at: float | None = None
    default_mpp: float | None = None

    def inputs(self) -> dict[str, Any]:
        """What the slide's tiles depend on besides the run's parameters; a change rebuilds the slide."""
        mask = hashlib.sha256(self.mask.read_bytes()).hexdigest() if self.mask else None
        return {
            "size": file_size(self.path),
            "ends_sha256": _ends(self.path),
            "mpp": self.mpp,
            "mask_sha256": mask,
            "default_mpp": self.default_mpp,
        }

    def made(self, source: Mapping[str, Any]) -> bool:
        """Whether a marker's or quarantine file's ``source`` is this file, perhaps at another place."""
        path = Path(source["path"])
        return path == self.path or (path.name, source["size"]) == (self.path.name, file_size(self.path))


def file_size(path: Path) -> int | None:
    """Bytes of a slide file; None if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def _ends(path: Path) -> str | None:
    """Hash of a file's first and last 64 KiB, where headers and tags stand; None if it is not there.

    Tells a slide that was replaced or patched from one that was only copied, at the cost of two reads.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1 << 16)
            file.seek(max(0, path.stat().st_size - (1 << 16)))
            return hashlib.sha256(head + file.read(1 << 16)).hexdigest()
    except OSError:
        return None


def find(inputs: list[Path], masks: Path | None = None) -> list[SlideSource]:
    """All slides under the inputs, each once, sorted by path.

    Args:
        inputs: slide files, folders (searched whole), or CSV files with a column ``slide`` (paths,
            absolute or relative to the CSV) and, if wanted, ``mpp`` and ``mask``.
        masks: a folder with <slide's stem>.geojson or .png, or one mask file for one slide.

    Raises:
        UsageError: an input is absent, no file or holds no slide, or a CSV is malformed.
    """
    found: dict[Path, SlideSource] = {}
    for item in inputs:
        if item.is_dir() and item.suffix.lower() != ".mrxs":
            sources = [SlideSource(path) for path in _walk(item)]
            if not sources:
                kinds = " ".join(sorted(EXTENSIONS))
                raise UsageError(f"{item}: no slides in this folder (looked for {kinds})")
        elif item.suffix.lower() == ".csv":
            sources = _read_csv(item)
        elif item.exists():
            sources = [SlideSource(item)]
        else:
            raise UsageError(f"{item}: no such file or folder")
        for source in sources:
            if source.path.exists() and not (source.path.is_file() or source.path.is_dir()):
                # reading it would wait for a writer for ever
                raise UsageError(f"{source.path}: not a file but a pipe, socket or device; leave it out")
            # not resolve(): a slide behind a link keeps the link's name
            path = Path(os.path.abspath(source.path))  # noqa: PTH100
            known = found.get(path)
            if known is None or (source.mpp, source.mask) != (None, None):
                found[path] = SlideSource(path, source.mpp, source.mask)
    ordered = [found[path] for path in sorted(found)]
    return _with_masks(ordered, masks) if masks else ordered


def _walk(folder: Path) -> list[Path]:
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in EXTENSIONS and p.is_file()]
    shown = [p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    return one_per_series(shown)


def _read_csv(path: Path) -> list[SlideSource]:
    table = tables.read(path, ("slide",), any_case=True)
    sources = []
    for line, row in zip(table.lines, table.rows(), strict=True):
        slide, mpp, mask = row["slide"], row.get("mpp"), row.get("mask")
        if not slide:
            raise UsageError(f"{path}, line {line}: the column 'slide' is empty")
        try:
            value = (
                float(mpp.replace(",", ".")) if mpp else None
            )  # 0,25, as Excel writes it in half of Europe
        except ValueError:
            raise UsageError(f"{path}, line {line}: mpp {mpp!r} is not a number") from None
        # joining with an absolute path gives that path
        sources.append(SlideSource(path.parent / slide, value, path.parent / mask if mask else None))
    return sources


def _with_masks(sources: list[SlideSource], masks: Path) -> list[SlideSource]:
    if masks.is_file():
        if len(sources) != 1:
            raise UsageError(
                f"{masks}: one mask for {len(sources)} slides; give a folder of masks named after the slides"
            )
        return [SlideSource(sources[0].path, sources[0].mpp, masks.absolute())]
    if not masks.is_dir():
        raise UsageError(f"{masks}: no such file or folder")
    result, missing = [], []
    for source in sources:
        candidates = [masks / f"{source.path.stem}{suffix}" for suffix in (".geojson", ".json", ".png")]
        mask = source.mask or next((c.absolute() for c in candidates if c.exists()), None)
        if mask is None:
            missing.append(source.path.stem)
        result.append(SlideSource(source.path, source.mpp, mask))
    if missing:
        raise UsageError(
            f"{masks}: no mask (.geojson or .png) for {', '.join(missing[:5])} ({len(missing)} slides)"
        )
    return result


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
        owners = {made["path"]: name for name, made in known.items()}
        listed = {str(source.path) for source in group}
        moved = {name: made for name, made in known.items() if made["path"] not in listed}
        for source in group:
            name = owners.get(str(source.path)) or next((n for n in moved if _same(source, moved[n])), None)
            if name is None:
                digest = hashlib.sha256(str(source.path).encode()).hexdigest()[:8]
                name = stem if len(group) == 1 and stem not in known else f"{stem}-{digest}"
            moved.pop(name, None)
            for ending, at in zip(endings, several or (None,), strict=True):
                named.append(replace(source, name=name + ending, slide=name, at=at))
    return sorted(named, key=lambda source: source.name)


def _standing(root: Path, stems: Container[str], endings: list[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """By stem: names that the dataset holds, and what each was made from."""
    known: list[tuple[str, str, Path, Callable[[Path], dict[str, Any] | None]]] = []
    for folder, read in (("failed", read_json), ("slides", read_sealed)):
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
    found: dict[str, dict[str, dict[str, Any]]] = {}
    with ThreadPoolExecutor(READERS) as pool:  # small files wait more than they work
        markers = pool.map(lambda item: item[3](item[2]), known)
        for (stem, name, _, _), marker in zip(known, markers, strict=True):
            if marker is not None:
                made = marker["source"] | {"ends": marker.get("inputs", {}).get("ends_sha256")}
                found.setdefault(stem, {})[name] = made
    return found


def _same(source: SlideSource, made: dict[str, Any]) -> bool:
    """Whether a slide has the name, the size and, as far as known, the ends of another."""
    return source.made(made) and made["ends"] in (None, _ends(source.path))
