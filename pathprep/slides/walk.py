"""What lies below a folder: slides, and every other file with the reason why it is none.

Linked folders are followed; one that leads to a folder that is searched already is not. Files without an
ending are looked into, since slides may have lost theirs, and DICOM from an archive never had one.
"""

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from openslide import OpenSlide

from pathprep.slides import dicom
from pathprep.slides.endings import EXTENSIONS, ZARR
from pathprep.slides.readers.ome_zarr import image_in
from pathprep.words import counted

PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".jp2", ".j2k", ".jpx", ".heic"})
# Slides of formats that OpenSlide does not read
FOREIGN = frozenset(
    {
        ".isyntax",
        ".i2syntax",
        ".vsi",
        ".ets",
        ".lif",
        ".lof",
        ".nd2",
        ".zvi",
        ".oir",
        ".kfb",
        ".kfbf",
        ".sdpc",
    }
    | {".tmap", ".mds", ".mdsx", ".afi", ".dzi", ".szi", ".mcd", ".ims", ".lsm", ".stk"}
)
ARCHIVES = frozenset({".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"})
PARTIAL = frozenset({".part", ".partial", ".crdownload", ".filepart", ".tmp", ".download"})
# What lies beside slides and needs no word
COMPANIONS = frozenset(
    {".xml", ".json", ".geojson", ".csv", ".tsv", ".txt", ".ini", ".dat", ".db", ".log", ".md", ".md5"}
    | {
        ".sha1",
        ".sha256",
        ".pdf",
        ".html",
        ".xlsx",
        ".xls",
        ".ods",
        ".docx",
        ".opt",
        ".sqlite",
        ".yaml",
        ".yml",
    }
    | {".ndpa", ".ndpis", ".ndpr", ".qpdata", ".qpproj", ".qptree", ".py", ".sh", ".ipynb", ".parquet", ".h5"}
    | {".pt", ".pkl", ".npy", ".lnk", ".url", ".idx"}
)
NAMED = 6  # kinds of files in one line
NO_ENDING = "without an ending"


class Left(NamedTuple):
    """A file that is not taken.

    Attributes:
        path: of it. kind: its ending, or what it is otherwise. reason: why it is not taken.
        notable: it may be a slide that somebody expects to be taken.
    """

    path: Path
    kind: str
    reason: str
    notable: bool = False


@dataclass
class NotTaken:
    """Files below the given folders that are not taken, counted by what they are.

    ``files``: (kind, reason, notable) -> how many, and the first.
    """

    files: dict[tuple[str, str, bool], tuple[int, Path]] = field(default_factory=dict)

    def add(self, left: Left) -> None:
        """Count one more."""
        key = (left.kind, left.reason, left.notable)
        count, first = self.files.get(key, (0, left.path))
        self.files[key] = count + 1, first

    def merge(self, other: "NotTaken") -> None:
        """Count another's files, too."""
        for key, (count, first) in other.files.items():
            mine, before = self.files.get(key, (0, first))
            self.files[key] = mine + count, before

    @property
    def count(self) -> int:
        """All of them."""
        return sum(count for count, _ in self.files.values())

    @property
    def notable(self) -> bool:
        """Whether a slide may be among them."""
        return any(notable for _, _, notable in self.files)

    def __str__(self) -> str:
        if not self.files:
            return ""
        ordered = sorted(self.files.items(), key=lambda item: (not item[0][2], -item[1][0], item[0]))
        parts = [
            f"{count} {kind} ({reason}{f', such as {first.name!r}' if notable else ''})"
            for (kind, reason, notable), (count, first) in ordered[:NAMED]
        ]
        rest = sum(count for _, (count, _) in ordered[NAMED:])
        parts += [f"{rest} others"] if rest else []
        return f"{counted(self.count, 'file')} not taken: {', '.join(parts)}"

    def as_dict(self) -> list[dict[str, object]]:
        """As `--json` prints it."""
        return [
            {"kind": kind, "reason": reason, "files": count, "first": os.fspath(first), "notable": notable}
            for (kind, reason, notable), (count, first) in sorted(self.files.items())
        ]


def walk(folder: Path, left: Callable[[Left], None]) -> list[Path]:
    """The slide files below a folder, sorted; ``left`` is told of every other file."""
    slides: list[Path] = []
    for path in _files(folder, left):
        reason = _why_not(path)
        if reason is None:
            slides.append(path)
        else:
            left(reason)
    return sorted(slides)


