"""The dataset folder on disk: writing a slide's shard, committing it, reading tiles back by index.

    dataset.json                 format version, every parameter that shaped the pixels, their hash (build id)
    shards/<slide>.tar           WebDataset; members <x>_<y>.jpg (level-0 pixels); absent if no tile was kept
    shards/<slide>.idx           DALI's index v1.2 of that tar
    index/<slide>.parquet        a row per tile, in the order of the tar (SCHEMA)
    slides/<slide>.json          the commit marker, written last
    dropped/<slide>.parquet      a row per tile that a quality filter dropped (DROPPED); absent if none was
    failed/<slide>.json          quarantine
    previews/<slide>.jpg         thumbnail; previews/<slide>.geojson: tissue contours, level-0 pixels
    tiles/                       index/ once more, for opening many slides (pathprep.corpus); may be deleted

Files are renamed into place one by one and the marker last, so a slide without a valid marker does
not exist for a reader. Equal inputs and parameters give equal bytes.

A dataset of imported tiles (``kind`` "tiles", see pathprep.tilesets) has the same layout; its "slides" are
shards of a set, x is a running number, y is 0, and what only a slide has is null.
"""

import hashlib
import io
import json
import os
import re
import tarfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from pathprep import atomic
from pathprep.errors import DatasetError, NameTaken
from pathprep.qc import FIGURES
from pathprep.tileindex import TileIndex

FORMAT = "pathprep-dataset"
VERSION = 1
FOLDERS = ("shards", "index", "dropped", "slides", "failed", "previews")
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

# Tiles that are not stored: place and figures as in SCHEMA, in the order in which they were cut
_PLACE = ("x", "y", "column", "row", "region", "side", "stored", "mpp", "tissue")
DROPPED = pa.schema(
    [
        *(SCHEMA.field(name) for name in (*_PLACE, *FIGURES)),
        ("reason", pa.dictionary(pa.int8(), pa.string())),
    ]
)


def slide_name(stem: str) -> str:
    """A name without dots (they break WebDataset keys): every other character becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", stem)


def build_id(params: Mapping[str, Any]) -> str:
    """Hash of every parameter that shapes the pixels: 16 hex digits."""
    canonical = json.dumps(params, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def sha256(path: Path) -> str:
    """Hash of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# A header without name and size, which tarfile fills with NULs and zeros; the checksum counts as spaces
_BLANK = tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT)
_BLANK_SUM = sum(_BLANK[100:124]) + sum(_BLANK[136:148]) + 8 * ord(" ") + sum(_BLANK[156:])


