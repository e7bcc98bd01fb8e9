"""Which slides a run is about: files, folders and CSV lists."""

import hashlib
import os
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple, cast, get_args

from pathprep.errors import MaskError, UsageError, explain_os_error
from pathprep.params.origin import AskedOrigin
from pathprep.params.settings import is_positive
from pathprep.slides import dicom
from pathprep.slides.alias import Alias, Aliased
from pathprep.slides.dicom import Series
from pathprep.slides.endings import EXTENSIONS
from pathprep.slides.find_dicom import may_be_dicom, slides_of
from pathprep.slides.find_masks import masks_for
from pathprep.slides.identity import file_size, measures, measures_of_folder, parts
from pathprep.slides.own_names import own_name
from pathprep.slides.readers.ome_zarr import image_in
from pathprep.slides.walk import Left, NotTaken, walk
from pathprep.storage import cells, regular, tables
from pathprep.words import counted


@dataclass(frozen=True)
class SlideSource(Aliased):
    """One slide file and what the user says about it.

    Attributes:
        path: absolute; of a DICOM slide, the file of its largest level.
        mpp: overrides the file's. mask: GeoJSON or picture instead of tissue detection.
        name: in the dataset. slide: the same without the resolution, where there are several.
        at: the resolution that it is to be sharded at; None: the run's only one.
        default_mpp: the run's, for a slide that states none.
        mask_origin: what the user says that the mask counts from.
        series: of a DICOM slide; None of others.
        alias: what the dataset says of it instead of its names and paths; None: these.
    """

    path: Path
    mpp: float | None = None
    mask: Path | None = None
    name: str = ""
    slide: str = ""
    at: float | None = None
    default_mpp: float | None = None
    mask_origin: AskedOrigin = "auto"
    series: Series | None = None
    alias: Alias | None = None

    @property
    def called(self) -> str:
        """What the slide is called, whatever a dataset makes of it: see slides.own_names."""
        return own_name(self.path) if self.series is None else self.series.uid

    @property
    def own_name(self) -> str:
        """The same as a dataset may know it."""
        return self.called if self.alias is None else self.alias.own_name

    @property
    def recorded_mask(self) -> str | None:
        """The same of the mask; None without one."""
        if self.alias is not None:
            return self.alias.mask
        return str(self.mask) if self.mask else None

    def said(self, text: str) -> str:
        """A message as a dataset records it."""
        return text if self.alias is None else self.alias.said(text)

    def measures(self) -> tuple[int | None, str | None]:
        """Bytes of the slide's files, and a hash of their ends; None if they are not there.

        Label and overview of a DICOM slide do not count, and of an MRXS slide its folder does.
        """
        if self.series is None and self.path.is_dir():
            return measures_of_folder(self.path)
        return measures(list(self.series.files) if self.series else parts(self.path))

    def inputs(self) -> dict[str, Any]:
        """What the slide's tiles depend on besides the run's parameters; a change rebuilds the slide."""
        mask = _hash(self.mask) if self.mask else None
        size, ends = self.measures()
        return {
            "size": size,
            "ends_sha256": ends,
            "mpp": self.mpp,
            "mask_sha256": mask,
            "default_mpp": self.default_mpp,
            **({"mask_origin": self.mask_origin} if self.mask else {}),
        }

    def made(self, path: str, size: int | None) -> bool:
        """Whether a file that was ``size`` bytes is this one, perhaps at another place."""
        old, own = PurePath(path), PurePath(self.recorded)
        return old == own or (old.name, size) == (own.name, file_size(self.path))


def _hash(mask: Path) -> str:
    try:
        if not mask.is_file():  # reading a pipe would wait for ever
            raise MaskError(f"{mask}: no such mask")
        return hashlib.sha256(regular.read(mask)).hexdigest()
    except OSError as error:
        raise MaskError(explain_os_error(error, reading=True)) from None


NAMED = 3  # slides, in a message


class Repeat(NamedTuple):
    """A file that holds a slide which is taken already.

    ``path``: of the file that is left out. ``of``: of the one that is taken.
    """

    path: Path
    of: Path


@dataclass
class Found:
    """What the inputs hold.

    Attributes:
        slides: sorted by path. left: files that are not taken. repeats: files of slides that are taken.
    """

    slides: list[SlideSource] = field(default_factory=list)
    left: NotTaken = field(default_factory=NotTaken)
    repeats: list[Repeat] = field(default_factory=list)


class _Asked(NamedTuple):
    """A slide that was asked for, and where: a line of a CSV, or nowhere in particular."""

    source: SlideSource
    where: str = ""


def find(
    inputs: list[Path], masks: Path | None = None, mask_origin: AskedOrigin = "auto"
) -> list[SlideSource]:
    """The slides of ``look``."""
    return look(inputs, masks, mask_origin).slides


def look(inputs: list[Path], masks: Path | None = None, mask_origin: AskedOrigin = "auto") -> Found:
    """All slides under the inputs, each path once, sorted by path, and what is not taken.

    Args:
        inputs: slide files, folders (searched whole, linked folders too), or CSV files with a column
            ``slide`` (paths, absolute or relative to the CSV) and, if wanted, ``mpp``, ``mask`` and
            ``mask_origin``.
        masks: a folder of masks named after the slides, or one mask file for one slide.
        mask_origin: of masks that do not say which they have; see slides.masks.

    Raises:
        UsageError: an input is absent, no file or holds no slide, a CSV is malformed, it names a slide twice
            with different MPPs or masks, or one mask fits two slides.
    """
    result, asked, headers = Found(), dict[Path, _Asked](), dict[Path, list[dicom.DicomFile]]()
    for item in inputs:
        if item.is_dir() and image_in(item) is None:
            sources = [_Asked(source) for source in _of_folder(item, result)]
        elif item.suffix.lower() == ".csv":
            sources = _read_csv(item)
        elif item.exists():
            sources = [_Asked(SlideSource(item))]
        else:
            raise UsageError(f"{item}: no such file or folder")
        for each in sources:
            given = each.source
            if _is_special(given.path):
                # reading it would wait for a writer for ever
                raise UsageError(f"{given.path}: not a file but a pipe, socket or device; leave it out")
            # not resolve(): a slide behind a link keeps the link's name
            path = Path(os.path.abspath(given.path))  # noqa: PTH100
            source = whole(replace(given, path=path), headers)
            known = asked.get(source.path)
            asked[source.path] = each._replace(source=source) if known is None else _merged(known, each)
    result.slides = _with_masks([asked[path].source for path in sorted(asked)], masks, mask_origin)
    return result