def _files(folder: Path, left: Callable[[Left], None]) -> Iterator[Path]:
    """Every file that is not hidden; folders before links to folders, so that a file has its plain path."""
    seen: set[tuple[int, int]] = set()
    waiting, links = [folder], list[Path]()
    while waiting or links:
        place = waiting.pop() if waiting else links.pop(0)
        try:
            state = place.stat()
            if (state.st_dev, state.st_ino) in seen:
                if place.is_symlink():
                    left(Left(place, "linked folder", "leads to a folder that is searched already"))
                continue
            seen.add((state.st_dev, state.st_ino))
            with os.scandir(place) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            left(Left(place, "folder", f"cannot be read: {error.strerror}", notable=True))
            continue
        names = {entry.name for entry in entries}
        if names & {"dataset.json", "mixed.json"} and "shards" in names:
            left(Left(place, "dataset folder", "holds tiles"))
            continue
        # what belongs to an MRXS slide is in a folder of its name
        mrxs = {Path(name).stem for name in names if name.lower().endswith(".mrxs")}
        for entry in entries:
            path = Path(entry.path)
            problem = _problem(entry)
            if entry.name.startswith("."):
                left(Left(path, "hidden", "its name begins with a dot"))
            elif problem and _ending(path) in EXTENSIONS:
                yield path  # it fails as a slide, is counted and tried again
            elif problem:
                left(Left(path, "file or folder", f"cannot be looked at: {problem}", notable=True))
            elif _leads_nowhere(entry):
                left(Left(path, "broken link", "leads to nothing", notable=_ending(path) in EXTENSIONS))
            elif entry.is_dir():
                if entry.name in mrxs:
                    _count(path, "part of an MRXS slide", left)
                elif path.suffix.lower() == ZARR:
                    if image_in(path) is not None:
                        yield path
                    else:
                        left(Left(path, ZARR, "folders of Zarr without an image"))
                elif entry.is_symlink():
                    links.append(path)
                else:
                    waiting.append(path)
            elif entry.is_file():
                yield path
            else:
                left(Left(path, "pipe, socket or device", "no file"))


def _problem(entry: os.DirEntry[str]) -> str:
    """Why it cannot be looked at, such as a dead network drive; "" if it can, or is a link to nothing."""
    try:
        if entry.is_symlink():
            entry.stat()
        else:
            entry.is_dir()  # which most file systems have told with the name
    except OSError as error:
        quiet = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
        return "" if quiet else error.strerror or str(error)
    return ""


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to what is not there, or to itself."""
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110, is_dir() raises on a loop


def _count(folder: Path, reason: str, left: Callable[[Left], None]) -> None:
    for place, _, files in os.walk(folder):
        for name in files:
            path = Path(place, name)
            left(Left(path, _ending(path) or NO_ENDING, reason))


def _ending(path: Path) -> str:
    """The ending, lower case; that of a UID, which is a number, is none."""
    ending = path.suffix.lower()
    return "" if ending[1:].isdecimal() else ending


def _why_not(path: Path) -> Left | None:
    """Why a file is no slide; None if it is one, or is to fail as one."""
    ending = _ending(path)
    if ending in EXTENSIONS:
        return None
    if (left := by_name(path)) is not None:
        return left
    if dicom.has_magic(path) or _is_slide(path):
        if not ending:
            return None
        return Left(path, ending, "slides by their content; give them the ending of their format", True)
    return Left(path, ending or NO_ENDING, "no slides")


def by_name(path: Path) -> Left | None:
    """Why a file is no slide, as far as its name tells; None if it has to be looked into."""
    ending = _ending(path)
    if ending in FOREIGN:
        return Left(path, ending, "slides of a format that is not read; convert them to TIFF or DICOM", True)
    if ending in PICTURES:
        return Left(
            path, ending, "pictures: labels, overviews, tiles; a slide among them is taken when it is named"
        )
    if ending in ARCHIVES:
        return Left(path, ending, "archives; unpack them if they hold slides", True)
    if ending in PARTIAL:
        return Left(path, ending, "files that were not copied to their end", True)
    if ending in COMPANIONS:
        return Left(path, ending, "no slides")
    if path.name == "DICOMDIR":
        return Left(path, "DICOMDIR", "a list of DICOM files")
    return None


def unseen(path: Path) -> Left:
    """Why a file in a store, which is not looked into, is not taken."""
    ending = _ending(path)
    return by_name(path) or Left(
        path, ending or NO_ENDING, "not looked into at a URL: slides there need an ending", not ending
    )


def _is_slide(path: Path) -> bool:
    try:
        return OpenSlide.detect_format(path) is not None
    except Exception:  # whatever a file of unknown content makes of it
        return False
