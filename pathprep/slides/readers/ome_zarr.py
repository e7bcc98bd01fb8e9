"""Reads OME-Zarr images (OME-NGFF 0.1 to 0.5): a folder of arrays, one a level, read by zarr.

Source of the layout: https://ngff.openmicroscopy.org, versions 0.4 (Zarr 2, .zattrs) and 0.5 (Zarr 3,
zarr.json); the folder that bioformats2raw writes, whose first image is taken.
"""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UnreadableSlide
from pathprep.slides.mpp.header import Header
from pathprep.slides.readers import limits
from pathprep.slides.readers.base import Bounds, Level, Pixels

INSTALL = "install with the extra zarr: pip install 'pathprep[zarr]'"
FILES = ("zarr.json", ".zattrs")
_RGB = ("FF0000", "00FF00", "0000FF")
LARGEST = 1 << 24  # bytes of metadata


def image_in(folder: Path) -> Path | None:
    """The folder of an image: this one or, as bioformats2raw writes it, ``0`` in it; None: it holds none."""
    for place in (folder, folder / "0"):
        if "multiscales" in attributes(place):
            return place
    return None


def attributes(folder: Path) -> Mapping[str, Any]:
    """What OME-NGFF says of a group; empty if it is none, or damaged."""
    for name in FILES:
        path = folder / name
        try:
            if path.stat().st_size > LARGEST:
                return {}
            values = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(values, dict) and name == "zarr.json":
            values = values.get("attributes", {})
            values = values.get("ome", values) if isinstance(values, dict) else {}
        if isinstance(values, dict) and values:
            return values
    return {}


class ZarrReader:
    """An OME-Zarr image of 8-bit RGB."""

    name = "zarr"
    vendor = "ome-zarr"

    def __init__(self, path: Path) -> None:
        try:
            import zarr
        except ModuleNotFoundError:
            raise UnreadableSlide(f"{path}: zarr is not installed, which reads it; {INSTALL}") from None
        self.path = path
        self.bounds: Bounds | None = None
        self.colour = "RGB (OME-Zarr)"
        place = image_in(path)
        if place is None:
            raise UnreadableSlide(f"{path}: no image in OME-Zarr (no multiscales in {' or '.join(FILES)})")
        try:
            described = attributes(place)
            store = strict(zarr.storage.LocalStore(place, read_only=True))
            self._read(zarr.open_group(store, mode="r"), described)
        except UnreadableSlide:
            raise
        except Exception as error:  # whatever zarr makes of damaged metadata
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnreadableSlide(
                f"{path}: its metadata cannot be read ({said}); is it a complete OME-Zarr image?"
            ) from None

    def _read(self, group: Any, described: Mapping[str, Any]) -> None:
        scales = described["multiscales"][0]
        names = [dataset["path"] for dataset in scales["datasets"]]
        self._arrays = [group[name] for name in names]
        first = self._arrays[0]
        self._axes = _axes(scales, first.ndim)
        for array in self._arrays:
            self._check(array)
        channels = first.shape[self._axes.index("c")] if "c" in self._axes else 1
        colours = [
            str(each.get("color", "")).upper() for each in described.get("omero", {}).get("channels", [])
        ]
        if channels == 3 and len(colours) == 3 and all(colours) and tuple(colours) != _RGB:
            raise UnreadableSlide(
                f"{self.path}: its channels are coloured {', '.join(colours)}, not red, green and blue: "
                "it is no RGB; export it again as RGB"
            )
        self._grey = channels == 1
        if self._grey:
            self.colour = "grey (OME-Zarr)"
        x, y = (self._axes.index(axis) for axis in "xy")
        sizes = [(array.shape[x], array.shape[y]) for array in self._arrays]
        width, height = sizes[0]
        self.levels = [Level(w, h, (width / w + height / h) / 2) for w, h in sizes]
        limits.check_levels(self.path, self.levels)
        self.notes = [_missing(array) for array in self._arrays]
        self.header = self._header(scales, width, height)

    def _check(self, array: Any) -> None:
        if array.ndim != len(self._axes):
            raise UnreadableSlide(
                f"{self.path}: a level of {array.ndim} axes, {len(self._axes)} are declared"
            )
        if array.dtype != np.uint8:
            raise UnreadableSlide(
                f"{self.path}: samples of {array.dtype}, 8 bits are read; export it again with 8 bits"
            )
        for axis, length in zip(self._axes, array.shape, strict=True):
            if axis in "tz" and length != 1:
                raise UnreadableSlide(
                    f"{self.path}: holds {length} planes along {axis}, one is read; export one"
                )
            if axis == "c" and length not in (1, 3):
                raise UnreadableSlide(
                    f"{self.path}: {length} channels, not one of RGB; export it again as RGB"
                )

    def _header(self, scales: Mapping[str, Any], width: int, height: int) -> Header:
        """What states the resolution: the scale of level 0, in the axes' unit."""
        steps = [
            *scales["datasets"][0].get("coordinateTransformations", []),
            *scales.get("coordinateTransformations", []),
        ]
        factors = [step["scale"] for step in steps if step.get("type") == "scale"]
        axes = scales.get("axes") or []
        properties = {}
        for axis in "xy":
            at = self._axes.index(axis)
            unit = axes[at].get("unit") if at < len(axes) and isinstance(axes[at], dict) else None
            if factors:
                value = math.prod(float(each[at]) for each in factors)
                # a scale without a unit is 1, or anything
                properties[f"ome-zarr.scale.{axis}"] = f"{value!r} {unit or 'pixel'}"
        return Header(self.path, self.vendor, width, height, properties=properties)

    def read(self, level: int, x: int, y: int, width: int, height: int) -> Pixels:
        """See Reader.read."""
        box = {"x": slice(x, x + width), "y": slice(y, y + height), "c": slice(None)}
        try:
            found = np.asarray(self._arrays[level][tuple(box.get(axis, 0) for axis in self._axes)])
        except Exception as error:  # of any codec
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnreadableSlide(
                f"{self.path}: cannot read {width}x{height} at {x},{y} of level {level} ({said}); the image "
                "is damaged there, copy it again from its source"
            ) from None
        left = [axis for axis in self._axes if axis in box]
        if "c" not in left:
            found, left = found[None], ["c", *left]
        pixels = np.transpose(found, [left.index(axis) for axis in "yxc"])
        return np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3)), np.uint8)

    def close(self) -> None:
        """Nothing is open."""


