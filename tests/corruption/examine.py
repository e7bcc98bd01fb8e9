"""What became of one damaged file: found, harmless, or taken for another content without a word."""

import logging
import os
import shutil
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from corruption.damage import IN_ITS_PLACE, damaged, replace
from corruption.kinds import BY_NAME, Kind, digest
from helpers.watched import watched

from pathprep.errors import PathprepError, explain_os_error

SECONDS = 60.0
# told: the damage is named. same: no word, and the content is what it was. The rest are findings
Outcome = Literal["told", "same", "silent", "unnamed", "missed", "error", "hang", "death"]
FINDINGS = ("silent", "unnamed", "missed", "error", "hang", "death")


@dataclass(frozen=True)
class Found:
    """One damaged file: which, what was done to it, what came of it and the words that were said."""

    kind: str
    number: int
    file: str
    damage: str
    where: str
    outcome: Outcome
    words: str = ""


@dataclass
class Counts:
    """Outcomes of many, and all that are findings."""

    table: Counter[tuple[str, Outcome]] = field(default_factory=Counter)
    damages: Counter[str] = field(default_factory=Counter)
    findings: list[Found] = field(default_factory=list)

    def add(self, found: Found) -> None:
        """Count one."""
        self.table[found.kind, found.outcome] += 1
        self.damages[found.damage] += 1
        if found.outcome in FINDINGS:
            self.findings.append(found)

    def total(self, outcome: Outcome) -> int:
        """How often an outcome came."""
        return sum(count for (_, each), count in self.table.items() if each == outcome)


