"""A picture as a pyramidal OME-TIFF: tiles, levels in SubIFDs, micrometres per pixel, and a legend.

tifffile and this project read it with its levels, OpenSlide 4 as a generic TIFF of one. The legend stands in
the OME-XML, as the image's description and as a MapAnnotation.
"""

import io
import uuid
from pathlib import Path

import tifffile

from pathprep.scores.raster import halves
from pathprep.slides.readers.base import Pixels
from pathprep.storage import atomic
from pathprep.storage.printable import printable

TILE = 256
JPEG = {
    "compression": "jpeg",
    "compressionargs": {"level": 92, "subsampling": "444", "outcolorspace": "ycbcr"},
}
DEFLATE = {"compression": "adobe_deflate", "predictor": True}


def write(
    path: Path,
    picture: Pixels,
    mpp: tuple[float, float] | None,
    name: str,
    description: str,
    legend: dict[str, str],
    *,
    lossless: bool,
) -> None:
    """Write the file, atomically.

    Args:
        picture: (h, w, 3) uint8.
        mpp: micrometres per pixel of it, along x and y; None if they are not known.
        name: of the image. description: a sentence or two. legend: what stands in the MapAnnotation.
        lossless: deflate, so that colours can be read back as values; else JPEG.

    Raises:
        OSError: it cannot be written.
    """
    levels = halves(picture, TILE)
    size = {
        **{f"PhysicalSize{axis}": value for axis, value in zip("XY", mpp or (), strict=False)},
        **{f"PhysicalSize{axis}Unit": "µm" for axis in ("XY" if mpp else "")},
    }
    about = {
        "axes": "YXS",
        "Name": printable(name),
        "Description": printable(description),
        "UUID": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, name + description)}",  # equal inputs, equal bytes
        **size,
        "MapAnnotation": {
            "Namespace": "pathprep/legend",
            **{printable(key): printable(value) for key, value in legend.items()},
        },
    }
    options = {
        "tile": (TILE, TILE),
        "photometric": "rgb",
        **(DEFLATE if lossless else JPEG),
    }
    data = io.BytesIO()
    with tifffile.TiffWriter(data, ome=True, bigtiff=picture.nbytes > 1 << 31) as file:
        for number, level in enumerate(levels):
            by = picture.shape[1] / level.shape[1], picture.shape[0] / level.shape[0]
            file.write(
                level,
                subifds=len(levels) - 1 if number == 0 else 0,
                subfiletype=int(number > 0),
                resolution=(1e4 / (mpp[0] * by[0]), 1e4 / (mpp[1] * by[1])) if mpp else None,
                resolutionunit="CENTIMETER" if mpp else None,
                metadata=about if number == 0 else None,
                **options,
            )
    atomic.write_alone(path, data.getbuffer())