def strict(store: Any) -> Any:
    """A store that refuses chunks of Blosc that were cut off, which Blosc fills up with garbage."""
    from zarr.storage import WrapperStore

    class Strict(WrapperStore[Any]):  # type: ignore[misc] # mypy does not look into zarr
        """See ``strict``."""

        async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
            """See zarr.abc.store.Store.get."""
            found = await super().get(key, prototype, byte_range)
            if found is not None and byte_range is None:
                _check_blosc(found[:16].to_bytes(), len(found))
            return found

    return Strict(store)


def _check_blosc(data: bytes, length: int) -> None:
    """Of a chunk of Blosc, whether it is as long as its header says; of others, nothing.

    Source of the header: https://github.com/Blosc/c-blosc, README_CHUNK_FORMAT: version, version of the
    format, flags, size of an item, then bytes before, of a block and after compression.

    Args:
        data: its first 16 bytes. length: bytes of all of it.
    """
    if len(data) < 16 or data[0] != 2 or data[1] != 1:
        return
    before, _, after = struct.unpack("<III", data[4:16])
    # what begins alike by chance is no chunk of Blosc: it would have to be shorter than what it holds
    if length < after <= before + 16:
        raise ValueError(f"a chunk of {length:,} bytes, of {after:,}")


def _axes(scales: Mapping[str, Any], count: int) -> list[str]:
    """Names of the axes; before version 0.3 they were always these."""
    given = scales.get("axes")
    if not given:
        return list("tczyx")[-count:]
    names = [str(axis["name"] if isinstance(axis, dict) else axis).lower() for axis in given]
    if not {"x", "y"} <= set(names) or set(names) - set("tczyx"):
        raise ValueError(f"axes {', '.join(names)}")
    return names


def _missing(array: Any) -> str:
    """Chunks that are not there, which are read as the array's fill value without a word."""
    there, all_of_them = int(array.nchunks_initialized), int(array.nchunks)
    if there >= all_of_them:
        return ""
    fill = array.fill_value
    return f"{all_of_them - there:,} of {all_of_them:,} chunks are not there, which are read as {fill}"