def _is_special(path: Path) -> bool:
    """Whether there is something that is neither file nor folder; of what cannot be seen, its slide tells."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _merged(known: _Asked, new: _Asked) -> _Asked:
    """One slide, asked for twice: what is said of it must agree."""
    for name in ("mpp", "mask", "mask_origin"):
        there, now = getattr(known.source, name), getattr(new.source, name)
        if not {None, "auto"} & {there, now} and there != now:
            raise UsageError(
                f"{known.source.path}: named twice, with {name} {there} ({known.where}) and {name} {now} "
                f"({new.where}); keep one"
            )
    mpp = new.source.mpp if known.source.mpp is None else known.source.mpp
    origin = new.source.mask_origin if known.source.mask_origin == "auto" else known.source.mask_origin
    merged = replace(known.source, mpp=mpp, mask=known.source.mask or new.source.mask, mask_origin=origin)
    return _Asked(merged, known.where if known.source.mpp is not None or not new.where else new.where)


def _of_folder(folder: Path, result: Found) -> list[SlideSource]:
    mine = NotTaken()

    def leave(left: Left) -> None:
        mine.add(left)
        result.left.add(left)

    def repeated(path: Path, of: Path) -> None:
        result.repeats.append(Repeat(path, of))

    paths = walk(folder, leave)
    mixed = {path: may_be_dicom(path) for path in paths}
    sources = [SlideSource(path) for path, mine in mixed.items() if not mine]
    found = slides_of([path for path, mine in mixed.items() if mine], leave, repeated)
    sources += [SlideSource(path, series=series) for path, series in found]
    if not sources:
        kinds = " ".join(sorted(EXTENSIONS))
        raise UsageError(
            f"{folder}: no slides in this folder (looked for {kinds}){f'; {mine}' if mine.files else ''}"
        )
    return sources


def one(path: Path) -> SlideSource:
    """The one slide that a path stands for: a file, a folder of OME-Zarr, or one with one slide (DICOM).

    Raises:
        UsageError: there is none, or a folder holds several.
    """
    found = find([path]) if path.is_dir() else [whole(SlideSource(path))]
    if len(found) > 1:
        names = ", ".join(source.path.name for source in found[:NAMED])
        more = ", ..." if len(found) > NAMED else ""
        raise UsageError(f"{path}: holds {counted(len(found))} ({names}{more}); give one of them")
    return found[0]


def whole(source: SlideSource, headers: dict[Path, list[dicom.DicomFile]] | None = None) -> SlideSource:
    """The slide that a file stands for: of DICOM, that which it belongs to.

    Args:
        source: named by its file. headers: of folders that were read already; more are added.
    """
    headers = {} if headers is None else headers
    if source.series is not None or not os.path.isfile(source.path) or not may_be_dicom(source.path):  # noqa: PTH113
        return source  # os.path: what cannot be looked at fails as a slide, not here
    own, folder = dicom.read_header(source.path), source.path.parent
    if own is None or not own.is_slide:
        return source
    if folder not in headers:
        headers[folder] = dicom.in_folder(folder)
    beside = [each for each in headers[folder] if each.series == own.series]
    series = dicom.series(beside)
    return source if series is None else replace(source, path=dicom.largest(beside).path, series=series)


def _read_csv(path: Path) -> list[_Asked]:
    table = tables.read(path, ("slide",), any_case=True)
    sources = []
    for line, row in zip(table.lines, table.rows(), strict=True):
        slide = row["slide"]
        # NA, as R and pandas write what is not known
        mpp, mask, origin = (cells.known(row.get(name, "")) for name in ("mpp", "mask", "mask_origin"))
        origin = origin or "auto"
        if not slide:
            raise UsageError(f"{path}, line {line}: the column 'slide' is empty")
        try:
            value = (
                float(mpp.replace(",", ".")) if mpp else None
            )  # 0,25, as Excel writes it in half of Europe
        except ValueError:
            raise UsageError(f"{path}, line {line}: mpp {mpp!r} is not a number") from None
        if value is not None and not is_positive(value):
            raise UsageError(f"{path}, line {line}: mpp {mpp!r}; give micrometres per pixel, above 0")
        if origin not in get_args(AskedOrigin):
            raise UsageError(f"{path}, line {line}: mask_origin {origin!r}; give auto, slide or bounds")
        # joining with an absolute path gives that path
        taken = path.parent / mask if mask else None
        source = SlideSource(path.parent / slide, value, taken, mask_origin=cast(AskedOrigin, origin))
        sources.append(_Asked(source, f"{path}, line {line}"))
    return sources


def _with_masks(sources: list[SlideSource], masks: Path | None, origin: AskedOrigin) -> list[SlideSource]:
    if masks is not None:
        bare = {each.path: each.own_name for each in sources if each.mask is None or masks.is_file()}
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
