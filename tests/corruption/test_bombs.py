"""Attacks by content: code in files, files that unpack to all of memory, text that grows."""

import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
import torch
from fuzz.pictures import h5_images, saved
from helpers.toys import write_run
from helpers.watched import GB, watched

import pathtrain
from pathprep.dataset import columns
from pathprep.errors import PathprepError
from pathprep.slides.masks import load_mask
from pathprep.slides.mpp.header import Header
from pathprep.slides.mpp.settle import MppRules, settle
from pathprep.stain import Target
from pathprep.storage import parquet, tables
from pathprep.storage.seals import sealed
from pathprep.tilesets import images
from pathtrain import images as train_images
from pathtrain.evaluate.slide_level.task_file import read_task_file
from pathtrain.features.bags import Bags
from pathtrain.models.first_weights import read
from pathtrain.recipes.load import load

SECONDS, MEMORY = 90.0, GB  # of a case, beyond what is loaded
LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(b)}: &{chr(b)} [{','.join('*' + chr(b - 1) for _ in range(9))}]\n"
    for b in range(ord("b"), ord("j"))
)


class Evil:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


def png(width: int, height: int, bits: int = 8) -> bytes:
    """A PNG of one colour, of some bytes: all rows are in a few kilobytes of zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    body = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def jpeg(side: int) -> bytes:
    """A JPEG that says it is larger than it is."""
    data = bytearray(saved("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", side, side)
    return bytes(data)


def tiff_mask(place: Path) -> None:
    """A TIFF whose tags say that it is larger than it is."""
    tifffile.imwrite(place / "m.tif", np.ones((64, 64), np.uint8), metadata=None)
    with tifffile.TiffFile(place / "m.tif", mode="r+") as tiff:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tiff.pages[0].tags[name].overwrite(400_000)
    load_mask(place / "m.tif", 65_500, 65_500, (100, 100))


def webp_mask(place: Path) -> None:
    """A WebP of the largest size that its header can say."""
    data = bytearray(saved("WEBP", lossless=True))
    at = data.index(b"VP8L") + 9
    data[at : at + 4] = (int.from_bytes(data[at : at + 4], "little") | (1 << 28) - 1).to_bytes(4, "little")
    load_mask(put(place / "m.webp", bytes(data)), 16_384, 16_384, (100, 100))


def own_parquet(place: Path) -> None:
    """A table of a dataset of a thousand million rows, in some kilobytes."""
    column = pa.array(np.zeros(10_000_000, np.int8))
    with pq.ParquetWriter(place / "t.parquet", pa.schema([("x", pa.int8())]), compression="zstd") as writer:
        for _ in range(100):
            writer.write_table(pa.table({"x": column}))
    parquet.read((place / "t.parquet").read_bytes())


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def features(place: Path) -> None:
    with h5py.File(place / "a.h5", "w") as file:
        file.create_dataset(
            "features", shape=(10**9, 1024), dtype="f4", chunks=(1024, 1024), compression="gzip"
        )
    Bags.open(place).mean("a")


def tile_set(place: Path) -> None:
    with h5py.File(place / "a_train_x.h5", "w") as file:
        file.create_dataset(
            "x", shape=(10**9, 4096, 4096, 3), dtype="u1", chunks=(1, 4096, 4096, 3), compression="gzip"
        )
    data = (place / "a_train_x.h5").read_bytes()
    with h5py.File(place / "a_train_y.h5", "w") as file:
        file.create_dataset("y", shape=(10**9,), dtype="u1", chunks=(1 << 20,), compression="gzip")
    h5_images(data, place)


def many_rows(place: Path) -> None:
    table = pa.table(
        {"slide": pa.array(np.zeros(30_000_000, np.int8)), "label": pa.nulls(30_000_000, pa.int8())}
    )
    pq.write_table(table, place / "t.parquet", compression="zstd")
    del table
    tables.read(place / "t.parquet")


def packed_outlines(place: Path) -> None:
    with gzip.open(place / "m.geojson", "wb") as file:
        for _ in range(4096):
            file.write(b" " * (1 << 20))
    load_mask(place / "m.geojson", 700, 350, (14, 28))


def checkpoint_bomb(place: Path) -> None:
    """A storage that the pickle says is far larger than what is stored."""
    write_run(place / "run", place / "gone")
    path = place / "run" / "checkpoints" / "00000020.pt"
    torch.save({"step": 20, "teacher": {"backbone": {"a": torch.zeros(1)}}}, path)
    out = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for item in old.infolist():
            if "/data/" not in item.filename:
                new.writestr(item.filename, old.read(item))
                continue
            with new.open(item.filename, "w", force_zip64=True) as file:
                for _ in range(1 << 7):
                    file.write(bytes(1 << 24))
    path.write_bytes(out.getvalue())
    vouch(path)
    pathtrain.load(place / "run")


def vouch(path: Path) -> None:
    """Make a checkpoint's account one of the bytes that it has now."""
    account = path.with_suffix(".json")
    values = json.loads(account.read_bytes()) | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    account.write_text(json.dumps(sealed(values) if "seal" in values else values))


