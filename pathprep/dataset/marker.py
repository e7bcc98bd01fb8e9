"""Commit markers, slides/<slide>.json: what they say, whether they were changed, and what they vouch for.

They are JSON on disk and dataclasses everywhere else. A key that this version does not know is kept, in
``more``: what a later version adds goes with the marker, sealed like the rest. A marker that lacks a key, or
has others in its parts, is none: what it stands for is made again.

While the files of a shard are replaced, its marker is one of no build (``displaced``): it vouches for
nothing, but what is known of the slide outlives whatever becomes of the process.
"""

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from pathprep.dataset.schema import FOLDERS
from pathprep.params.origin import Origin
from pathprep.slides.facts import Facts
from pathprep.slides.readers.base import Bounds
from pathprep.stain import StainFit
from pathprep.storage.base import Storage
from pathprep.storage.json_files import read_json
from pathprep.storage.seals import Seal, seal_of


@dataclass(frozen=True)
class FileRecord:
    """Bytes and SHA-256 of a file."""

    size: int
    sha256: str


@dataclass(frozen=True)
class SourceRecord:
    """What a shard was made from: a slide file, or a tile set's folder with the bytes of its images."""

    path: str
    size: int | None


@dataclass(frozen=True)
class SlideRecord(SourceRecord):
    """A slide file, when it was last changed (seconds), and the user's mask."""

    mtime: float | None = None
    mask: str | None = None


@dataclass(frozen=True)
class StainRecord:
    """A fit: ``he`` are the six numbers of a (3, 2) matrix, row by row; see stain.StainFit."""

    he: tuple[float, ...]
    max_c: tuple[float, ...]

    @classmethod
    def of(cls, fits: StainFit, number: int) -> "StainRecord":
        """One of several fits."""
        return cls(tuple(fits.he[number].ravel().tolist()), tuple(fits.max_c[number].tolist()))


@dataclass(frozen=True)
class GridRecord:
    """The grid that a slide was cut by; see slides.grid.Grid."""

    columns: int
    rows: int
    side: int
    stride: int
    stored: int
    level: int
    per_region: int


@dataclass(frozen=True)
class MaskRecord:
    """How the user's mask was taken; see slides.masks.PlacedMask."""

    origin: Origin
    origin_source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DamagedImage:
    """An image of a tile set that was left out, and why."""

    image: str
    error: str


@dataclass(frozen=True, kw_only=True)
class Marker:
    """What is committed of a shard.

    Attributes:
        slide: name of the shard. build_id: of the dataset.
        source: what it was made from. inputs: what its tiles depend on besides the run's parameters.
        mpp: micrometres per pixel; None if not known. mpp_source: where that comes from.
        counts: what became of the cells of a slide's grid, or of a set's images.
        stain: tiles by stain status. stain_fit: the pooled fit; None if there is none.
        seconds: spent, by stage; ``total``: wall time.
        tiles: number of them. files: of the dataset that belong to it, by name.
        left_out: why a slide has no tiles at this resolution, which is no failure.
        key_id: of the key that its pseudonyms were made with; None: it has its own names.
        more: keys that this version does not know.
    """

    slide: str = ""
    build_id: str
    source: SourceRecord
    inputs: Mapping[str, Any]
    mpp: float | None
    mpp_source: str
    counts: Mapping[str, int]
    stain: Mapping[str, int]
    stain_fit: StainRecord | None
    seconds: Mapping[str, float]
    tiles: int = 0
    files: Mapping[str, FileRecord] = field(default_factory=dict)
    left_out: str | None = None
    key_id: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "Marker":
        """What ``as_dict`` gave; a seal is left out.

        Raises:
            KeyError, TypeError, AttributeError: a key is missing, or is not what it should be.
        """
        made = TileSetMarker if values.get("kind") == "tiles" else SlideMarker
        names = {each.name for each in fields(made)}
        known = {key: _READERS.get(key, _as_it_is)(value) for key, value in values.items() if key in names}
        known["source"] = (SourceRecord if made is TileSetMarker else SlideRecord)(**values["source"])
        more = {key: value for key, value in values.items() if key not in names | {"kind", "seal"}}
        return made(**known, more=more)

    def as_dict(self) -> dict[str, Any]:
        """What is written, but for the seal."""
        values = {each.name: _plain(getattr(self, each.name)) for each in fields(self)}
        more: dict[str, Any] = values.pop("more")
        return {key: value for key, value in values.items() if value is not None or key in _NULL} | more


