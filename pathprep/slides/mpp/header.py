"""What may state a file's resolution, from every reader alike, and the statements that it makes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pathprep.slides.mpp import tags, texts
from pathprep.slides.mpp.statement import Statement, read

# Formats of which OpenSlide knows no more than the tags and the description that stand in the header too
PLAIN = frozenset({"aperio", "generic-tiff"})
# Of other formats, in OpenSlide's properties: looked at where OpenSlide could make no MPP of them
_DICOM = "dicom.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing[{}]"
_RAW = (
    ("dicom", _DICOM.format(1), _DICOM.format(0), "mm"),
    ("dicom", "dicom.PixelSpacing[1]", "dicom.PixelSpacing[0]", "mm"),
    ("zeiss", "zeiss.Scaling.X", "zeiss.Scaling.Y", "m"),
    ("ome-zarr", "ome-zarr.scale.x", "ome-zarr.scale.y", None),
    ("ventana", "ventana.ScanRes", "ventana.ScanRes", "µm"),
    (
        "mirax",
        "mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_X",
        "mirax.LAYER_0_LEVEL_0_SECTION.MICROMETER_PER_PIXEL_Y",
        "µm",
    ),
)


@dataclass(frozen=True)
class Header:
    """Of level 0.

    Attributes:
        vendor: as OpenSlide names it. width, height: pixels.
        x, y, unit: resolution tags, as they stand. where: these stand. description, xmp: TIFF's texts.
        properties: of OpenSlide, if it opened the file.
    """

    path: Path
    vendor: str | None
    width: int
    height: int
    description: str = ""
    xmp: str = ""
    x: Any = None
    y: Any = None
    unit: Any = None
    properties: Mapping[str, str] | None = None
    where: str = tags.SOURCE

    @classmethod
    def of_openslide(
        cls, path: Path, vendor: str, size: tuple[int, int], properties: Mapping[str, str]
    ) -> Self:
        """Where tifffile knows nothing of the file."""
        return cls(
            path,
            vendor,
            *size,
            description=properties.get("tiff.ImageDescription") or properties.get("openslide.comment", ""),
            x=properties.get("tiff.XResolution"),
            y=properties.get("tiff.YResolution"),
            unit=properties.get("tiff.ResolutionUnit"),
            properties=properties,
        )

    def opened(self, vendor: str, properties: Mapping[str, str]) -> Self:
        """The same after OpenSlide has opened the file."""
        return replace(self, vendor=vendor, properties=properties)

    def statements(self) -> tuple[Statement, ...]:
        """What the file says about its resolution, in the order in which it is to be believed."""
        properties = self.properties or {}
        if self.vendor not in PLAIN and self.vendor is not None:
            vendor = self._of_vendor(self.vendor, properties)
            if any(each.understood or each.problem for each in vendor):
                return tuple(vendor)  # OpenSlide knows which of its places is right
        aperio = self.description.startswith("Aperio")
        return (
            *texts.statements(self.description, self.width, self.height, aperio, self.path),
            *texts.scanner_xml(self.xmp),
            *tags.statements(self.x, self.y, self.unit, self.description, self.where),
        )

    @property
    def magnification(self) -> str:
        """The objective's, which is no resolution; "" if it is not stated."""
        return texts.magnification(self.description) or (self.properties or {}).get(
            "openslide.objective-power", ""
        )

    def _of_vendor(self, vendor: str, properties: Mapping[str, str]) -> list[Statement]:
        x, y = properties.get("openslide.mpp-x"), properties.get("openslide.mpp-y")
        found = read(f"{vendor} metadata", "openslide.mpp-x, -y", x, y, "µm")
        if found is not None and found.understood:
            return [found]
        if vendor == "trestle" and self.x is not None:
            # its resolution tags hold the MPP itself, without a unit
            x, y = (
                str(each[0] / each[1]) if isinstance(each, tuple) and each[1] else str(each)
                for each in (self.x, self.y)
            )
            found = read("trestle metadata", "XResolution, YResolution", x, y, "µm")
        for whose, key_x, key_y, unit in _RAW:
            if whose == vendor and (key_x in properties or key_y in properties):
                name = key_x.rpartition(".")[2]
                raw = read(f"{vendor} metadata", name, properties.get(key_x), properties.get(key_y), unit)
                if raw is not None:
                    return [raw]
        return [found] if found is not None else []
