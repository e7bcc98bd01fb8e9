"""Mixing: `pathprep mix` against copying the same bytes, and against a shuffle buffer piped into new shards.

    python bench/bench_mix.py [--tiles 40000] [--rounds 5] [--json [FILE]]

The floor copies the datasets' tars one after the other. The peer is what one writes with webdataset: its
reader over the tars in random order, its shuffle buffer, its ShardWriter. Buffer and `--memory` hold the same
share of the tiles. All end with their bytes on the disk (fsync). They take turns; sources are in the page
cache for all of them. Tiles are random bytes of a 256 px JPEG's length: nobody looks inside.

How well it is mixed: the share of neighbours in a shard that come from one slide, beside the share that a
perfect shuffle would have.
"""

import argparse
import os
import random
import shutil
import statistics
import tarfile
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import webdataset as wds
from machine import add_json, interleave, save
from rich.console import Console
from rich.table import Table

from pathprep.dataset.marker import GridRecord, SlideMarker, SlideRecord
from pathprep.dataset.schema import FOLDERS, FORMAT, SCHEMA, VERSION, build_id
from pathprep.dataset.writer import ShardWriter
from pathprep.mixed.make import GB, mix
from pathprep.storage import atomic

SIDE = 256


def make(root: Path, slides: int, tiles: int) -> int:
    """A dataset; returns the bytes of its tars."""
    params = {"tile": SIDE, "mpp": 0.5, "mode": "resize", "stain": {"mode": "none"}}
    build = build_id(params)
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    info = {"format": FORMAT, "version": VERSION, "build_id": build, "params": params}
    atomic.write_json(root / "dataset.json", info)
    rng = np.random.default_rng(0)
    # slides differ in size as they do in archives
    counts = rng.multinomial(tiles, rng.dirichlet(np.full(slides, 2.0)))
    row = {name: 0 for name in SCHEMA.names if name not in ("offset", "length", "crc32")}
    row |= {"side": SIDE, "stored": SIDE, "stain_status": "none", "he": None, "max_c": None}
    row |= {name: None for name in ("label", "group", "source") if name in row}
    marker = SlideMarker(
        build_id=build,
        source=SlideRecord("slide.svs", None),
        inputs={},
        reader="openslide",
        vendor=None,
        width=0,
        height=0,
        mpp=0.5,
        mpp_source="tags",
        grid=GridRecord(0, 0, SIDE, SIDE, SIDE, 0, 1),
        counts={},
        stain={},
        stain_fit=None,
        seconds={},
    )
    for slide, count in enumerate(counts.tolist()):
        with ShardWriter(root, f"slide-{slide:03}") as writer:
            for number, length in enumerate(
                rng.normal(16_000, 3_000, count).clip(4_000).astype(int).tolist()
            ):
                place = {"x": SIDE * (number % 100), "y": SIDE * (number // 100)}
                writer.add(rng.bytes(length), {**row, **place})
            writer.commit(marker, {})
    return sum(path.stat().st_size for path in (root / "shards").glob("*.tar"))


def flush(folder: Path) -> None:
    """Wait until every file is on the disk."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())


def fresh(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def copy(source: Path, out: Path) -> None:
    """The floor."""
    fresh(out)
    for path in sorted((source / "shards").glob("*.tar")):
        with path.open("rb") as read, (out / path.name).open("wb") as write:
            shutil.copyfileobj(read, write, 8 << 20)
            write.flush()
            os.fsync(write.fileno())


def ours(source: Path, out: Path, per_shard: int, memory: float) -> None:
    """pathprep mix."""
    mix([source], fresh(out), tiles_per_shard=per_shard, memory=memory)


def peer(source: Path, out: Path, per_shard: int, buffer: int) -> None:
    """What a user writes with webdataset."""
    fresh(out)
    urls = sorted(map(str, (source / "shards").glob("*.tar")))
    samples = wds.WebDataset(urls, shardshuffle=len(urls), seed=0).shuffle(
        buffer, initial=buffer, rng=random.Random(0)
    )
    with wds.ShardWriter(str(out / "mixed-%06d.tar"), maxcount=per_shard, verbose=0) as writer:
        for sample in samples:
            writer.write({"__key__": sample["__key__"], "jpg": sample["jpg"]})
    flush(out)


def neighbours(folder: Path) -> tuple[float, float]:
    """Share of neighbours within a shard from the same slide, and in a perfect shuffle."""
    same = pairs = 0
    counts: dict[str, int] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            slides = [name.rpartition("__")[0] for name in tar.getnames()]
        same += sum(a == b for a, b in pairwise(slides))
        pairs += len(slides) - 1
        for slide in slides:
            counts[slide] = counts.get(slide, 0) + 1
    total = sum(counts.values())
    return same / pairs, sum(n * (n - 1) for n in counts.values()) / (total * (total - 1))


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tiles", type=int, default=40_000)
    parser.add_argument("--slides", type=int, default=40)
    parser.add_argument("--per-shard", type=int, default=5_000)
    parser.add_argument("--held", type=float, default=0.25, help="share of the tiles that memory holds")
    parser.add_argument("--rounds", type=int, default=5)
    add_json(parser)
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = root / "dataset"
        print(f"making {options.slides} slides of {options.tiles} tiles")
        size = make(source, options.slides, options.tiles)
        memory, buffer = options.held * size / GB, int(options.held * options.tiles)
        cases = {
            "copy": partial(copy, source, root / "copy"),
            "pathprep": partial(ours, source, root / "ours", options.per_shard, memory),
            "webdataset": partial(peer, source, root / "peer", options.per_shard, buffer),
        }
        seconds = interleave(cases, options.rounds)
        places = {"pathprep": "ours/shards", "webdataset": "peer"}
        mixed = {case: neighbours(root / place) for case, place in places.items()}

    title = f"Mixing {options.tiles} tiles, {size / 1e6:.0f} MB, median of {options.rounds} rounds"
    table = Table(title=title)
    for heading in ("", "seconds", "tiles/s", "MB/s", "x peer", "x copy", "same slide", "by chance"):
        table.add_column(heading, justify="right" if heading else "left")
    median = {case: statistics.median(values) for case, values in seconds.items()}
    for case, value in median.items():
        shares = [f"{share:.2%}" for share in mixed[case]] if case in mixed else ["", ""]
        table.add_row(
            case,
            f"{value:.2f}",
            f"{options.tiles / value:,.0f}",
            f"{size / value / 1e6:,.0f}",
            f"{median['webdataset'] / value:.2f}",
            f"{median['copy'] / value:.2f}",
            *shares,
        )
    Console().print(table)
    results = {
        "tiles": options.tiles,
        "slides": options.slides,
        "bytes": size,
        "per_shard": options.per_shard,
        "held": options.held,
        "seconds": seconds,
        "median": median,
        "neighbours": {case: {"same_slide": a, "chance": b} for case, (a, b) in mixed.items()},
    }
    save(options.json, "bench_mix", results)


if __name__ == "__main__":
    main()
