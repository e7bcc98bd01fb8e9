"""Files that ask for memory or time that no tile needs, and whatever else decoders raise at."""

import io
import random
import resource
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from helpers.jpegs import plain, segment
from helpers.tilesets import saved, tile
from PIL import Image

from pathprep.errors import DatasetError, UsageError
from pathprep.images import pictures
from pathprep.sharding.fit_target import FitOptions, fit_picture, is_slide
from pathprep.tilesets import images
from pathtrain.images import decode as decode_for_training

SIDE = 65_500
RGB = tile(0)


@contextmanager
def little_memory() -> Iterator[None]:
    """1 GiB more than the process has now; a decoder that takes a header at its word needs 12."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (1 << 30), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, side: int = 32) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 1000))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunks) + data + chunk(b"IEND", b"")


def jpeg_of(side: int) -> bytes:
    data = bytearray(plain(RGB))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    return bytes(data)


def tiff(width: int, height: int, tile_side: int | None = None) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, 8), (262, 1), (277, 1)]
    place = (324, 325) if tile_side else (273, 279)
    tags += [(place[0], 8), (place[1], 1 << 20)]
    tags += [(322, tile_side), (323, tile_side)] if tile_side else [(278, height)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)


def webp(side: int) -> bytes:
    canvas = (side - 1).to_bytes(3, "little") * 2
    inner = saved(RGB, "WEBP", lossless=True)[12:]
    body = b"WEBP" + b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + canvas + inner
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_2000(side: int) -> bytes:
    """A box that says 32 px around a codestream that says another size."""
    data = bytearray(saved(RGB, "JPEG2000"))
    start = data.index(b"\xff\x4f\xff\x51")
    data[start + 8 : start + 16] = struct.pack(">II", side, side)
    data[start + 24 : start + 32] = struct.pack(">II", side, side)
    return bytes(data)


BOMBS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: jpeg_of(SIDE),
    "png": lambda: png(side=SIDE),
    "tiff": lambda: tiff(SIDE, SIDE),
    "tiff of one tile": lambda: tiff(32, 32, 32_000),
    "webp": lambda: webp(16_000),
    "jpeg 2000": lambda: jpeg_2000(SIDE),
    "bmp": lambda: saved(RGB, "BMP")[:18] + struct.pack("<ii", SIDE, SIDE) + b"\0" * 60,
    "gif": lambda: b"GIF89a%b\0\0\0,\0\0\0\0%b\0\2\2\x44\1\0;" % ((struct.pack("<HH", SIDE, SIDE),) * 2),
    "ppm": lambda: f"P6 {SIDE} {SIDE} 255\n".encode(),
    "png text": lambda: png(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(b"a" * (1 << 26)))] * 3),
    "png profile": lambda: png(chunk(b"iCCP", b"a\0\0" + zlib.compress(b"a" * (1 << 28)))),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_in_little_memory(kind: str) -> None:
    data = BOMBS[kind]()
    assert len(data) < 1 << 20
    for decode in (lambda: images.decode(data), lambda: pictures.decode(data)):
        with little_memory(), pytest.raises(ValueError, match=r".") as raised:
            decode()
        said = str(raised.value)
        assert "memory" not in said
        assert "\n" not in said
        assert len(said) < 300


def test_a_profile_that_is_too_large_costs_nothing_but_itself() -> None:
    whole = saved(RGB, "PNG")
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(b"a" * (1 << 26)))
    with little_memory():
        try:
            assert np.array_equal(pictures.decode(whole[:33] + profile + whole[33:]), RGB)
        except ValueError as error:
            assert "large" in str(error)  # noqa: PT017


def test_embedding_looks_at_the_header_too() -> None:
    with (
        little_memory(),
        pytest.raises(DatasetError, match=r"x\.jpg: cannot be decoded \(65,500 x 65,500 px"),
    ):
        decode_for_training(jpeg_of(SIDE), "x.jpg")


def test_a_picture_of_a_target_is_judged_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(png(side=SIDE))
    with little_memory(), pytest.raises(UsageError, match=r"x\.png: .* more pixels than are read: crop it"):
        fit_picture(path, FitOptions())


def test_postscript_is_never_given_to_another_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\nshowpage\n"
    with Image.open(io.BytesIO(data)) as image:  # Pillow alone would
        assert image.format == "EPS"
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("started a program"))
    with pytest.raises(ValueError, match="not an image that can be read"):
        pictures.decode(data)
    (tmp_path / "x.png").write_bytes(data)
    assert not is_slide(tmp_path / "x.png")


def test_exif_that_is_cut_off_costs_nothing_but_the_turn() -> None:
    # python-pillow/Pillow, report 7456: struct.error, which nobody had listed, where Exif ends too early
    data = plain(RGB)
    for length in range(40):
        body = (
            b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x01\x1a\0\x05\0\0\0\x01\0\0\0"
        )[: 6 + length]
        cut = data[:2] + segment(0xE1, body) + data[2:]
        try:
            assert images.decode(cut).pixels.shape == RGB.shape
        except ValueError as error:
            assert str(error)  # noqa: PT017


def test_a_long_animation_is_not_counted_to_its_end() -> None:
    frame = saved(RGB, "GIF")
    start = frame.index(b",")
    data = frame[:start] + frame[start:-1] * 50_000 + b";"
    with pytest.raises(ValueError, match="several images"):
        pictures.decode(data)


def test_damaged_images_raise_one_kind_of_error() -> None:
    chance = random.Random(2)
    kinds = [saved(RGB, kind) for kind in ("PNG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM", "JPEG")]
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        kinds.append(saved(RGB, "TIFF", compression=compression))
    for _ in range(1500):
        damaged = bytearray(chance.choice(kinds))
        for _ in range(chance.choice((1, 2, 8))):
            damaged[chance.randrange(min(len(damaged), chance.choice((64, 1 << 20))))] = chance.randrange(256)
        if chance.random() < 0.2:
            del damaged[chance.randrange(len(damaged)) :]
        try:
            images.decode(bytes(damaged))
        except ValueError as error:
            assert str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
