"""One small picture as TIFF slides of every kind: layout, byte order, compression, colour tag.

Every tile is encoded once and written into many files.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from helpers.slides import tissue

Pixels = npt.NDArray[np.uint8]

# Whole native tiles, so that a padded pyramid's level 0 is its picture
WIDTH, HEIGHT, TILE, LEVELS, MPP = 640, 512, 128, 4, 0.25
LAYOUTS = ("aperio", "pages", "subifds", "philips", "padded", "flat")
JPEGS = {"420": "YCbCr", "422": "YCbCr", "444": "YCbCr", "adobe-rgb": "RGB"}
LOSSLESS = {"none": None, "lzw": "lzw", "deflate": "zlib"}
TAGS = {"RGB": 2, "YCbCr": 6}
APERIO = "Aperio Image Library v1\r\n640x512 (128x128) JPEG Q=90|AppMag = 40|MPP = 0.2500"


class Kind(NamedTuple):
    """One way to write the picture; ``tag``: the colours that the tag states."""

    layout: str
    order: str
    big: bool
    compression: str
    tag: str

    @property
    def right(self) -> bool:
        """Whether the tag states the colours of the tiles."""
        return JPEGS.get(self.compression, "RGB") == self.tag


def kinds(layout: str) -> Iterator[Kind]:
    """All kinds of one layout."""
    for order in "<>":
        for big in (False, True):
            for compression in JPEGS:
                for tag in TAGS:
                    yield Kind(layout, order, big, compression, tag)
            for compression in LOSSLESS:
                yield Kind(layout, order, big, compression, "RGB")


@cache
def picture(level: int) -> Pixels:
    """What a level shows, without padding."""
    if level == 0:
        return tissue(HEIGHT, WIDTH, seed=7, margin=60)
    finer = picture(level - 1)
    shape = (finer.shape[0] // 2, 2, finer.shape[1] // 2, 2, 3)
    return np.rint(finer.reshape(shape).mean((1, 3))).astype(np.uint8)


def jpeg(tile: Pixels, compression: str) -> bytes:
    """An ordinary JPEG: JFIF if it is YCbCr, with Adobe's marker if it is RGB."""
    rgb = compression == "adobe-rgb"
    return bytes(
        imagecodecs.jpeg8_encode(
            tile,
            level=92,
            colorspace="RGB",
            outcolorspace="RGB" if rgb else "YCBCR",
            subsampling="444" if rgb else compression,
        )
    )


@cache
def _tiles(level: int, compression: str) -> list[bytes]:
    pixels = picture(level)
    filled = np.pad(
        pixels, ((0, -pixels.shape[0] % TILE), (0, -pixels.shape[1] % TILE), (0, 0)), constant_values=255
    )
    tiles = [
        np.ascontiguousarray(filled[y : y + TILE, x : x + TILE])
        for y in range(0, filled.shape[0], TILE)
        for x in range(0, filled.shape[1], TILE)
    ]
    encode: dict[str, Any] = {
        "none": lambda tile: tile.tobytes(),
        "lzw": imagecodecs.lzw_encode,
        "deflate": lambda tile: imagecodecs.zlib_encode(tile.tobytes()),
    }
    return [encode.get(compression, lambda tile: jpeg(tile, compression))(tile) for tile in tiles]


def philips_xml() -> str:
    """Philips' description, as far as it states spacings."""

    def spacing(level: int) -> str:
        value = f"&quot;{MPP * 2**level / 1000:.9f}&quot;"
        return f'<Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">{value} {value}</Attribute>'

    levels = "".join(
        f'<DataObject ObjectType="PixelDataRepresentation">{spacing(level)}</DataObject>'
        for level in range(LEVELS)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        '<Attribute Name="PIM_DP_SCANNED_IMAGES" PMSVR="IDataObjectArray"><Array>'
        '<DataObject ObjectType="DPScannedImage">'
        f'<Attribute Name="PIM_DP_IMAGE_TYPE" PMSVR="IString">WSI</Attribute>{spacing(0)}'
        '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" PMSVR="IDataObjectArray"><Array>'
        f"{levels}</Array></Attribute></DataObject></Array></Attribute></DataObject>"
    )


def write(path: Path, kind: Kind) -> Path:
    """Write the picture as a slide."""
    lossless = kind.compression in LOSSLESS
    padded = kind.layout in ("padded", "philips")
    description = {"aperio": APERIO, "philips": philips_xml()}.get(kind.layout)
    levels = 1 if kind.layout == "flat" else LEVELS
    with tifffile.TiffWriter(path, bigtiff=kind.big, byteorder=kind.order) as tiff:
        for level in range(levels):
            height, width, _ = picture(level).shape
            if padded:
                height, width = height + -height % TILE, width + -width % TILE
            space = JPEGS.get(kind.compression, "RGB")
            options: dict[str, Any] = {}
            if space == "YCbCr":
                options["subsampling"] = {"420": (2, 2), "422": (2, 1), "444": (1, 1)}[kind.compression]
            if kind.layout == "subifds" and level == 0:
                options["subifds"] = levels - 1
            if kind.compression == "adobe-rgb":
                options["compressionargs"] = {"outcolorspace": "rgb"}
            stated = level == 0 and kind.layout != "aperio"
            tiff.write(
                iter(_tiles(level, kind.compression)),
                shape=(height, width, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric=space.lower(),
                compression=LOSSLESS[kind.compression] if lossless else "jpeg",
                resolution=(1e4 / MPP,) * 2 if stated else None,
                resolutionunit="CENTIMETER" if stated else None,
                description=description if level == 0 else None,
                software="Philips DP v1.0" if kind.layout == "philips" and level == 0 else False,
                subfiletype=int(level > 0),
                metadata=None,
                **options,
            )
    with tifffile.TiffFile(path) as tiff:
        pages = [*tiff.pages, *(tiff.pages.first.pages or ())] if tiff.pages.first.subifds else tiff.pages
        places = [page.tags["PhotometricInterpretation"].valueoffset for page in pages]
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(TAGS[kind.tag].to_bytes(2, "little" if kind.order == "<" else "big"))
    return path
