"""The dataset folder on disk: its files, the columns of its tables, its names and its build id.

    dataset.json                 format version, every parameter that shaped the pixels, their hash (build id)
    shards/<slide>.tar           WebDataset; members <slide>__<x>_<y>.jpg (level-0 pixels); absent if no tile
                                 was kept
    shards/<slide>.idx           DALI's index v1.2 of that tar
    index/<slide>.parquet        a row per tile, in the order of the tar (SCHEMA)
    slides/<slide>.json          the commit marker, written last
    dropped/<slide>.parquet      a row per tile that a quality filter dropped (DROPPED); absent if none was
    failed/<slide>.json          quarantine
    previews/<slide>.jpg         thumbnail; previews/<slide>.geojson: tissue contours, level-0 pixels
    tiles/                       index/ once more, for opening many slides (index_cache); may be deleted

Files are renamed into place one by one and the marker last, so a slide without a valid marker does
not exist for a reader. Equal inputs and parameters give equal bytes.

A dataset of imported tiles (``kind`` "tiles", see pathprep.tilesets) has the same layout; its "slides" are
shards of a set, x is a running number, y is 0, and what only a slide has is null.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from pathprep.params.tissue_model import GLASS
from pathprep.tiles.qc import FIGURES

FORMAT = "pathprep-dataset"
# 1, which is still read: keys of tiles were <x>_<y>, and repeated over slides
VERSION = 2
READABLE = (1, 2)
# Endings of the files in each folder: whoever takes all of a kind, as WebDataset does, takes strangers' too
SUFFIXES = {
    "shards": ("tar", "idx"),
    "index": ("parquet",),
    "dropped": ("parquet",),
    "slides": ("json",),
    "failed": ("json",),
    "previews": ("jpg", "geojson"),
}
FOLDERS = tuple(SUFFIXES)
STATUSES = ("fitted", "slide_fit", "unfitted", "none")

SCHEMA = pa.schema(
    [
        ("x", pa.int32()),  # level-0 pixels, left edge
        ("y", pa.int32()),  # level-0 pixels, top edge
        ("column", pa.int32()),  # grid cell
        ("row", pa.int32()),
        ("region", pa.int32()),  # id of the k x k cells that the tile belongs to
        ("side", pa.int32()),  # level-0 pixels
        ("stored", pa.int32()),  # pixels of the stored JPEG
        ("mpp", pa.float64()),  # micrometres per pixel of the stored JPEG
        ("tissue", pa.float32()),  # share of the tile inside the tissue mask, 0 to 1
        ("saturation", pa.float32()),  # mean HSV saturation, 0 to 1
        ("white", pa.float32()),  # share of white pixels, 0 to 1
        ("focus", pa.float32()),  # variance of the Laplacian of luminance, grey levels squared
        ("stained", pa.float32()),  # share of pixels that Macenko counts as tissue, 0 to 1
        ("hsv", pa.float32()),  # share of pixels in the HSV box of Virchow and Midnight, 0 to 1
        ("pen", pa.float32()),  # share of pixels with the colour of a pen's ink, 0 to 1
        ("stain_status", pa.dictionary(pa.int8(), pa.string())),  # one of STATUSES
        ("he", pa.list_(pa.float32(), 6)),  # (3, 2) row-major: R_h R_e G_h G_e B_h B_e; null without a fit
        ("max_c", pa.list_(pa.float32(), 2)),  # 99th percentiles of the two concentrations
        ("tissue_pixels", pa.int32()),  # pixels that the fit used
        ("offset", pa.int64()),  # of the JPEG's first byte in the tar
        ("length", pa.int32()),  # bytes of the JPEG
        ("crc32", pa.uint32()),  # of the JPEG's bytes
        # of imported tiles; null in datasets of slides, and not in the files of older ones
        ("label", pa.dictionary(pa.int16(), pa.string())),
        ("group", pa.dictionary(pa.int32(), pa.string())),  # tiles of one group are alike: patient, slide
        ("source", pa.string()),  # file name, or <HDF5 file>#<row>
    ]
)

# Before the names of columns that only datasets made with a tissue model have: the share of the tile, 0 to 1,
# that the model takes for pen, fold, blur or whatever classes it knows
SHARE = "share_"


def field(name: str) -> pa.Field:
    """A column: of SCHEMA, or the share of a class.

    Raises:
        KeyError: neither.
    """
    return pa.field(name, pa.float32()) if name.startswith(SHARE) else SCHEMA.field(name)


def with_shares(schema: pa.Schema, classes: Iterable[str]) -> pa.Schema:
    """SCHEMA or DROPPED, and the shares of these classes."""
    for each in classes:
        schema = schema.append(field(SHARE + each))
    return schema


def shares_of(params: Mapping[str, Any]) -> list[str]:
    """The classes whose shares a dataset with these parameters has."""
    tissue = params.get("tissue")
    model = tissue.get("model") if isinstance(tissue, Mapping) else None
    named = model.get("classes") if isinstance(model, Mapping) else None
    wanted = [each for each in named or () if isinstance(each, str)]
    return [each for each in wanted if each not in (*GLASS, "tissue")]


# What every tile has, whatever it was made from
FILLED = frozenset({"x", "y", "side", "stored", "offset", "length", "crc32"})

# Tiles that are not stored: place and figures as in SCHEMA, in the order in which they were cut
_PLACE = ("x", "y", "column", "row", "region", "side", "stored", "mpp", "tissue")
DROPPED = pa.schema(
    [
        *(SCHEMA.field(name) for name in (*_PLACE, *FIGURES)),
        ("reason", pa.dictionary(pa.int8(), pa.string())),
    ]
)


def tile_key(slide: str, x: int, y: int, version: int = VERSION) -> str:
    """The key of a tile's sample in its tar: no two of a dataset are equal.

    Args:
        slide: its name. x, y: level-0 pixels. version: of the dataset.
    """
    return f"{x}_{y}" if version == 1 else f"{slide}__{x}_{y}"


def build_id(params: Mapping[str, Any]) -> str:
    """Hash of every parameter that shapes the pixels: 16 hex digits."""
    canonical = json.dumps(params, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def sha256(path: Path) -> str:
    """Hash of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