def xml(text: str) -> None:
    header = Header(Path("a.tif"), "generic-tiff", 900, 700, text, "", None, None, None)
    settle(header.path, header.statements(), MppRules())


ENTITIES = '<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {chr(b)} "{f"&{chr(b - 1)};" * 10}">' for b in range(ord("b"), ord("m"))
)

BOMBS: dict[str, Callable[[Path], Any]] = {
    "PNG of a set": lambda place: images.decode(png(65_500, 65_500)),
    "PNG of a training set": lambda place: train_images.decode(png(65_500, 65_500), "a"),
    "PNG mask": lambda place: load_mask(
        put(place / "m.png", png(65_500, 65_500)), 65_500, 65_500, (100, 100)
    ),
    "deep PNG mask": lambda place: load_mask(
        put(place / "m.png", png(65_500, 65_500, 16)), 65_500, 65_500, (100, 100)
    ),
    "TIFF mask": tiff_mask,
    "WebP mask": webp_mask,
    "Parquet of a dataset": own_parquet,
    "JPEG of a set": lambda place: images.decode(jpeg(65_000)),
    "JPEG of a dataset": lambda place: train_images.decode(jpeg(65_000), "a"),
    "HDF5 features": features,
    "HDF5 tile set": tile_set,
    "Parquet of many rows": many_rows,
    "packed outlines": packed_outlines,
    "checkpoint": checkpoint_bomb,
    "laughing recipe": lambda place: load(put(place / "r.yaml", LAUGHS.encode())),
    "laughing override": lambda place: load("smoke", ["model.kwargs={" + LAUGHS.replace("\n", ", ") + "}"]),
    "laughing tasks": lambda place: read_task_file(
        str(put(place / "t.yaml", (LAUGHS + "tasks: *i\n").encode()))
    ),
    "entities": lambda place: xml(ENTITIES + "]><OME>&l;</OME>"),
    "entities in an attribute": lambda place: xml(ENTITIES + ']><OME><Pixels PhysicalSizeX="&l;"/></OME>'),
    "deep JSON": lambda place: Target.load(put(place / "t.json", b"[" * 1_000_000)),
    "a number of digits": lambda place: Target.load(
        put(place / "t.json", b'{"he": ' + b"9" * 1_000_000 + b"}")
    ),
    "a cell of much": lambda place: tables.read(put(place / "t.csv", b"slide,label\na," + b"x" * (50 << 20))),
    "many columns": lambda place: tables.read(
        put(place / "t.csv", b"a," * 3_000_000 + b"\n" + b"1," * 3_000_000)
    ),
    "an array's header": lambda place: columns.mapped(
        put(place / "x.npy", b"\x93NUMPY\x02\0\xff\xff\xff\x7f{'shape': (99999999999999,)"), "x", 6
    ),
}


def bombs(place: Path) -> Callable[[int], tuple[str, str]]:
    """Case n: bomb n; what came of it and the words."""

    def case(number: int) -> tuple[str, str]:
        name = list(BOMBS)[number]
        folder = place / str(number)
        folder.mkdir(exist_ok=True)
        try:
            BOMBS[name](folder)
        except (PathprepError, ValueError) as error:
            return "refused", str(error)
        return "read", ""

    return case


