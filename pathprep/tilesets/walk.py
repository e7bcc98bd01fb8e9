"""The images of a folder, behind links too, and what else is there."""

import os
from collections import Counter
from pathlib import Path

from pathprep.errors import UsageError

IMAGES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
    *(".jp2", ".j2k", ".jpx", ".ppm"),
)
QUIET = (".csv", ".tsv", ".txt", ".md", ".json", ".yaml", ".yml", ".xml", ".html", ".pdf", ".ini", ".db")


def images(root: Path, skip: Path | None = None) -> tuple[list[str], list[str]]:
    """Images under a folder, and notes on the files that are none.

    Hidden files and folders are left out, and a link that leads back to a folder that it lies in.

    Args:
        root: the folder.
        skip: a file that is no image and known to be none.

    Returns:
        Paths relative to the folder, sorted; a line for each kind of thing that was left out.

    Raises:
        UsageError: there is no image.
    """
    found: list[str] = []
    others: Counter[str] = Counter()
    loops: list[str] = []
    broken: list[str] = []
    for folder, folders, files in os.walk(root, followlinks=True):
        inside = Path(folder).relative_to(root)
        above = {os.path.realpath(root / part) for part in (inside, *inside.parents)}
        back = [name for name in folders if os.path.realpath(Path(folder) / name) in above]
        loops += [(inside / name).as_posix() for name in back]
        folders[:] = [name for name in folders if not name.startswith(".") and name not in back]
        for name in files:
            if name.startswith("."):
                continue
            if not (Path(folder) / name).exists():
                broken.append((inside / name).as_posix())
            elif name.lower().endswith(IMAGES):
                found.append((inside / name).as_posix())
            elif not name.lower().endswith(QUIET) and Path(folder) / name != skip:
                others[Path(name).suffix.lower() or "without an ending"] += 1
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in others.most_common(6))
    if not found:
        there = f"; there are {kinds}" if kinds else ""
        raise UsageError(f"{root}: no images in this folder (looked for {' '.join(IMAGES)}{there})")
    notes = []
    if others:
        notes.append(f"{_count(others.total(), 'file', 'no image that is read')}: {kinds}")
    if loops:
        notes.append(f"{_count(len(loops), 'link', 'a way back to a folder above')}: {_some(loops)}")
    if broken:
        notes.append(f"{_count(len(broken), 'link', 'broken')}: {_some(broken)}")
    return sorted(found), notes


def _count(number: int, what: str, reason: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'} left out, {reason}"


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:2]) + (", ..." if len(names) > 2 else "")
