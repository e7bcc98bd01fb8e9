"""The folder of mixed shards on disk: what a shard holds, and where in its tar each byte lies.

    mixed.json                   format version, sources, seed, sizes and SHA-256 of every file, and a seal
                                 (since version 2); written last
    shards/mixed-000000.tar      WebDataset; a sample has the members that COMPONENTS lists, in that order
    shards/mixed-000000.idx      DALI's index v1.2 of that tar
    index/mixed-000000.parquet   a row per tile, in the order of the tar (schema)
    unfinished/                  while it is made: plan.json and a marker per finished shard

All of a tar but the JPEGs follows from its index: ``Skeleton`` is that part, for writing and for checking.
Files are renamed into place one by one and mixed.json last, so a folder without it is not finished.
"""

import io
import re
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.dataset.schema import SCHEMA, STATUSES, build_id
from pathprep.errors import DatasetError
from pathprep.permutation import Ints
from pathprep.storage.base import Storage
from pathprep.storage.seals import Seal, seal_of

FORMAT = "pathprep-mixed"
# 1, which is still read: mixed.json had no seal
VERSION = 2
READABLE = (1, 2)
# Of what a plan says, and so of the tars: part of the plan, whose hash is the mix's id
PLAN_VERSION = 1
INFO = "mixed.json"
PLAN = "unfinished/plan.json"  # instead of it, while the mix is made
FOLDERS = ("shards", "index", "unfinished")
NAME = re.compile(r"mixed-\d{6,}")  # of a shard
BLOCK = tarfile.BLOCKSIZE
END = 2 * BLOCK  # of a tar: two blocks of zeros

# jpg: as the dataset stores it. fit: FIT_VALUES float32, little-endian: he (3, 2) row-major, max_c (2),
# and the number in STATUSES; zeros for he and max_c where nothing was fitted. txt: the label, UTF-8
COMPONENTS = ("jpg", "fit", "txt")
FIT_VALUES = 9
# Columns that have a value for every tile
FILLED = frozenset({"key", "source", "slide", "x", "y", "offset", "length", "crc32"})

Bytes = npt.NDArray[np.uint8]


def schema(components: Sequence[str]) -> pa.Schema:
    """Columns of a mixed shard's index."""
    fields = [
        ("key", pa.string()),  # of the sample: <slide>__<x>_<y>
        ("source", pa.int16()),  # number of the dataset in mixed.json, from 0
        ("slide", pa.dictionary(pa.int32(), pa.string())),  # as the dataset names it
        ("x", pa.int32()),  # level-0 pixels, as in the dataset
        ("y", pa.int32()),
        ("offset", pa.int64()),  # of the JPEG's first byte in the tar
        ("length", pa.int32()),  # bytes of the JPEG
        ("crc32", pa.uint32()),  # of the JPEG's bytes
    ]
    if "fit" in components:
        fields += [(name, SCHEMA.field(name).type) for name in ("stain_status", "he", "max_c")]
    if "txt" in components:
        fields.append(("label", pa.dictionary(pa.int32(), pa.string())))
    return pa.schema(fields)


def name(number: int) -> str:
    """Name of a shard, without suffix."""
    return f"mixed-{number:06}"


def files(shard: str) -> tuple[str, str, str]:
    """The files of a shard, relative to the folder: tar, DALI index, index."""
    return f"shards/{shard}.tar", f"shards/{shard}.idx", f"index/{shard}.parquet"


def read_info(storage: Storage) -> dict[str, Any]:
    """What mixed.json says.

    Raises:
        DatasetError: no mixed shards there, not finished, damaged, or of a newer format version.
    """
    info = storage.read_json(INFO)
    if info is None and not storage.exists(INFO):
        if storage.exists(PLAN):
            raise DatasetError(
                f"{storage}: not finished; run the same `pathprep mix` again, it goes on from there"
            )
        raise DatasetError(f"{storage}: no mixed shards (no {INFO}); make them with `pathprep mix`")
    if info is not None and info.get("format") == FORMAT and seal_of(info) is not Seal.BROKEN:
        version = info.get("version")
        if type(version) is int and version not in READABLE:
            raise DatasetError(
                f"{storage}: format version {version}, this pathprep reads up to version {VERSION}"
            )
    if info is None or not is_whole(info):
        raise DatasetError(
            f"{storage.root / INFO}: damaged; run the same `pathprep mix` again, which keeps every shard "
            "that is as it was written"
        )
    return info