def suite(gallery: Path, seed: int | None, each: int, kinds: Sequence[str] = tuple(BY_NAME)) -> Counts:
    """Damage files of each kind, one at a time, in a child process.

    Args:
        gallery: from ``gallery.make``; it is not touched.
        seed: of the damages; None: things are put in the files' places instead, IN_ITS_PLACE in turn.
        each: damages of a kind.
    """
    counts, seconds = Counts(), SECONDS if seed is not None else SECONDS / 4
    with tempfile.TemporaryDirectory(prefix="damaged-") as place:
        arguments = (gallery, Path(place), tuple(kinds), seed, each)
        numbers = range(len(kinds) * each)
        for number, found in watched("corruption.examine:examiner", arguments, numbers, seconds=seconds):
            if not isinstance(found, Found):  # the child's end is all that is known
                ends: dict[str, Outcome] = {"traceback": "error", "hang": "hang", "death": "death"}
                outcome, words = ends[found[0]], str(found[1])
                found = Found(kinds[number // each], number % each, "", "", "", outcome, words)
            counts.add(found)
    return counts


def examiner(
    gallery: Path, place: Path, kinds: Sequence[str], seed: int | None, each: int
) -> Callable[[int], Found]:
    """A function that damages a file and says what came of it; case n is damage n % each of kind n // each.

    Args:
        place: an empty folder, for a copy of what is damaged.
    """
    import torch

    torch.set_num_threads(1)
    shutil.rmtree(place)  # of a child that died
    place.mkdir()
    os.environ["XDG_CACHE_HOME"] = str(place / "cache")
    return cases(gallery, place, kinds, seed, each)


def cases(
    gallery: Path, place: Path, kinds: Sequence[str], seed: int | None, each: int
) -> Callable[[int], Found]:
    """As ``examiner``, in a process that has other things to do."""
    now: list[Exhibit] = []

    def examine(number: int) -> Found:
        name = kinds[number // each]
        if not now or now[0].kind.name != name:
            now[:] = [Exhibit(gallery, place, BY_NAME[name])]
        return now[0].replace(number % each) if seed is None else now[0].damage(seed, number % each)

    return examine


class Exhibit:
    """A copy of one folder of the gallery, for damaging files of a kind in it.

    Raises:
        RuntimeError: what is whole is complained of.
    """

    def __init__(self, gallery: Path, place: Path, kind: Kind) -> None:
        self.kind, self._gallery = kind, gallery
        for old in place.iterdir():
            old.unlink() if old.is_symlink() else shutil.rmtree(old)
        for other in gallery.iterdir():  # readers that go on with something take it from beside
            (place / other.name).symlink_to(other)
        self.root = place / kind.scope
        self.root.unlink()
        self._restore()
        self.files = [path.relative_to(self.root) for path in kind.files(self.root)]
        with listening() as said:
            whole = kind.reader(self.root)
            said += kind.verify(self.root) if kind.verify is not None else ()
        if said or not self.files:
            raise RuntimeError(f"{kind.name}: {said or 'no file of it'}")
        self.whole = digest(whole)
        self._restore()

    def _restore(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self._gallery / self.kind.scope, self.root)
        self._state = self._seen()

    def _seen(self) -> set[tuple[str, int, int]]:
        found = ((path, path.stat()) for path in self.root.rglob("*"))
        return {(str(path), state.st_mtime_ns, state.st_size) for path, state in found if path.is_file()}

    def replace(self, number: int) -> Found:
        """Put something else in the place of one of the kind's files, and make it good again."""
        what = list(IN_ITS_PLACE)[number % len(IN_ITS_PLACE)]
        file = self.files[number % len(self.files)]
        replace(self.root / file, what)
        try:
            outcome, words = judge(self.kind, self.root, self.root / file, self.whole)
        except Exception:
            outcome, words = "error", traceback.format_exc(limit=-4)
        self._restore()
        return Found(self.kind.name, number, str(file), "replaced", what, outcome, words)

    def damage(self, seed: int, number: int) -> Found:
        """Damage the kind's files in turn, and make it good again."""
        file = self.files[number % len(self.files)]
        path = self.root / file
        data, state = path.read_bytes(), path.stat()
        damage = damaged(data, [seed, *self.kind.name.encode()], number)
        path.write_bytes(damage.data)
        # a disk changes bytes, not times
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        try:
            outcome, words = judge(self.kind, self.root, path, self.whole)
        except Exception:
            outcome, words = "error", traceback.format_exc(limit=-4)
        if path.exists():
            path.write_bytes(data)
            os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        if self._seen() != self._state:  # readers mend, go on, and make things anew
            self._restore()
        return Found(self.kind.name, number, str(file), damage.kind, damage.where, outcome, words)


def judge(kind: Kind, root: Path, path: Path, whole: str) -> tuple[Outcome, str]:
    """What a reader, and then verify, makes of a folder in which one file is damaged."""
    verified: list[str] | None = None
    if kind.verify is not None:  # first: a reader may mend
        verified = []
        with listening() as said:
            try:
                verified += kind.verify(root)
            except (PathprepError, OSError) as error:
                verified.append(shown(error))
        verified += said
    same, raised = False, False
    with listening() as said:
        try:
            same = digest(kind.reader(root)) == whole
        except (PathprepError, OSError) as error:
            said.append(shown(error))
            raised = True
    words = "\n".join(said)
    if not kind.missed and not os.path.lexists(path):
        return "same", words
    if not named(words, path):
        if raised:
            return "unnamed", words
        if not same and not (path_is_other(path) and verified and named("\n".join(verified), path)):
            return "silent", words
    harmless = same and not kind.hashed  # or what is mended by being read
    if verified is not None and not harmless and not named("\n".join(verified), path):
        return "missed", "\n".join(verified) or f"verify says nothing; the reader: {words}"
    return ("same" if same and not said else "told"), words


def path_is_other(path: Path) -> bool:
    """Whether there is no file any more: what is not there is not committed, and readers pass it over."""
    return path.is_symlink() or not path.is_file()


def shown(error: PathprepError | OSError) -> str:
    """An error as the commands show it."""
    return explain_os_error(error) if isinstance(error, OSError) else str(error)


def named(words: str, path: Path) -> bool:
    """Whether words say which file they are about: by its name, or by that of all files of a shard."""
    together = path.parent.name in ("shards", "index", "slides", "checkpoints")
    return path.name in words or (together and path.stem in words)


class _Keep(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.said = said

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def listening() -> Iterator[list[str]]:
    """What is said meanwhile, in the log and as warnings."""
    said: list[str] = []
    handler, root = _Keep(said), logging.getLogger()
    root.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield said
            said += [str(each.message) for each in warned]
    finally:
        root.removeHandler(handler)


def summary(counts: Counts) -> list[dict[str, Any]]:
    """A row per kind, for tables and results."""
    kinds = dict.fromkeys(kind for kind, _ in counts.table)
    outcomes: tuple[Outcome, ...] = ("told", "same", *FINDINGS)  # type: ignore[assignment]
    return [{"kind": kind, **{each: counts.table[kind, each] for each in outcomes}} for kind in kinds]
