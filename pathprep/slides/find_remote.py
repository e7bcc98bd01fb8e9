"""Slides at a URL: which files there belong together, before one of them is fetched.

A slide is one file, with these exceptions: an MRXS slide has its folder, an OME-Zarr image is a folder, and
the DICOM files of a folder are fetched together, since only their headers tell which of them are one slide.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from pathprep.errors import UsageError
from pathprep.slides.endings import EXTENSIONS, ZARR
from pathprep.slides.own_names import own_name
from pathprep.storage.base import FileInfo
from pathprep.storage.url import UrlStorage


@dataclass(frozen=True)
class RemoteSlide:
    """The files of a slide, or of the DICOM slides of a folder.

    Attributes:
        store: where they are. main: what it is called after: a file or, of DICOM and OME-Zarr, a folder.
        files: names, sizes and times, sorted.
    """

    store: UrlStorage
    main: str
    files: tuple[FileInfo, ...]

    @property
    def own_name(self) -> str:
        """What the slide is called; of DICOM, its folder: the series is not known yet."""
        return own_name(PurePosixPath(self.main))

    @property
    def path(self) -> str:
        """Its URL, without a password."""
        return str(self.store.root / self.main)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def state(self) -> str:
        """A hash of its files' names, sizes and times: another one where the slide was replaced."""
        return hashlib.sha256(repr([tuple(file) for file in self.files]).encode()).hexdigest()


def look(url: str) -> tuple[list[RemoteSlide], int]:
    """The slides at a URL, a file or a folder with all below it, sorted; and how many files are none.

    Raises:
        UsageError: fsspec does not know the URL, its library is missing, or no slide is there.
        DatasetError, StoreError: it cannot be listed.
    """
    store = UrlStorage.of(url)
    files = [file for file in store.tree() if not _hidden(file.name)]
    if not files:  # the URL of one file
        folder, _, last = url.rstrip("/").rpartition("/")
        if PurePosixPath(last).suffix.lower() in EXTENSIONS:
            store = UrlStorage.of(folder)
            files = [file for file in store.tree() if _belongs(file.name, last)]
    slides = _together(store, files)
    if not slides:
        kinds = " ".join(sorted(EXTENSIONS))
        raise UsageError(f"{store.root}: no slides there (looked for {kinds}); {len(files):,} other files")
    return slides, len(files) - sum(len(slide.files) for slide in slides)


def _hidden(name: str) -> bool:
    """Whether a part of a name begins with a dot; metadata of Zarr may."""
    folders = PurePosixPath(name).parts
    return any(part.startswith(".") for part in folders) and not any(map(_is_zarr, folders))


def _is_zarr(part: str) -> bool:
    return PurePosixPath(part).suffix.lower() == ZARR


def _belongs(name: str, slide: str) -> bool:
    own = PurePosixPath(slide)
    folder = own.stem if own.suffix.lower() == ".mrxs" else slide
    return name == slide or name.startswith(f"{folder}/")


def _together(store: UrlStorage, files: Iterable[FileInfo]) -> list[RemoteSlide]:
    found: dict[str, list[FileInfo]] = {}
    rest: list[FileInfo] = []
    for file in files:
        path = PurePosixPath(file.name)
        zarr = next((number for number, part in enumerate(path.parts, 1) if _is_zarr(part)), None)
        ending = path.suffix.lower()
        if ".." in path.parts:  # an object may be called anything; here it would leave the scratch folder
            continue
        if zarr is not None:
            found.setdefault("/".join(path.parts[:zarr]), []).append(file)
        elif ending == ".dcm":
            found.setdefault(str(path.parent) if len(path.parts) > 1 else file.name, []).append(file)
        elif ending in EXTENSIONS:
            found.setdefault(file.name, []).append(file)
        else:
            rest.append(file)
    folders = {name[: -len(".mrxs")]: name for name in found if name.lower().endswith(".mrxs")}
    for file in rest:
        folder = file.name.rpartition("/")[0]
        if folder in folders:
            found[folders[folder]].append(file)
    return [RemoteSlide(store, main, tuple(sorted(found[main]))) for main in sorted(found)]