@dataclass(frozen=True, kw_only=True)
class SlideMarker(Marker):
    """The marker of a slide.

    Attributes:
        slide_id: the slide's name without the resolution; as ``target_mpp``, None in the oldest datasets.
        own_name: the slide's own name, see slides.own_names; None before format version 2.
        target_mpp: that the tiles were asked for at.
        facts: what was decided about the slide, and from what; None in datasets of version 1.
        reader, vendor: what read the file, and whose format it is. width, height: pixels of level 0.
        mask: how the user's mask was taken; None without one.
        notes: codes of what the slide looks like that ordinary H&E slides do not (slides.unlike).
    """

    source: SlideRecord
    mpp: float
    slide_id: str | None = None
    own_name: str | None = None
    target_mpp: float | None = None
    facts: Facts | None = None
    reader: str
    vendor: str | None
    width: int
    height: int
    mask: MaskRecord | None = None
    notes: tuple[str, ...] = ()
    grid: GridRecord

    @property
    def bounds(self) -> Bounds | None:
        """The part of level 0 that was scanned; None if that is all, or if it has no ``facts``."""
        found = self.facts.origin.value["bounds"] if self.facts else None
        return Bounds(*found) if found else None


@dataclass(frozen=True, kw_only=True)
class TileSetMarker(Marker):
    """The marker of a shard of a tile set.

    Attributes:
        set, split: whose shard it is. damaged: images that were left out.
        labels: tiles by label, "" for those without. groups: how many there are.
    """

    set: str
    split: str
    damaged: tuple[DamagedImage, ...]
    labels: Mapping[str, int]
    groups: int

    def as_dict(self) -> dict[str, Any]:
        """See Marker."""
        return {"kind": "tiles", **super().as_dict()}


# Before the build id of a marker whose files are being replaced: of no build, to whoever compares
DISPLACED = "displaced:"
# Inputs that a slide may not depend on; then its marker does not name them
AT_NEED = ("default_mpp", "mask_origin")
# May be null in a marker; others that are None are left out
_NULL = ("mpp", "stain_fit", "vendor")


def _as_it_is(value: Any) -> Any:
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "facts": lambda facts: facts and Facts.of(facts),
    "stain_fit": lambda fit: fit and StainRecord(tuple(fit["he"]), tuple(fit["max_c"])),
    "grid": lambda grid: GridRecord(**grid),
    "notes": tuple,
    "mask": lambda mask: mask and MaskRecord(mask["origin"], mask["origin_source"], tuple(mask["notes"])),
    "damaged": lambda damaged: tuple(DamagedImage(**image) for image in damaged),
    "files": lambda files: {name: FileRecord(**file) for name, file in files.items()},
}


def _plain(value: Any) -> Any:
    """Dataclasses and tuples within a value as JSON has them."""
    if isinstance(value, Facts):
        return value.as_dict()
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value


def displaced(marker: Marker) -> Marker:
    """What stands for a shard while its files are replaced: all that is known of it, of no build."""
    return marker if is_displaced(marker) else replace(marker, build_id=DISPLACED + marker.build_id)


def is_displaced(marker: Marker, build: str = "") -> bool:
    """Whether a shard's files were being replaced, by default of any build, when its marker was written."""
    return marker.build_id.startswith(DISPLACED + build)


def is_done(root: Path, slide: str, build: str, inputs: Mapping[str, Any]) -> bool:
    """Whether a slide is committed with this build id, from these inputs, and its files have their size."""
    return committed(root, slide, build, inputs) is not None


def committed(
    root: Path,
    slide: str,
    build: str,
    inputs: Mapping[str, Any],
    size: Callable[[str], int] | None = None,
) -> Marker | None:
    """The marker of a slide that is done (see ``is_done``), else None; ``size``: see ``vouches``."""
    marker = read_sealed(root / "slides" / f"{slide}.json")
    return marker if vouches(marker, build, inputs, size or (lambda name: size_of(root / name))) else None


