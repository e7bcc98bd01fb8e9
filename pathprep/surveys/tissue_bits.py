"""A tissue mask in few bytes, and what is asked of it without unpacking it: a random pixel, a window's share.

Rows of bits, packed eight to a byte: of a slide of 20 x 15 mm at 8 um/px half a megabyte in memory, and some
kilobytes in its file, where they are compressed.
"""

import base64
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pathprep.slides.tissue import Mask

Bits = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PackedMask:
    """A mask as a survey's file has it.

    Attributes:
        width, height: pixels, over the whole slide. tissue: how many of them are tissue.
        data: Base64 of zlib of the packed rows; empty where only the figures are wanted.
    """

    width: int
    height: int
    tissue: int
    data: str

    @staticmethod
    def of(mask: Mask) -> "PackedMask":
        """A mask (h, w) bool."""
        packed = zlib.compress(np.packbits(mask, axis=1).tobytes(), 9)
        height, width = mask.shape
        return PackedMask(width, height, int(mask.sum()), base64.b64encode(packed).decode())

    @property
    def share(self) -> float:
        """Of the slide that is tissue, 0 to 1."""
        return self.tissue / (self.width * self.height)

    def unpacked(self) -> "TissueBits":
        """The mask, to be asked.

        Raises:
            ValueError: the data is not that of a mask of this size.
        """
        try:
            # a damaged file may claim any size
            unzip = zlib.decompressobj()
            across = -(-self.width // 8)
            raw = unzip.decompress(base64.b64decode(self.data, validate=True), across * self.height + 1)
        except zlib.error as error:
            raise ValueError(f"its mask cannot be unpacked ({error})") from None
        if len(raw) != across * self.height:
            raise ValueError(f"its mask has {len(raw)} bytes, not {across * self.height}")
        found = TissueBits(np.frombuffer(raw, np.uint8).reshape(self.height, across), self.width)
        if found.count != self.tissue:
            raise ValueError(f"its mask has {found.count} pixels of tissue, not {self.tissue}")
        return found


@dataclass(frozen=True)
class TissueBits:
    """A mask; ``bits``: (h, ceil(w / 8)) packed rows. ``width``: w, pixels."""

    bits: Bits
    width: int

    @property
    def height(self) -> int:
        """Rows."""
        return len(self.bits)

    @property
    def count(self) -> int:
        """Pixels of tissue."""
        return int(self._before[-1])

    @cached_property
    def _before(self) -> npt.NDArray[np.int64]:
        """(h + 1,) pixels of tissue above each row."""
        return np.concatenate([[0], np.cumsum(np.bitwise_count(self.bits).sum(axis=1, dtype=np.int64))])

    def pixel(self, number: int) -> tuple[int, int]:
        """Column and row of the tissue pixel of this number, 0 to ``count`` - 1, row by row."""
        row = int(np.searchsorted(self._before, number, side="right")) - 1
        columns = np.flatnonzero(np.unpackbits(self.bits[row]))
        return int(columns[number - self._before[row]]), row

    def share(self, left: float, top: float, right: float, bottom: float) -> float:
        """Share of a box, in pixels of the mask and their fractions, that is tissue; exact, 0 to 1."""
        row, column = int(top), int(left)
        rows = np.arange(row, min(self.height, -int(-bottom // 1)))
        columns = np.arange(column, min(self.width, -int(-right // 1)))
        if not len(rows) or not len(columns):
            return 0.0
        window = np.unpackbits(self.bits[row : rows[-1] + 1, column // 8 : columns[-1] // 8 + 1], axis=1)
        window = window[:, column % 8 : column % 8 + len(columns)]
        down = np.minimum(rows + 1, bottom) - np.maximum(rows, top)
        across = np.minimum(columns + 1, right) - np.maximum(columns, left)
        return float(down @ window @ across / ((right - left) * (bottom - top)))

    def mask(self) -> Mask:
        """(h, w) bool."""
        return np.unpackbits(self.bits, axis=1)[:, : self.width].astype(bool)
