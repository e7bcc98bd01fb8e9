"""Which files of a folder are DICOM slides: one for each series, whatever its files are called."""

from collections.abc import Callable, Iterable
from pathlib import Path

from pathprep.slides import dicom
from pathprep.slides.dicom import Series
from pathprep.slides.endings import EXTENSIONS
from pathprep.slides.walk import Left


def may_be_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its ending or, where that is no slide's, by its content."""
    return path.suffix.lower() == ".dcm" or (path.suffix.lower() not in EXTENSIONS and dicom.has_magic(path))


def slides_of(
    paths: Iterable[Path], leave: Callable[[Left], None], repeat: Callable[[Path, Path], None]
) -> list[tuple[Path, Series | None]]:
    """The slides that DICOM files make: the file of the largest level of each, and its series.

    Files that cannot be read stand for themselves, so that they fail and the run says so.

    Args:
        paths: of the files; each header is read once.
        leave: is told of every file that is no slide's first. repeat: of those that are copies of others.
    """
    slides: list[tuple[Path, Series | None]] = []
    by_series: dict[str, list[dicom.DicomFile]] = {}
    for path in paths:
        header = dicom.read_header(path)
        if header is None:
            slides.append((path, None))
        elif not header.is_slide:
            leave(Left(path, "DICOM", "of another kind than slides: annotations, other images"))
        else:
            by_series.setdefault(header.series, []).append(header)
    for files in by_series.values():
        main = dicom.largest(files)
        here = [file for file in files if file.path.parent == main.path.parent]
        series = dicom.series(here)
        if series is None:
            for file in files:
                leave(Left(file.path, "DICOM", "label or overview of a slide that is not there", True))
            continue
        slides.append((main.path, series))
        instances = {file.instance: file.path for file in here}
        for file in files:
            if file.path == main.path:
                continue
            if file.path.parent == main.path.parent:
                leave(Left(file.path, "DICOM", "further files of slides that are taken"))
            elif file.instance in instances:
                repeat(file.path, instances[file.instance])
            elif file.kind != "VOLUME":
                leave(
                    Left(file.path, "DICOM", "label or overview of a slide that is taken, in another folder")
                )
            else:
                why = "of a slide whose largest level lies in another folder; put its files into one folder"
                leave(Left(file.path, "DICOM", why, True))
    return slides