class ShardWriter:
    """Writes one slide: tar, index and previews under temporary names, then all of them at once.

    Use as a context manager; leaving it without ``commit`` removes what was written. Memory holds
    the index rows only. ``replace``: even a shard that is committed and the same.
    """

    def __init__(self, root: Path, slide: str, replace: bool = False) -> None:
        self.root, self.slide, self.replace = root, slide, replace
        self._rows: list[dict[str, Any]] = []
        self._dropped: list[Mapping[str, Any]] = []
        self._position = 0
        self._hash = hashlib.sha256()
        self._stack = ExitStack()
        self._tar, self._tar_temporary = self._stack.enter_context(
            atomic.pending(self._path("shards", "tar"))
        )

    def _path(self, folder: str, suffix: str) -> Path:
        return self.root / folder / f"{self.slide}.{suffix}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        atomic.discard(self._tar_temporary)

    def add(self, jpeg: bytes, row: Mapping[str, Any]) -> None:
        """Append one tile; ``row`` has SCHEMA's columns but offset, length, crc32; null if left out."""
        header = tar_header(f"{row['x']}_{row['y']}.jpg", len(jpeg))
        padding = -len(jpeg) % tarfile.BLOCKSIZE
        offset = self._position + len(header)
        self._write(header + jpeg + b"\0" * padding)
        self._rows.append({**row, "offset": offset, "length": len(jpeg), "crc32": zlib.crc32(jpeg)})

    def drop(self, row: Mapping[str, Any]) -> None:
        """Put a tile on record that is not stored; ``row`` has DROPPED's columns, others are left out."""
        self._dropped.append(row)

    def _write(self, data: bytes) -> None:
        self._tar.write(data)
        self._hash.update(data)
        self._position += len(data)

    def commit(self, marker: Mapping[str, Any], previews: Mapping[str, bytes]) -> dict[str, Any]:
        """Publish every file, the marker last.

        Args:
            marker: what is known of the slide; ``files`` (sizes and SHA-256) and ``tiles`` are added.
            previews: file suffix -> bytes, written to ``previews/<slide>.<suffix>``.

        Returns:
            The marker as written; that of another run which has committed the same shard meanwhile stays.
        """
        files: dict[str, bytes] = {
            f"previews/{self.slide}.{suffix}": data for suffix, data in previews.items()
        }
        files[f"index/{self.slide}.parquet"] = _parquet(self._rows, SCHEMA)
        if self._dropped:
            files[f"dropped/{self.slide}.parquet"] = _parquet(self._dropped, DROPPED)
        tar = self._path("shards", "tar")
        recorded: dict[str, dict[str, Any]] = {}
        if self._rows:
            files[f"shards/{self.slide}.idx"] = dali_index(self._rows)
            self._write(b"\0" * (2 * tarfile.BLOCKSIZE))
            recorded[f"shards/{tar.name}"] = {"size": self._position, "sha256": self._hash.hexdigest()}
        for name, data in sorted(files.items()):
            recorded[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        self._stack.close()  # flushes the tar to disk
        standing = committed(self.root, self.slide, marker.get("build_id"), marker.get("inputs"))
        if standing is not None and standing["files"] == recorded and not self.replace:
            # the other run may have ended and count on it: there must be no moment without it
            self._path("failed", "json").unlink(missing_ok=True)
            return standing
        self._refuse_to_replace(marker)
        # an earlier build's marker must not vouch for the files that now take its files' place
        self._path("slides", "json").unlink(missing_ok=True)
        if self._rows:
            atomic.publish(self._tar_temporary, tar)
        else:  # an earlier build may have kept tiles
            tar.unlink(missing_ok=True)
            tar.with_suffix(".idx").unlink(missing_ok=True)
        if not self._dropped:
            self._path("dropped", "parquet").unlink(missing_ok=True)
        for name, data in sorted(files.items()):
            atomic.write_bytes(self.root / name, data)
        done = sealed({**marker, "slide": self.slide, "tiles": len(self._rows), "files": recorded})
        atomic.write_json(self._path("slides", "json"), done)
        self._path("failed", "json").unlink(missing_ok=True)
        return done

    def _refuse_to_replace(self, marker: Mapping[str, Any]) -> None:
        """Raises where the dataset, or the slide's name in it, was taken over while the slide was made."""
        info = read_marker(self.root / "dataset.json")
        if info is not None and info.get("build_id") != marker.get("build_id"):
            raise DatasetError(
                f"{self.root}: another run has begun to rebuild the dataset with other parameters"
            )
        standing = read_sealed(self._path("slides", "json"))
        if self.replace or standing is None or standing.get("build_id") != marker.get("build_id"):
            return
        made, now = standing["source"], marker["source"]
        if made["path"] != now["path"] and not same_inputs(standing, marker["inputs"]):
            raise NameTaken(
                f"{now['path']}: another run has sharded {made['path']} under the name {self.slide} "
                "meanwhile; run the command again, which finds another name"
            )


def tar_header(name: str, size: int) -> bytes:
    """The 512 bytes before a file in a tar, as tarfile makes them, which takes ten times as long.

    Args:
        name: ASCII, at most 100 characters. size: bytes of the file, under 8 GiB.
    """
    named, sized = name.encode("ascii"), b"%011o\0" % size
    checksum = _BLANK_SUM + sum(named) + sum(sized)
    return b"".join(
        (
            named.ljust(100, b"\0"),
            _BLANK[100:124],
            sized,
            _BLANK[136:148],
            b"%06o\0 " % checksum,
            _BLANK[156:],
        )
    )


def _parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), file, compression="zstd")
    return file.getvalue()


