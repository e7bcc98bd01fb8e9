"""Parsers of what holds pixels and numbers: images, masks, HDF5, arrays and headers of DICOM."""

import io
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
from fuzz.parser import Parser
from fuzz.tables import written
from helpers.dicom_headers import write_dicom
from helpers.featured import key_bags, write_features
from helpers.slides import tissue
from PIL import Image

from pathprep.dataset import columns
from pathprep.errors import DatasetError, MaskError, PathprepError, UsageError
from pathprep.slides import dicom
from pathprep.slides.mask_pictures import read_picture
from pathprep.storage import parquet
from pathprep.tilesets import find as set_find
from pathprep.tilesets import hdf5, images
from pathtrain import images as train_images
from pathtrain.features.bags import Bags


def saved(kind: str, mode: str = "RGB", **options: Any) -> bytes:
    """A small picture as a file of a format."""
    file = io.BytesIO()
    Image.fromarray(tissue(32, 32, seed=1)).convert(mode).save(file, kind, **options)
    return file.getvalue()


def of_tiles(_: Path) -> list[bytes]:
    """Every format and kind of pixels that tile sets come in."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a patient"
    deep = io.BytesIO()
    Image.fromarray(tissue(32, 32, seed=2)[..., 0].astype(np.uint16) << 8).save(deep, "PNG")
    return [
        saved("JPEG"), saved("JPEG", progressive=True), saved("JPEG", "L"), saved("JPEG", "CMYK"),
        saved("JPEG", exif=exif), saved("PNG"), saved("PNG", "P"), saved("PNG", "RGBA"), saved("PNG", "1"),
        deep.getvalue(), saved("BMP"), saved("TIFF"), saved("TIFF", compression="jpeg"),
        saved("TIFF", compression="tiff_lzw"), saved("WEBP"), saved("WEBP", lossless=True), saved("JPEG2000"),
        saved("GIF", "P"),
    ]  # fmt: skip


def of_masks(_: Path) -> list[bytes]:
    """Masks as pictures: black and white, coloured classes, pyramids."""
    mask = np.zeros((40, 80), np.uint8)
    mask[10:30, 20:60] = 255
    found = []
    for kind, options in (
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("BMP", {}),
        ("JPEG", {}),
    ):
        file = io.BytesIO()
        Image.fromarray(mask).save(file, kind, **options)
        found.append(file.getvalue())
    import tifffile

    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        for level in range(2):
            tiff.write(mask[:: 2**level, :: 2**level], tile=(16, 16), subfiletype=level, metadata=None)
    return [*found, file.getvalue()]


def h5_set(folder: Path) -> list[bytes]:
    """A tile set as PCam has it; the labels lie beside it."""
    with h5py.File(folder / "a_train_y.h5", "w") as file:
        file["y"] = np.array([0, 1, 0, 1], np.uint8).reshape(-1, 1, 1, 1)
    found = []
    for options in ({"chunks": (1, 32, 32, 3), "fletcher32": True}, {}, {"compression": "gzip"}):
        path = folder / "a_train_x.h5"
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=np.stack([tissue(32, 32, seed=n) for n in range(4)]), **options)
        found.append(path.read_bytes())
    return found


def h5_images(data: bytes, folder: Path) -> None:
    """Found, and each image read; one that cannot be costs itself."""
    path = written(data, folder / "a_train_x.h5")
    found = set_find.find(path)
    with closing(hdf5.Rows(folder)) as rows:
        for item in found.items:
            try:
                height, width = rows.read(item).shape[:2]
                images.check(width, height)
            except (OSError, ValueError) as error:
                raise UsageError(f"{item.file}: {error}") from None


def h5_features(folder: Path) -> list[bytes]:
    """Features as others write them, and as embed does."""
    bags, _ = key_bags(2)
    root = write_features(folder / "made", {"a": bags[0], "b": bags[1], "c": bags[0].mean(0)})
    return [path.read_bytes() for path in sorted(root.glob("*.h5"))]


def bag(data: bytes, folder: Path) -> None:
    (folder / "bags").mkdir(exist_ok=True)
    written(data, folder / "bags" / "a.h5")
    bags = Bags.open(folder / "bags")
    for slide in bags.paths:
        bags.read(slide)
        bags.places(slide)


def arrays(_: Path) -> list[bytes]:
    """Columns as the mapped index has them; an array of objects would be a pickle."""
    found = []
    for array in (np.arange(6, dtype=np.int32), np.array([b"a", None], object)):
        file = io.BytesIO()
        np.save(file, array, allow_pickle=True)
        found.append(file.getvalue())
    return found


def array(data: bytes, folder: Path) -> None:
    """None, for what is no such column, is the declared answer."""
    found = columns.mapped(written(data, folder / "x.npy"), "x", 6)
    if found is None:
        raise UsageError("x.npy: not a column")
    assert found.dtype == np.int32
    found.sum()


def headers(_: Path) -> list[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        made = (
            write_dicom(Path(folder) / f"{n}.dcm", "1.2.3", f"1.{n}", side=64 * (n + 1)) for n in range(3)
        )
        return [path.read_bytes() for path in made]


def header(data: bytes, folder: Path) -> None:
    if dicom.read_header(written(data, folder / "a.dcm")) is None:
        raise UsageError("a.dcm: no header")


def any_parquet(data: bytes, _: Path) -> None:
    """What every reader of our own Parquet catches."""
    try:
        parquet.read(data).to_pylist()
    except (OSError, pa.ArrowException, ValueError, KeyError) as error:
        raise DatasetError(str(error)) from None


def own_parquets(_: Path) -> list[bytes]:
    from fuzz.tables import parquets

    return parquets(_)


PARSERS = {
    parser.name: parser
    for parser in (
        Parser("tiles of a set", of_tiles, lambda data, _: images.decode(data), errors=(ValueError,)),
        Parser(
            "tiles of a dataset",
            of_tiles,
            lambda data, _: train_images.decode(data, "slide a, tile 1_2"),
            errors=(DatasetError,),
            names=("tile 1_2",),
        ),
        Parser(
            "masks as pictures",
            of_masks,
            lambda data, folder: read_picture(written(data, folder / "m.png"), (20, 40)),
            errors=(MaskError,),
            names=("m.png",),
        ),
        Parser("tile sets, HDF5", h5_set, h5_images, names=("a_train_x.h5",)),
        Parser("features, HDF5", h5_features, bag, names=("a.h5",)),
        Parser("arrays of the index", arrays, array),
        Parser("DICOM headers", headers, header),
        Parser("Parquet", own_parquets, any_parquet, errors=(PathprepError,)),
    )
}
