"""Parameters of pictures of scores."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pathprep.params.settings import Setting, check, is_share

OUTPUT = "Output"
ColourMap = Literal["viridis", "cividis", "coolwarm"]


@dataclass(frozen=True)
class OverlayParams:
    """Parameters of `pathprep overlay`.

    Attributes:
        colours: of numbers. opacity: of colours over the slide's own pixels.
        merge: write areas of one class instead of tiles.
        geojson, tiff: which files are written.
    """

    colours: Annotated[
        ColourMap, Setting("Colour map of numbers; coolwarm is that of CLAM's figures.", OUTPUT)
    ] = "viridis"
    opacity: Annotated[
        float,
        Setting("Of the colours over the slide's own pixels, 0 to 1; at 1 the slide is not read.", OUTPUT),
    ] = 0.5
    merge: Annotated[
        bool, Setting("GeoJSON: one area for tiles of one class that touch, not an object a tile.", OUTPUT)
    ] = False
    geojson: Annotated[bool, Setting("Write SLIDE.geojson, which QuPath opens.", OUTPUT)] = True
    tiff: Annotated[bool, Setting("Write SLIDE.ome.tif, a pyramid.", OUTPUT)] = True

    def __post_init__(self) -> None:
        check(
            {
                "`opacity` is a share: 0 to 1": is_share(self.opacity),
                "`geojson` and `tiff` are both off: nothing would be written": self.geojson or self.tiff,
                "`merge` is about GeoJSON, which `geojson` turns off": self.geojson or not self.merge,
            }
        )
