"""Slides at a URL: which files there belong together, before one of them is fetched.

A slide is one file, with these exceptions: an MRXS slide has its folder, an OME-Zarr image is a folder, and
the DICOM files of a folder are fetched together, since only their headers tell which of them are one slide.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pathprep.errors import UsageError
from pathprep.slides.endings import EXTENSIONS, ZARR
from pathprep.slides.own_names import own_name
from pathprep.slides.walk import Left, NotTaken, unseen
from pathprep.storage.base import FileInfo
from pathprep.storage.url import UrlStorage

HERE = "."


@dataclass(frozen=True)
class RemoteSlide:
    """The files of a slide, or of the DICOM slides of a folder.

    Attributes:
        store: where they are. main: what it is called after: a file or, of DICOM and OME-Zarr, a folder;
            HERE: that of the store.
        files: names, sizes and times, sorted.
    """

    store: UrlStorage
    main: str
    files: tuple[FileInfo, ...]

    @property
    def own_name(self) -> str:
        """What the slide is called; of DICOM, its folder: the series is not known yet."""
        return own_name(PurePosixPath(self.main if self.main != HERE else self.store.root.name))

    @property
    def path(self) -> str:
        """Its URL, without a password."""
        return str(self.store.root if self.main == HERE else self.store.root / self.main)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def state(self) -> str:
        """A hash of its files' names, sizes and times: another one where the slide was replaced."""
        return hashlib.sha256(repr([tuple(file) for file in self.files]).encode()).hexdigest()


def look(url: str) -> tuple[list[RemoteSlide], NotTaken]:
    """The slides at a URL, a file or a folder with all below it, sorted; and the files that are none.

    Raises:
        UsageError: fsspec does not know the URL, its library is missing, or no slide is there.
        DatasetError, StoreError: it cannot be listed.
    """
    store = UrlStorage.of(url)
    files = store.tree()
    folder, _, last = url.rstrip("/").rpartition("/")
    if files and _is_zarr(last):  # an image itself
        store = UrlStorage.of(folder)
        files = [file._replace(name=f"{last}/{file.name}") for file in files]
    elif not files and PurePosixPath(last).suffix.lower() in EXTENSIONS:  # the URL of one file
        store = UrlStorage.of(folder)
        files = [file for file in store.tree() if _belongs(file.name, last)]
    slides, left = _together(store, files)
    if not slides:
        kinds = " ".join(sorted(EXTENSIONS))
        raise UsageError(
            f"{store.root}: no slides there (looked for {kinds}){f'; {left}' if left.files else ''}"
        )
    return slides, left


def _hidden(path: PurePosixPath) -> bool:
    """Whether a part of a name begins with a dot; metadata of Zarr may."""
    return any(part.startswith(".") for part in path.parts) and not any(map(_is_zarr, path.parts))


def _is_zarr(part: str) -> bool:
    return PurePosixPath(part).suffix.lower() == ZARR


def _belongs(name: str, slide: str) -> bool:
    own = PurePosixPath(slide)
    if own.suffix.lower() == ".dcm":  # the other levels lie beside it
        return "/" not in name and PurePosixPath(name).suffix.lower() == ".dcm"
    folder = own.stem if own.suffix.lower() == ".mrxs" else slide
    return name == slide or name.startswith(f"{folder}/")


def _together(store: UrlStorage, files: Iterable[FileInfo]) -> tuple[list[RemoteSlide], NotTaken]:
    found: dict[str, list[FileInfo]] = {}
    rest: list[FileInfo] = []
    left = NotTaken()
    for file in files:
        path = PurePosixPath(file.name)
        zarr = next((number for number, part in enumerate(path.parts, 1) if _is_zarr(part)), None)
        ending = path.suffix.lower()
        if ".." in path.parts:  # an object may be called anything; here it would leave the scratch folder
            left.add(Left(Path(path), "object", "its name leads out of its folder", notable=True))
        elif _hidden(path):
            left.add(Left(Path(path), "hidden", "a name in its path begins with a dot"))
        elif zarr is not None:
            found.setdefault("/".join(path.parts[:zarr]), []).append(file)
        elif ending == ".dcm":
            found.setdefault(str(path.parent), []).append(file)
        elif ending in EXTENSIONS:
            found.setdefault(file.name, []).append(file)
        else:
            rest.append(file)
    folders = {name[: -len(".mrxs")]: name for name in found if name.lower().endswith(".mrxs")}
    for file in rest:
        folder = file.name.rpartition("/")[0]
        if folder in folders:
            found[folders[folder]].append(file)
        else:
            left.add(unseen(Path(file.name)))
    return [RemoteSlide(store, main, tuple(sorted(found[main]))) for main in sorted(found)], left
