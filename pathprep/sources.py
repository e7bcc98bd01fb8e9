"""Which slides a run is about: files, folders and CSV lists, and the name that each gets in the dataset."""

import csv
import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pathprep.errors import UsageError
from pathprep.readers import EXTENSIONS, one_per_series
from pathprep.shards import read_marker, slide_name


@dataclass(frozen=True)
class Source:
    """One slide file and what the user says about it.

    Attributes:
        path: absolute. mpp: overrides the file's. mask: GeoJSON or PNG instead of tissue detection.
        name: in the dataset. slide: the same without the resolution, where there are several.
        at: the resolution that it is to be sharded at; None: the run's only one.
    """

    path: Path
    mpp: float | None = None
    mask: Path | None = None
    name: str = ""
    slide: str = ""
    at: float | None = None

    def inputs(self) -> dict[str, Any]:
        """What the slide's tiles depend on besides the run's parameters; a change rebuilds the slide."""
        mask = hashlib.sha256(self.mask.read_bytes()).hexdigest() if self.mask else None
        return {
            "size": file_size(self.path),
            "ends_sha256": _ends(self.path),
            "mpp": self.mpp,
            "mask_sha256": mask,
        }


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


def find(inputs: list[Path], masks: Path | None = None) -> list[Source]:
    """All slides under the inputs, each once, sorted by path.

    Args:
        inputs: slide files, folders (searched whole), or CSV files with a column ``slide`` (paths,
            absolute or relative to the CSV) and, if wanted, ``mpp`` and ``mask``.
        masks: a folder with <slide's stem>.geojson or .png, or one mask file for one slide.

    Raises:
        UsageError: an input is absent, no file or holds no slide, or a CSV is malformed.
    """
    found: dict[Path, Source] = {}
    for item in inputs:
        if item.is_dir() and item.suffix.lower() != ".mrxs":
            sources = [Source(path) for path in _walk(item)]
            if not sources:
                kinds = " ".join(sorted(EXTENSIONS))
                raise UsageError(f"{item}: no slides in this folder (looked for {kinds})")
        elif item.suffix.lower() == ".csv":
            sources = _read_csv(item)
        elif item.exists():
            sources = [Source(item)]
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
                found[path] = Source(path, source.mpp, source.mask)
    ordered = [found[path] for path in sorted(found)]
    return _with_masks(ordered, masks) if masks else ordered


def _walk(folder: Path) -> list[Path]:
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in EXTENSIONS and p.is_file()]
    shown = [p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    return one_per_series(shown)


def _read_csv(path: Path) -> list[Source]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as CSV ({error})") from None
    if not rows or "slide" not in rows[0]:
        raise UsageError(
            f"{path}: needs a header with a column 'slide' (and, if wanted, 'mpp' and 'mask') and rows"
        )
    sources = []
    for number, row in enumerate(rows, start=2):
        slide = (row["slide"] or "").strip()
        if not slide:
            raise UsageError(f"{path}, line {number}: the column 'slide' is empty")
        mpp, mask = (row.get("mpp") or "").strip(), (row.get("mask") or "").strip()
        try:
            value = float(mpp) if mpp else None
        except ValueError:
            raise UsageError(f"{path}, line {number}: mpp {mpp!r} is not a number") from None
        # joining with an absolute path gives that path
        sources.append(Source(path.parent / slide, value, path.parent / mask if mask else None))
    return sources


def _with_masks(sources: list[Source], masks: Path) -> list[Source]:
    if masks.is_file():
        if len(sources) != 1:
            raise UsageError(
                f"{masks}: one mask for {len(sources)} slides; give a folder of masks named after the slides"
            )
        return [Source(sources[0].path, sources[0].mpp, masks.absolute())]
    if not masks.is_dir():
        raise UsageError(f"{masks}: no such file or folder")
    result, missing = [], []
    for source in sources:
        candidates = [masks / f"{source.path.stem}{suffix}" for suffix in (".geojson", ".json", ".png")]
        mask = source.mask or next((c.absolute() for c in candidates if c.exists()), None)
        if mask is None:
            missing.append(source.path.stem)
        result.append(Source(source.path, source.mpp, mask))
    if missing:
        raise UsageError(
            f"{masks}: no mask (.geojson or .png) for {', '.join(missing[:5])} ({len(missing)} slides)"
        )
    return result


def with_names(sources: list[Source], root: Path, mpps: tuple[float, ...] = ()) -> list[Source]:
    """Give every slide its name: the stem, or the stem and a short hash of the path where two would collide.

    A name that the dataset already holds belongs to the slide it was made from: the same path, or the
    same file name and size (an archive that was mounted elsewhere).

    Args:
        sources: the slides. root: the dataset folder.
        mpps: if there are several, each slide is returned once for each, as ``<name>_mpp0-5``.
    """
    several = mpps if len(mpps) > 1 else ()
    endings = [f"_mpp{mpp:g}".replace(".", "-") for mpp in several] or [""]
    groups: dict[str, list[Source]] = {}
    for source in sources:
        groups.setdefault(slide_name(source.path.stem), []).append(source)
    named = []
    for stem, group in groups.items():
        owner = _owner(root, [stem + ending for ending in endings])
        for source in group:
            if owner is None:
                free = len(group) == 1
            else:
                moved = (Path(owner["path"]).name, owner["size"]) == (
                    source.path.name,
                    file_size(source.path),
                )
                free = owner["path"] == str(source.path) or (len(group) == 1 and moved)
            digest = hashlib.sha256(str(source.path).encode()).hexdigest()[:8]
            name = stem if free else f"{stem}-{digest}"
            for ending, at in zip(endings, several or (None,), strict=True):
                named.append(replace(source, name=name + ending, slide=name, at=at))
    return sorted(named, key=lambda source: source.name)


def _owner(root: Path, names: list[str]) -> dict[str, Any] | None:
    for name in names:
        for folder in ("slides", "failed"):
            marker = read_marker(root / folder / f"{name}.json")
            if marker is not None:
                source: dict[str, Any] = marker["source"]
                return source
    return None