def dali_index(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """DALI's index of a tar: ``v1.2 n``, then one line per sample: extension, data offset, size, name."""
    lines = [f"jpg {row['offset']} {row['length']} {row['x']}_{row['y']}.jpg\n" for row in rows]
    return f"v1.2 {len(lines)}\n{''.join(lines)}".encode()


def is_done(root: Path, slide: str, build: str, inputs: Mapping[str, Any]) -> bool:
    """Whether a slide is committed with this build id, from these inputs, and its files have their size."""
    return committed(root, slide, build, inputs) is not None


def committed(
    root: Path,
    slide: str,
    build: str | None,
    inputs: Mapping[str, Any] | None,
    size: Callable[[str], int] | None = None,
) -> dict[str, Any] | None:
    """The marker of a slide that is done (see ``is_done``), else None; ``size``: see ``vouches``."""
    marker = read_sealed(root / "slides" / f"{slide}.json")
    return marker if vouches(marker, build, inputs, size or (lambda name: size_of(root / name))) else None


def vouches(
    marker: Mapping[str, Any] | None,
    build: str | None,
    inputs: Mapping[str, Any] | None,
    size: Callable[[str], int],
) -> bool:
    """Whether a marker stands for this build and these inputs, and its files have their size.

    ``size``: bytes of a file of the dataset, by its name; -1 if it is absent.
    """
    if marker is None or inputs is None or marker.get("build_id") != build:
        return False
    if not same_inputs(marker, inputs):
        return False
    return all(size(name) == entry["size"] for name, entry in marker["files"].items())


def same_inputs(marker: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    """Whether a marker's slide was made from these inputs (Source.inputs).

    The run's default MPP is one of them for slides that needed it.
    """
    made = marker.get("inputs", {})
    return bool(made == {key: inputs[key] for key in inputs if key != "default_mpp" or key in made})


def sealed(marker: Mapping[str, Any]) -> dict[str, Any]:
    """A marker with the hash of all else in it, as ``read_sealed`` demands it."""
    content = {key: value for key, value in marker.items() if key != "seal"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "seal": hashlib.sha256(canonical.encode()).hexdigest()}


def read_sealed(path: Path) -> dict[str, Any] | None:
    """A slide's marker; None if it is absent, or not as it was written."""
    marker = read_marker(path)
    return marker if marker is not None and marker == sealed(marker) else None


def read_marker(path: Path) -> dict[str, Any] | None:
    """A JSON file's content; None if it is absent or not JSON. Of slides/, use ``read_sealed``."""
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def size_of(path: Path) -> int:
    """Bytes of a file; -1 if it is absent."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1


class Dataset:
    """Reads a dataset folder; only committed slides of the current build exist for it.

    Args:
        root: the folder.

    Raises:
        DatasetError: no dataset there, of a newer format version, or a committed file is gone.
    """

    OPEN_TARS = 256  # file handles kept; well under the usual limit of 1024

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        info = read_marker(self.root / "dataset.json")
        if info is None or info.get("format") != FORMAT:
            remote = ":" in self.root.parts[0] if self.root.parts else False
            fix = "copy it to a local folder first" if remote else "make one with `pathprep shard`"
            raise DatasetError(f"{root}: not a dataset (no dataset.json); {fix}")
        if info["version"] != VERSION:
            raise DatasetError(
                f"{self.root}: format version {info['version']}, this pathprep reads version {VERSION}"
            )
        if build_id(info["params"]) != info["build_id"]:
            raise DatasetError(
                f"{self.root}/dataset.json: damaged, its parameters are not those of its build id; run the "
                "`pathprep shard` command that made it, with --rebuild if it says so"
            )
        self.info: dict[str, Any] = info
        self.params: dict[str, Any] = info["params"]
        self._tars: OrderedDict[str, int] = OrderedDict()

    @cached_property
    def markers(self) -> dict[str, dict[str, Any]]:
        """Committed slides of this build: name -> marker, in the order of names."""
        found = {p.stem: read_sealed(p) for p in sorted((self.root / "slides").glob("*.json"))}
        return {
            n: m for n, m in found.items() if m is not None and m.get("build_id") == self.info["build_id"]
        }

    @property
    def kind(self) -> str:
        """``slides``, or ``tiles`` if it was imported: then the index has labels and groups."""
        return str(self.params.get("kind", "slides"))

    @property
    def slides(self) -> list[str]:
        """Names of the committed slides, sorted; some may hold no tile."""
        return list(self.markers)

    def failed(self) -> dict[str, dict[str, Any]]:
        """Quarantined slides: name -> {slide path, stage, error, attempts}."""
        found = {p.stem: read_marker(p) for p in sorted((self.root / "failed").glob("*.json"))}
        return {name: entry for name, entry in found.items() if entry is not None}

    def index(self, slide: str, columns: list[str] | None = None) -> pa.Table:
        """A slide's rows (SCHEMA), all columns or those named; columns that an older file lacks are null."""
        return self._table(f"index/{slide}.parquet", columns, SCHEMA)

    def dropped(self, slide: str, columns: list[str] | None = None) -> pa.Table:
        """A slide's tiles that quality filters dropped (DROPPED), all columns or those named; maybe none."""
        name = f"dropped/{slide}.parquet"
        if name in self.markers[slide]["files"]:
            return self._table(name, columns, DROPPED)
        table = DROPPED.empty_table()
        return table if columns is None else table.select(columns)

    def _table(self, name: str, columns: list[str] | None, schema: pa.Schema) -> pa.Table:
        path = self.root / name
        try:
            return pq.read_table(path, columns=columns, schema=schema)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(
                f"{path}: cannot be read ({error}); run `pathprep verify {self.root}`"
            ) from None

    def tiles(self, columns: Iterable[str] = ("offset", "length", "stored")) -> TileIndex:
        """The whole dataset's tiles as arrays, for random access; of many slides in milliseconds
        (pathprep.corpus), but for the first time.

        Args:
            columns: of SCHEMA; ``region`` brings the tables that find a region's tiles.

        Raises:
            DatasetError: a slide's table is not the one that its marker vouches for.
            KeyError: no such column.
        """
        from pathprep import corpus  # it reads this format

        return corpus.tiles(self, columns)

    def tile_counts(self) -> dict[str, int]:
        """Committed slides and their number of tiles, in the order of names; reads no marker if it can."""
        from pathprep import corpus

        return corpus.tile_counts(self)

    def marker(self, slide: str) -> dict[str, Any]:
        """One slide's marker, without reading the others.

        Raises:
            DatasetError: the slide is not committed.
        """
        found = read_sealed(self.root / "slides" / f"{slide}.json")
        if found is None or found.get("build_id") != self.info["build_id"]:
            raise DatasetError(f"{self.root}: slide {slide} is not committed; run `pathprep shard` again")
        return found

    def texts(self, column: str) -> list[str | None]:
        """``label``, ``group`` or ``source`` of each tile, in the order of ``tiles``; None if it has none."""
        slides = [name for name, marker in self.markers.items() if marker["tiles"]]
        return [text for name in slides for text in self.index(name, [column])[column].to_pylist()]

    def read(self, slide: str, offset: int, length: int) -> bytes:
        """One member's bytes.

        Raises:
            DatasetError: the tar is gone or shorter than its index says.
        """
        data = os.pread(self._open(slide), length, offset)
        if len(data) != length:
            raise DatasetError(
                f"{self.root}/shards/{slide}.tar: {len(data)} of {length} bytes at {offset}; "
                f"run `pathprep verify {self.root}`"
            )
        return data

    def _open(self, slide: str) -> int:
        if slide in self._tars:
            self._tars.move_to_end(slide)
            return self._tars[slide]
        if len(self._tars) >= self.OPEN_TARS:
            os.close(self._tars.popitem(last=False)[1])
        path = self.root / "shards" / f"{slide}.tar"
        try:
            self._tars[slide] = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror}; run `pathprep verify {self.root}`") from None
        return self._tars[slide]

    def close(self) -> None:
        """Close the tars that reads have opened."""
        while self._tars:
            os.close(self._tars.popitem()[1])