def is_whole(info: Mapping[str, Any]) -> bool:
    """Whether the JSON of a mixed.json is as it was written, as far as its version can tell."""
    try:
        seal, shards, components = seal_of(info), info["shards"], info["components"]
        return (
            info["format"] == FORMAT
            and type(info["version"]) is int
            and seal is (Seal.WHOLE if info["version"] > 1 else Seal.NONE)
            and build_id(info["plan"]) == info["mix_id"]
            and components == [each for each in COMPONENTS if each in ("jpg", *components)]
            and all(isinstance(info[key], list) for key in ("labels", "sources", "shards"))
            and all(isinstance(label, str) for label in info["labels"])
            and len(info["sources"]) > 0
            and all(_is_source(source) for source in info["sources"])
            and [shard["shard"] for shard in shards] == [name(number) for number in range(len(shards))]
            and all(is_record(shard) for shard in shards)
            and info["tiles"] == sum(shard["tiles"] for shard in shards) > 0
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        return False


def _is_source(source: Mapping[str, Any]) -> bool:
    mode, path = source["params"]["stain"]["mode"], source["path"]
    return type(source["tiles"]) is int and isinstance(mode, str) and isinstance(path, str)


def is_record(shard: Mapping[str, Any]) -> bool:
    """Whether JSON is what is recorded of a shard: its own three files, and what they are.

    Raises:
        KeyError, TypeError, AttributeError: it is not.
    """
    return (
        set(shard["files"]) == set(files(shard["shard"]))
        and type(shard["tiles"]) is int
        and shard["tiles"] > 0
        and all(
            type(file["size"]) is int
            and isinstance(file["sha256"], str)
            and file.keys() == {"size", "sha256"}
            for file in shard["files"].values()
        )
    )


def layout(lengths: Ints) -> tuple[Ints, int]:
    """Where members lie in a tar.

    Args:
        lengths: (n, c) bytes of each member of n samples; -1 if a sample has no such member.

    Returns:
        (n, c) offset of each member's first byte, and the bytes of the whole tar.
    """
    blocks = np.where(lengths >= 0, 1 - (-lengths // BLOCK), 0)
    ends = np.cumsum(blocks).reshape(blocks.shape)
    return (ends - blocks + 1) * BLOCK, int(ends[-1, -1]) * BLOCK + END


def headers(names: Sequence[str], sizes: Ints) -> Bytes:
    """(m, 512) USTAR headers of plain files, as ``tarfile`` writes them, at a tenth of its time.

    Args:
        names: m ASCII names of at most 100 characters.
        sizes: (m,) bytes.
    """
    info = tarfile.TarInfo()
    info.mode = 0o644
    template = np.frombuffer(info.tobuf(tarfile.USTAR_FORMAT), np.uint8)
    out = np.repeat(template[None], len(names), axis=0)
    out[:, :100] = np.array([name.encode("ascii") for name in names], "S100").view(np.uint8).reshape(-1, 100)
    out[:, 124:135] = _octal(sizes, 11)
    out[:, 148:156] = ord(" ")  # the checksum counts itself as blanks
    out[:, 148:154] = _octal(out.sum(axis=1, dtype=np.int64), 6)
    out[:, 154] = 0
    return out


def _octal(values: Ints, digits: int) -> Bytes:
    shifts = 3 * np.arange(digits - 1, -1, -1)
    return ((values[:, None] >> shifts & 7) + ord("0")).astype(np.uint8)


class Skeleton:
    """All of a mixed tar but the JPEGs' bytes, made from the rows of its index.

    Args:
        rows: a table of ``schema(components)``; ``offset`` is not looked at.
        components: of the samples.

    Attributes:
        present: (n, c) bool; whether the sample has the component.
        lengths: (n, c) bytes of each member, -1 where there is none.
        offsets: (n, c) of each member's first byte. total: bytes of the tar.
    """

    def __init__(self, rows: pa.Table, components: Sequence[str]) -> None:
        self.keys: list[str] = rows["key"].to_pylist()
        self.components = tuple(components)
        columns = [rows["length"].to_numpy().astype(np.int64)]
        if "fit" in components:
            self.fits = _fits(rows)
            columns.append(np.full(len(rows), self.fits.itemsize * FIT_VALUES))
        if "txt" in components:
            labels = rows["label"].combine_chunks()
            self.texts = [text.encode() for text in labels.dictionary.to_pylist()]
            self.codes = labels.indices.fill_null(-1).to_numpy(zero_copy_only=False)
            columns.append(np.array([*map(len, self.texts), -1], np.int64)[self.codes])
        self.lengths = np.stack(columns, axis=1)
        self.present = self.lengths >= 0
        self.offsets, self.total = layout(self.lengths)

    @property
    def headers(self) -> Bytes:
        """(m, 512) headers of the members, sample by sample."""
        names = [[f"{key}.{suffix}" for suffix in self.components] for key in self.keys]
        return headers(np.array(names)[self.present].tolist(), self.lengths[self.present])

    def write(self, tar: Bytes) -> None:
        """Fill a buffer of ``total`` bytes in, all but the JPEGs."""
        blocks = tar.reshape(-1, BLOCK)
        ends = (self.offsets + self.lengths)[self.present]
        blocks[ends[ends % BLOCK > 0] // BLOCK] = 0  # padding; the members themselves come later
        blocks[-END // BLOCK :] = 0
        blocks[self.offsets[self.present] // BLOCK - 1] = self.headers
        for sample, component, data in self.small():
            at = self.offsets[sample, component][:, None] + np.arange(data.shape[1])
            tar[at] = data

    def small(self) -> list[tuple[Ints, int, Bytes]]:
        """Members but the JPEGs, by equal length: numbers of samples, of the component, and their bytes."""
        found = []
        if "fit" in self.components:
            found.append((np.arange(len(self.keys)), self.components.index("fit"), self.fits.view(np.uint8)))
        if "txt" in self.components:
            for code, text in enumerate(self.texts):
                samples = np.flatnonzero(self.codes == code)
                data = np.broadcast_to(np.frombuffer(text, np.uint8), (len(samples), len(text)))
                found.append((samples, self.components.index("txt"), data))
        return found

    def dali_index(self) -> bytes:
        """``v1.2 n``, then a line per sample: extension, data offset, size and name of each member."""
        lines = [f"v1.2 {len(self.keys)}"]
        where, sizes = self.offsets.tolist(), self.lengths.tolist()
        for key, offsets, lengths in zip(self.keys, where, sizes, strict=True):
            members = zip(self.components, offsets, lengths, strict=True)
            lines.append(" ".join(f"{c} {at} {size} {key}.{c}" for c, at, size in members if size >= 0))
        return ("\n".join(lines) + "\n").encode()


def _fits(rows: pa.Table) -> npt.NDArray[np.float32]:
    """(n, 9) little-endian float32 of the fits in an index."""
    out = np.zeros((len(rows), FIT_VALUES), "<f4")
    for column, place in (("he", slice(0, 6)), ("max_c", slice(6, 8))):
        values = rows[column].combine_chunks()
        valid = values.is_valid().to_numpy(zero_copy_only=False)
        numbers = values.drop_null().flatten().to_numpy(zero_copy_only=False)
        out[valid, place] = numbers.reshape(-1, place.stop - place.start)
    status = rows["stain_status"].combine_chunks()
    codes = np.array([STATUSES.index(name) for name in status.dictionary.to_pylist()], np.float32)
    out[:, 8] = codes[status.indices.to_numpy(zero_copy_only=False)]
    return out


def parquet(rows: pa.Table) -> bytes:
    """An index as it is written; equal rows give equal bytes."""
    file = io.BytesIO()
    pq.write_table(rows, file, compression="zstd")
    return file.getvalue()
