"""What a survey holds of a slide: SURVEY/slides/<slide>.json, one file, sealed and written last.

    slide, own_name      its name in the survey, and its own
    build_id             of the survey
    source, inputs       the slide file as it was (path, bytes, time; a hash of its ends), and the user's mask
    mpp, mpp_source      micrometres per level-0 pixel, and where that comes from
    reader, vendor, width, height, levels, bounds
    tissue               the mask, over the whole slide (tissue_bits)
    notes                what it looks like that ordinary H&E slides do not (slides.unlike)
    seal                 of all of it

There is no time in it that depends on the run: the same slide gives the same bytes.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pathprep.dataset.marker import MaskRecord, SlideRecord
from pathprep.slides.find import SlideSource, whole
from pathprep.slides.readers.base import Bounds, Level
from pathprep.storage.json_files import read_json
from pathprep.storage.seals import Seal, seal_of, write_sealed
from pathprep.surveys.tissue_bits import PackedMask


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """A slide of a survey; see the module's text.

    Attributes:
        mask: how the user's mask was taken; None where tissue was looked for.
    """

    slide: str
    own_name: str
    build_id: str
    source: SlideRecord
    inputs: Mapping[str, Any]
    mpp: float
    mpp_source: str
    reader: str
    vendor: str | None
    width: int
    height: int
    levels: tuple[Level, ...]
    bounds: Bounds | None
    tissue: PackedMask
    mask: MaskRecord | None = None
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The slide file."""
        return Path(self.source.path)

    @property
    def area(self) -> float:
        """Square micrometres of tissue."""
        return self.tissue.share * self.width * self.height * self.mpp**2

    @property
    def light(self) -> "Surveyed":
        """The same without the mask's pixels: of many slides they are what takes memory."""
        return replace(self, tissue=replace(self.tissue, data=""))

    def content(self) -> str:
        """Hash of all that decides which tiles it gives, wherever its file lies: 16 hex digits."""
        values = self.as_dict()
        kept = {key: values[key] for key in ("slide", "mpp", "width", "height", "levels", "tissue")}
        kept["file"] = [self.inputs.get(key) for key in ("size", "ends_sha256")]
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]

    def changed(self) -> str:
        """In what way the slide file is no longer as it was surveyed; empty if it is.

        Its size and its ends are compared, as a run of ``pathprep survey`` does: a time alone says nothing of
        a file that was copied.
        """
        size, ends = whole(SlideSource(self.path)).measures()
        if ends is None:
            return "it is not there, or cannot be read"
        if size != self.inputs.get("size"):
            return f"it has {size} bytes, {self.inputs.get('size')} when it was surveyed"
        if ends != self.inputs.get("ends_sha256"):
            return "its first or last bytes have changed since it was surveyed"
        return ""

    def as_dict(self) -> dict[str, Any]:
        """What is written, but for the seal."""
        values = asdict(self)
        values["levels"] = [level._asdict() for level in self.levels]
        values["bounds"] = None if self.bounds is None else list(self.bounds)
        return values

    @staticmethod
    def of(values: Mapping[str, Any]) -> "Surveyed":
        """What ``as_dict`` gave.

        Raises:
            KeyError, TypeError, ValueError: a key is missing, or is not what it should be.
        """
        given = {key: value for key, value in values.items() if key != "seal"}
        given["source"] = SlideRecord(**given["source"])
        given["levels"] = tuple(Level(**level) for level in given["levels"])
        given["bounds"] = None if given["bounds"] is None else Bounds(*given["bounds"])
        given["tissue"] = PackedMask(**given["tissue"])
        if (mask := given["mask"]) is not None:
            given["mask"] = MaskRecord(mask["origin"], mask["origin_source"], tuple(mask["notes"]))
        given["notes"] = tuple(given["notes"])
        found = Surveyed(**given)
        if not found._is_typed():
            raise TypeError("not what a survey writes")
        return found

    def _is_typed(self) -> bool:
        """Whether what readers count with and look for has its type, whoever sealed it."""
        texts = (self.slide, self.own_name, self.build_id, self.source.path, self.mpp_source, self.reader)
        counts = (self.width, self.height, self.tissue.width, self.tissue.height)
        sides = [side for level in self.levels for side in (level.width, level.height)]
        return (
            all(isinstance(text, str) for text in (*texts, self.tissue.data, *self.notes))
            and isinstance(self.inputs, dict)
            and all(type(count) is int and 0 < count < 2**31 for count in (*counts, *sides))
            and type(self.tissue.tissue) is int
            and 0 <= self.tissue.tissue <= self.tissue.width * self.tissue.height
            and type(self.mpp) is float
            and 0 < self.mpp < math.inf
            and bool(self.levels)
            and all(level.downsample >= 1 for level in self.levels)
        )


def write(path: Path, surveyed: Surveyed) -> None:
    """Write a slide's file, atomically."""
    write_sealed(path, surveyed.as_dict())


def read(path: Path) -> Surveyed | None:
    """A slide's file; None if it is absent, not as it was written, or of another slide."""
    values = read_json(path)
    if values is None or seal_of(values) is not Seal.WHOLE:
        return None
    try:
        found = Surveyed.of(values)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return found if found.slide == path.stem else None