@pytest.mark.chaos
def test_bombs_cost_neither_memory_nor_time(tmp_path: Path) -> None:
    arguments = ("corruption.test_bombs:bombs", (tmp_path,), range(len(BOMBS)))
    found = dict(
        zip(BOMBS, (each for _, each in watched(*arguments, seconds=SECONDS, memory=MEMORY)), strict=True)
    )
    assert {name: each for name, each in found.items() if each[0] not in ("refused", "read")} == {}
    assert max(len(words) for _, words in found.values()) < 5000
    # what is as good as endless must be refused
    assert {name for name, (what, _) in found.items() if what == "read"} <= {
        "entities", "entities in an attribute", "a cell of much", "many columns", "an array's header",
    }  # fmt: skip


def evil_run(place: Path, mark: Path) -> Path:
    """A run whose checkpoint is a pickle, and is vouched for."""
    run = write_run(place / "run", place / "gone")
    path = run / "checkpoints" / "00000020.pt"
    torch.save({"step": 20, "teacher": Evil(mark)}, path)
    vouch(path)
    return run


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    run = evil_run(tmp_path, tmp_path / "mark")
    with pytest.raises(PathprepError, match="checkpoint|00000020"):
        pathtrain.load(run)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    "name", ["weights.pt", "weights.pth", "weights.bin", "weights.safetensors", "pytorch_model.bin"]
)
def test_first_weights_run_no_code(tmp_path: Path, name: str) -> None:
    torch.save(Evil(tmp_path / "mark"), tmp_path / name)
    config = load("smoke").model.model_copy(update={"init": str(tmp_path / name)})
    with pytest.raises(PathprepError):
        read(config)
    assert not (tmp_path / "mark").exists()


def test_arrays_of_objects_run_no_code(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([Evil(tmp_path / "mark")] * 6, object), allow_pickle=True)
    assert columns.mapped(tmp_path / "x.npy", "x", 6) is None
    assert not (tmp_path / "mark").exists()


def test_parquet_runs_no_code(tmp_path: Path) -> None:
    """An extension type that names Python's own; its parameters are a pickle."""
    metadata = {
        b"ARROW:extension:name": b"arrow.py_extension_type",
        b"ARROW:extension:metadata": pickle.dumps(Evil(tmp_path / "mark")),
    }
    field = pa.field("slide", pa.string(), metadata=metadata)
    pq.write_table(pa.table([pa.array(["a"])], schema=pa.schema([field])), tmp_path / "t.parquet")
    tables.read(tmp_path / "t.parquet")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("architecture", "hf_hub:timm/vit_tiny_patch16_224"),
        ("architecture", "hf-hub:evil/model"),
        ("architecture", "local-dir:/tmp"),
        ("architecture", "../../evil"),
        ("model_args", {"checkpoint_path": "EVIL"}),
        ("model_args", {"pretrained": True}),
        ("model_args", {"pretrained_cfg_overlay": {"file": "EVIL"}}),
        ("model_args", {"pretrained_cfg": {"url": "http://127.0.0.1:9/evil"}}),
        ("model_args", {"cache_dir": "/tmp"}),
        ("model_args", {"scriptable": True}),
    ],
)
@pytest.mark.chaos
def test_a_model_folder_asks_for_neither_network_nor_code(
    gallery: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: Any
) -> None:
    model = Path(shutil.copytree(gallery / "model", tmp_path / "model"))
    torch.save(Evil(tmp_path / "mark"), tmp_path / "evil.pt")
    info = json.loads((model / "config.json").read_bytes())
    text = json.dumps({"v": value}).replace("EVIL", str(tmp_path / "evil.pt"))
    new = json.loads(text)["v"]
    info[key] = {**info[key], **new} if isinstance(new, dict) else new
    (model / "config.json").write_text(json.dumps(sealed(info) if "seal" in info else info))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    with pytest.raises(PathprepError):
        pathtrain.load(model)
    assert not (tmp_path / "mark").exists()
