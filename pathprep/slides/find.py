"""Which slides a run is about: files, folders and CSV lists."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.slides.find_masks import masks_for
from pathprep.slides.readers import EXTENSIONS, one_per_series
from pathprep.storage import tables


@dataclass(frozen=True)
class SlideSource:
    """One slide file and what the user says about it.

    Attributes:
        path: absolute. mpp: overrides the file's. mask: GeoJSON or picture instead of tissue detection.
        name: in the dataset. slide: the same without the resolution, where there are several.
        at: the resolution that it is to be sharded at; None: the run's only one.
        default_mpp: the run's, for a slide that states none.
        mask_origin: what the user says that the mask counts from.
    """

    path: Path
    mpp: float | None = None
    mask: Path | None = None
    name: str = ""
    slide: str = ""
    at: float | None = None
    default_mpp: float | None = None
    mask_origin: AskedOrigin = "auto"

    def inputs(self) -> dict[str, Any]:
        """What the slide's tiles depend on besides the run's parameters; a change rebuilds the slide."""
        mask = hashlib.sha256(self.mask.read_bytes()).hexdigest() if self.mask else None
        return {
            "size": file_size(self.path),
            "ends_sha256": hash_of_ends(self.path),
            "mpp": self.mpp,
            "mask_sha256": mask,
            "default_mpp": self.default_mpp,
            **({"mask_origin": self.mask_origin} if self.mask else {}),
        }

    def made(self, path: str, size: int | None) -> bool:
        """Whether a file that was ``size`` bytes is this one, perhaps at another place."""
        old = Path(path)
        return old == self.path or (old.name, size) == (self.path.name, file_size(self.path))


def file_size(path: Path) -> int | None:
    """Bytes of a slide file; None if it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def hash_of_ends(path: Path) -> str | None:
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


def find(
    inputs: list[Path], masks: Path | None = None, mask_origin: AskedOrigin = "auto"
) -> list[SlideSource]:
    """All slides under the inputs, each once, sorted by path.

    Args:
        inputs: slide files, folders (searched whole), or CSV files with a column ``slide`` (paths,
            absolute or relative to the CSV) and, if wanted, ``mpp``, ``mask`` and ``mask_origin``.
        masks: a folder of masks named after the slides, or one mask file for one slide.
        mask_origin: of masks that do not say which they have; see slides.masks.

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
                found[path] = replace(source, path=path)
    return _with_masks([found[path] for path in sorted(found)], masks, mask_origin)


def _walk(folder: Path) -> list[Path]:
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in EXTENSIONS and p.is_file()]
    shown = [p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    return one_per_series(shown)


def _read_csv(path: Path) -> list[SlideSource]:
    table = tables.read(path, ("slide",), any_case=True)
    sources = []
    for line, row in zip(table.lines, table.rows(), strict=True):
        slide, mpp, mask = row["slide"], row.get("mpp"), row.get("mask")
        origin = row.get("mask_origin") or "auto"
        if not slide:
            raise UsageError(f"{path}, line {line}: the column 'slide' is empty")
        try:
            value = (
                float(mpp.replace(",", ".")) if mpp else None
            )  # 0,25, as Excel writes it in half of Europe
        except ValueError:
            raise UsageError(f"{path}, line {line}: mpp {mpp!r} is not a number") from None
        if origin not in get_args(AskedOrigin):
            raise UsageError(f"{path}, line {line}: mask_origin {origin!r}; give auto, slide or bounds")
        # joining with an absolute path gives that path
        taken = path.parent / mask if mask else None
        sources.append(SlideSource(path.parent / slide, value, taken, mask_origin=cast(AskedOrigin, origin)))
    return sources


def _with_masks(sources: list[SlideSource], masks: Path | None, origin: AskedOrigin) -> list[SlideSource]:
    if masks is not None:
        bare = [source.path for source in sources if source.mask is None or masks.is_file()]
        found = masks_for(bare, masks)
        sources = [replace(source, mask=found.get(source.path, source.mask)) for source in sources]
    if origin == "auto":
        return sources
    if not any(source.mask for source in sources):
        raise UsageError(f"`mask_origin` {origin}: no slide has a mask; leave it out")
    return [
        replace(source, mask_origin=origin) if source.mask and source.mask_origin == "auto" else source
        for source in sources
    ]
