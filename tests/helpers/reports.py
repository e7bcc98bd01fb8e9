"""Datasets to make pages of, and pages as a reader without a browser sees them."""

import base64
import io
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from helpers.slides import tissue
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainMode, StainParams
from pathprep.sharding import run
from pathprep.slides import find

SIDE = 64  # of the tiles of these datasets
Shard = Callable[[StainMode], Path]


def patchy(seed: int) -> npt.NDArray[np.uint8]:
    """Two stains with glass around, and a square of one flat colour, whose stains cannot be told."""
    pixels = tissue(384, 512, seed, margin=64)
    pixels[128:256, 128:256] = (200, 120, 180)
    return pixels


def make(archive: Path, out: Path, mode: StainMode = "bake") -> Path:
    params = ShardParams(tile=SIDE, region=SIDE, default_mpp=0.5, stain=StainParams(mode))
    run.shard(find.find([archive]), out, params, workers=2)
    return out


class Reader(HTMLParser):
    """Collects pictures, addresses and text."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "img":
            self.pictures.append(values)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href") and value]

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("b", "i", "small", "code"):
            self.text += " "


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text())
    reader.text = " ".join(reader.text.split())
    return reader


def pixels_of(uri: str) -> npt.NDArray[np.int64]:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.asarray(image.convert("RGB"), np.int64)
