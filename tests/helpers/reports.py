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


EVIL = (
    "</script><script>window.hit=1</script>\"><img src=x onerror=window.hit=1>' javascript:window.hit=1 "
    "data:text/html,x {{7*7}}\u2028\u202eturned\x1b[31m"
)
SHOWN = EVIL.translate({0x2028: r"\u2028", 0x202E: r"\u202e", 0x1B: r"\x1b"})  # as a page has it


class Outline(HTMLParser):
    """What a browser would make of a page, but for its text: kinds of tags and attributes, addresses."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.kinds: set[str] = set()
        self.scripts = 0
        self.text = ""
        text = page.read_text()
        self.controls = sorted(set("\u2028\u202e\x1b\0") & set(text))
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.kinds |= {tag, *(f"{tag} {key}" for key, _ in attrs)}
        local = ("data:image/", "data:,", "#")
        self.kinds |= {
            f"{key}={value}"
            for key, value in attrs
            if key in ("href", "src", "action") and not str(value).startswith(local)
        }

    def handle_data(self, data: str) -> None:
        self.text += data


def unharmed(page: Path, plain: Path, *, longest: int = 5_000_000) -> str:
    """The text of a page whose values are hostile; it has no tag and attribute that the plain one lacks."""
    hostile, usual = Outline(page), Outline(plain)
    assert hostile.kinds - usual.kinds <= {"details open", "td class", "ul class"}
    assert hostile.scripts <= usual.scripts
    assert hostile.controls == []
    assert page.stat().st_size < longest
    return hostile.text
