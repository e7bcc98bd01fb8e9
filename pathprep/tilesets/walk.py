"""The images of a folder, behind links too, each once, and what else is there."""

import os
import stat
from collections import Counter
from pathlib import Path

from pathprep.errors import UsageError
from pathprep.storage.regular import special
from pathprep.words import counted

IMAGES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
    *(".jp2", ".j2k", ".jpx", ".ppm"),
)
QUIET = (".csv", ".tsv", ".txt", ".md", ".json", ".yaml", ".yml", ".xml", ".html", ".pdf", ".ini", ".db")

TWIN = "another name of a file that is taken"
State = tuple[int, int]  # device and inode, which tell files apart under whatever names


class _Walk:
    """One walk through a set: its own folders first, then those behind links, each once.

    So a picture has the class of the folder that it lies in, and links cannot multiply it.
    """

    def __init__(self, root: Path, skip: Path | None) -> None:
        self.root, self.skip = root, skip
        self.found: list[tuple[bool, str, State]] = []  # behind a link or not, name, file
        self.others: Counter[str] = Counter()
        self.special: list[str] = []
        self.broken: list[str] = []
        self.back: list[str] = []
        self.again: list[str] = []
        self.unnamed: list[str] = []
        self.unread: list[str] = []
        self._links: list[str] = []
        self._seen: dict[State, str] = {}

    def run(self) -> None:
        """Walk."""
        self._tree("")
        while self._links:
            waiting, self._links = sorted(self._links), []
            for name in waiting:
                self._tree(name)

    def _tree(self, top: str) -> None:
        todo = [top]
        while todo:
            folder = todo.pop()
            if self._is_new(folder):
                todo += self._folder(folder)

    def _is_new(self, folder: str) -> bool:
        try:
            state = (self.root / folder).stat()
        except OSError:
            self.unread.append(folder or ".")
            return False
        first = self._seen.setdefault((state.st_dev, state.st_ino), folder)
        if first == folder:
            return True
        above = f"{folder}/".startswith(f"{first}/") or first == ""
        (self.back if above else self.again).append(folder)
        return False

    def _folder(self, folder: str) -> list[str]:
        """Take the images of one folder; returns its own folders, and puts the linked ones off."""
        below = []
        try:
            entries = sorted(os.scandir(self.root / folder), key=lambda entry: entry.name)
        except OSError:
            self.unread.append(folder or ".")
            return []
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                continue
            try:
                state = entry.stat()
            except OSError:  # a link to nothing, or to itself
                self.broken.append(name)
                continue
            if stat.S_ISDIR(state.st_mode):
                if entry.is_symlink():
                    self._links.append(name)
                else:
                    below.append(name)
            elif special(state.st_mode):
                self.special.append(f"{name} ({special(state.st_mode)})")
            else:
                self._file(entry, name, (state.st_dev, state.st_ino))
        return below[::-1]

    def _file(self, entry: "os.DirEntry[str]", name: str, state: State) -> None:
        if not entry.name.lower().endswith(IMAGES):
            if not entry.name.lower().endswith(QUIET) and self.root / name != self.skip:
                self.others[Path(entry.name).suffix.lower() or "without an ending"] += 1
        elif not _is_text(name):
            self.unnamed.append(ascii(name))
        else:
            self.found.append((entry.is_symlink(), name, state))


def images(root: Path, skip: Path | None = None, *, once: bool = True) -> tuple[list[str], list[str]]:
    """Images under a folder, and notes on the files that are none.

    Links to folders are followed. A folder that several ways lead to is looked through once: where it lies,
    if it is one of the set's own, else behind the first link by name. Hidden files and folders are left out,
    pipes and devices, and names that are not UTF-8, as no table could hold them.

    Args:
        root: the folder.
        skip: a file that is no image and known to be none.
        once: a file that has several names (links of either kind) is taken once, by its own name rather than
            a link's; False: by each.

    Returns:
        Paths relative to the folder, sorted; a line for each kind of thing that was left out.

    Raises:
        UsageError: there is no image.
    """
    walk = _Walk(root, skip)
    walk.run()
    found, same = _each_once(walk.found) if once else ([name for _, name, _ in walk.found], [])
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in walk.others.most_common(6))
    if not found:
        there = f"; there are {kinds}" if kinds else ""
        raise UsageError(f"{root}: no images in this folder (looked for {' '.join(IMAGES)}{there})")
    notes = []
    if walk.others:
        notes.append(f"{_count(walk.others.total(), 'file', 'no image that is read')}: {kinds}")
    for names, what, reason in (
        (walk.back, "link", "a way back to a folder above"),
        (walk.again, "link", "another way to a folder that is taken"),
        (same, "file", TWIN),
        (walk.broken, "link", "broken"),
        (walk.special, "file", "no plain file"),
        (walk.unnamed, "file", "its name is not UTF-8; rename it"),
        (walk.unread, "folder", "it cannot be read"),
    ):
        if names:
            notes.append(left_out(names, what, reason))
    return sorted(found), notes


def left_out(names: list[str], what: str, reason: str) -> str:
    """A line on what is left out, such as a ``file`` for a reason."""
    return f"{_count(len(names), what, reason)}: {_some(names)}"


def twins(root: Path, files: list[str]) -> dict[str, str]:
    """Files that are another name of one that stands before them, with that one's."""
    taken: dict[State, str] = {}
    found = {}
    for name in files:
        try:
            state = (root / name).stat()
        except OSError:
            continue
        first = taken.setdefault((state.st_dev, state.st_ino), name)
        if first != name:
            found[name] = first
    return found


def _each_once(found: list[tuple[bool, str, State]]) -> tuple[list[str], list[str]]:
    """Names of different files, and the others, each with the name that was taken."""
    taken: dict[State, str] = {}
    same = []
    for _, name, state in sorted(found):
        first = taken.setdefault(state, name)
        if first != name:
            same.append(f"{name} is {first}")
    return list(taken.values()), same


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _count(number: int, what: str, reason: str) -> str:
    return f"{counted(number, what)} left out, {reason}"


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:2]) + (", ..." if len(names) > 2 else "")