def vouches(marker: Marker | None, build: str, inputs: Mapping[str, Any], size: Callable[[str], int]) -> bool:
    """Whether a marker stands for this build and these inputs, and its files have their size.

    ``size``: bytes of a file of the dataset, by its name; -1 if it is absent.
    """
    if marker is None or marker.build_id != build or not same_inputs(marker, inputs):
        return False
    return all(size(name) == file.size for name, file in marker.files.items())


class WithInputs(Protocol):
    """A marker, or a slide of a survey."""

    @property
    def inputs(self) -> Mapping[str, Any]:
        """What it was made from, besides the run's parameters."""


def same_inputs(marker: WithInputs, inputs: Mapping[str, Any]) -> bool:
    """Whether a marker's slide was made from these inputs (SlideSource.inputs).

    The run's default MPP, and the origin of masks, are among them for slides that needed them.
    """
    made = marker.inputs
    return made == {key: inputs[key] for key in inputs if key not in AT_NEED or key in made}


def unsealed(values: Mapping[str, Any] | None, name: str | None = None) -> Marker | None:
    """The marker that JSON holds; None if there is none, or it is not as it was written, or not whole.

    Args:
        name: of the shard that it must be of, and only of whose files it may speak; None asks nothing.
    """
    if values is None or seal_of(values) is not Seal.WHOLE:
        return None
    try:
        marker = Marker.from_dict(values)
    except (KeyError, TypeError, AttributeError, ValueError):
        return None
    right = _is_typed(marker) and (name is None or _is_of(marker, name))
    return marker if right else None


def _is_typed(marker: Marker) -> bool:
    """Whether what readers count with, look for and show has its type, whoever sealed it."""
    source = marker.source
    texts = [marker.slide, marker.build_id, source.path, marker.mpp_source, *marker.files]
    maybe = [marker.left_out, marker.key_id]  # texts that may be null
    mappings = [marker.inputs, marker.counts, marker.stain, marker.seconds]
    counts = [marker.tiles, *([] if source.size is None else [source.size])]
    numbers = [each for each in (marker.mpp,) if each is not None]
    if isinstance(marker, SlideMarker):
        texts += [marker.reader, *marker.notes]
        maybe += [marker.slide_id, marker.own_name, marker.vendor, marker.source.mask]
        counts += [marker.width, marker.height, *astuple(marker.grid)]
        numbers += [each for each in (marker.target_mpp, marker.source.mtime) if each is not None]
        if marker.mask is not None:
            texts += [marker.mask.origin, marker.mask.origin_source, *marker.mask.notes]
    elif isinstance(marker, TileSetMarker):
        texts += [marker.set, marker.split, *(text for image in marker.damaged for text in astuple(image))]
        mappings.append(marker.labels)
        counts.append(marker.groups)
    if not all(isinstance(text, str) for text in texts) or not all(isinstance(m, str | None) for m in maybe):
        return False
    if not all(isinstance(mapping, dict) for mapping in mappings):
        return False
    counts += [*marker.counts.values(), *marker.stain.values()]
    counts += [file.size for file in marker.files.values()]
    counts += marker.labels.values() if isinstance(marker, TileSetMarker) else ()
    numbers += marker.seconds.values()
    if marker.stain_fit is not None:
        numbers += [*marker.stain_fit.he, *marker.stain_fit.max_c]
    return (
        all(type(count) is int and 0 <= count < 2**63 for count in counts)
        and all(type(number) in (int, float) and abs(number) < 1e300 for number in numbers)  # nor NaN
        and all(isinstance(file.sha256, str) for file in marker.files.values())
    )


def _is_of(marker: Marker, name: str) -> bool:
    """Whether a marker is of this shard, and its files are <folder>/<shard>.<suffix> of the dataset."""
    if marker.slide != name:
        return False
    for file in marker.files:
        folder, _, last = file.partition("/")
        stem, _, suffix = last.rpartition(".")
        if folder not in FOLDERS or stem != name or not suffix.isalnum():
            return False
    return True


def read_sealed(path: Path) -> Marker | None:
    """A slide's marker; None if it is absent, not as it was written, not whole, or of another slide."""
    return unsealed(read_json(path), path.stem)


def sealed_in(storage: Storage, name: str) -> Marker | None:
    """A slide's marker in a folder or at a URL, as ``read_sealed``."""
    return unsealed(storage.read_json(name), name.rpartition("/")[2].removesuffix(".json"))


def size_of(path: Path) -> int:
    """Bytes of a file; -1 if it is absent."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
