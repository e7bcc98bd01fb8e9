"""What slides are called: their own names, the safe names that datasets have for them, and finding one.

A slide's own name is that of its file without the ending; of a DICOM slide, its series' UID. The safe name
stands in files of the dataset and in keys of tiles: letters A-Z, a-z, digits, ``_`` and ``-``. It follows
from the own name alone: a dot becomes ``_``; where another letter does, or the name is too long, a hash of
the own name stands at the end, so that two own names do not become one.

Markers and features hold both names; tables and files of other tools may use either.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from typing import Self

from pathprep.errors import UsageError
from pathprep.slides.endings import EXTENSIONS

# Longest safe name. A key of a tile, <name>_mpp0-25__<x>_<y>.jpg, must fit into the 100 characters of a tar's
# header, and x and y have up to seven digits
LONGEST = 68
# Bytes of an own name that a file of features is called after: a file's name, with what a writer adds to it
# for the time being, has at most 255
LONGEST_FILE = 150

# Endings that are no part of a slide's name: also those of files that somebody may name after one
ENDINGS = EXTENSIONS | {
    *(".qptiff", ".btf", ".jpg", ".jpeg", ".png", ".bmp", ".jp2", ".webp", ".h5", ".pt", ".geojson", ".json")
}
# Windows has no files of these names
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def own_name(path: PurePath) -> str:
    """The own name of a slide file; an ending that no slide has is a part of it: ``S19.1234``."""
    return path.stem if path.suffix.lower() in ENDINGS else path.name


def safe_name(own: str) -> str:
    """The safe name of an own name, at most LONGEST characters; that of a safe name is itself."""
    plain = plain_name(own)
    exact = plain == own.replace(".", "_") and not RESERVED.match(own)
    return plain if exact and len(plain) <= LONGEST else hashed(plain, composed(own))


def plain_name(own: str) -> str:
    """The name without what is not safe: every such character becomes ``_``, with no hash, at any length."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", composed(own))


def hashed(name: str, of: str) -> str:
    """A safe name, shortened if need be, with a hash of what tells it from others."""
    digest = hashlib.sha256(of.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{name[: LONGEST - 9]}-{digest}"


def composed(name: str) -> str:
    """The name in Unicode's composed form (NFC): macOS writes umlauts as two letters, others as one."""
    return unicodedata.normalize("NFC", name)


def printable(own: str) -> str:
    """The name as text: bytes of a file's name that are no UTF-8 stand as ``\ufffd``."""
    return own.encode(errors="surrogateescape").decode(errors="replace")


def file_name(own: str, safe: str) -> str:
    """What a file of a slide's features is called: the own name, or the safe one where it cannot be."""
    fits = len(own.encode(errors="replace")) <= LONGEST_FILE and own.isprintable() and "\ufffd" not in own
    return own if fits and not own.startswith(".") and "/" not in own else safe


class SlideNames(frozenset[str]):
    """Safe names of slides that can be found by what tables and files call them.

    Attributes:
        own: safe name -> the slide's own names, as far as known; the first is the one that counts.
    """

    own: Mapping[str, tuple[str, ...]]
    _exactly: dict[str, set[str]]
    _composed: dict[str, set[str]]
    _loosely: dict[str, set[str]]

    @classmethod
    def of(cls, slides: Iterable[str], own: Mapping[str, tuple[str, ...]] | None = None) -> Self:
        """Of safe names, and own names where they are known; of SlideNames, the same."""
        if isinstance(slides, cls) and own is None:
            return slides
        made = cls(slides)
        made.own = {slide: names for slide, names in (own or {}).items() if names}
        made._exactly, made._composed, made._loosely = {}, {}, {}
        for slide, names in made.own.items():
            for name in names[:1]:
                made._exactly.setdefault(name, set()).add(slide)
                made._composed.setdefault(_clean(name), set()).add(slide)
            for name in names:
                made._loosely.setdefault(_clean(_without_ending(name)), set()).add(slide)
        return made

    def find(self, named: str, where: str = "") -> str | None:
        """The safe name of the slide that a table or a file means; None if it means none of these.

        Args:
            named: the own name, in any Unicode form, or the safe name, with or without the file's ending
                and folders.
            where: it stands, for an error.

        Raises:
            UsageError: it may be one of several.
        """
        clean = _clean(named)
        for exact in (named, _without_ending(named)):
            if exact in self._exactly:
                return self._one(named, self._exactly[exact] | ({exact} & self), where)
        for form in dict.fromkeys((clean, _clean(_without_ending(clean)))):
            found = self._composed.get(form, set()) | ({form} & self)
            found = found or self._loosely.get(form, set())
            if not found:  # of slides whose own names nobody has noted, as in datasets of version 1
                made = (safe_name(form), plain_name(form))
                found = {
                    name for name in made[: 1 if made[0] in self else 2] if name in self
                } - self.own.keys()
            if found:
                return self._one(named, found, where)
        file = re.split(r"[/\\]", named)[-1]  # tables name files with their folders, also Windows'
        return None if file == named else self.find(file, where)

    def means(self, named: str) -> bool:
        """Whether a name is that of one of these slides, or of several."""
        try:
            return self.find(named) is not None
        except UsageError:
            return True

    def _one(self, named: str, found: set[str], where: str) -> str:
        if len(found) == 1:
            return next(iter(found))
        place, names = f"{where}: " if where else "", " or ".join(sorted(found))
        raise UsageError(
            f"{place}slide {named} may be {names}; name it so, as the dataset's slides/ folder has it"
        )


def _clean(name: str) -> str:
    return composed(name).strip()


def _without_ending(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return stem if stem and f"{dot}{ending}".lower() in ENDINGS | {".ome"} else name
