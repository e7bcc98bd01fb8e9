"""Sharding with Macenko: `pathprep shard` against the script that one would otherwise write.

    python bench/bench_shard.py [--size 16384] [--native-tile 240] [--keep FOLDER] [--slides FILE...]
        [--cores 1 2] [--skip plain] [--rounds 3] [--json]

The plain script is openslide + torchstain + Pillow + webdataset, one process, one tile after another, on
the very tiles that pathprep keeps, so that it need not find tissue. The floor decodes and encodes the
same tiles and does nothing else, on all cores. Each is a whole command in a process of its own, start-up
included; they take turns. The slide is drawn (`pathprep synth`, 0.5 MPP), unless slides are given. With an
NVIDIA GPU, `pathprep shard --gpus 1` takes its turn, too; with --cores, pathprep on so many cores, with
four workers. What pathprep's own runs take: account.py.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import account
import pyarrow.parquet as pq
from machine import add_json, describe, interleave, save
from rich.console import Console
from rich.table import Table


def indexes(dataset: Path) -> Iterator[tuple[Path, Path]]:
    """Each slide of a dataset, and the index of the tiles that pathprep keeps of it."""
    for marker in sorted((dataset / "slides").glob("*.json")):
        source = json.loads(marker.read_bytes())["source"]["path"]
        yield Path(source), dataset / "index" / f"{marker.stem}.parquet"


def plain(dataset: Path, out: Path) -> None:
    """What a user writes."""
    import numpy as np
    import openslide
    import webdataset as wds
    from PIL import Image
    from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

    normaliser = NumpyMacenkoNormalizer()
    for slide, index in indexes(dataset):
        image = openslide.OpenSlide(str(slide))
        with wds.TarWriter(f"{out}-{index.stem}.tar") as writer:
            for row in pq.read_table(index, columns=["x", "y", "side"]).to_pylist():
                region = image.read_region((row["x"], row["y"]), 0, (row["side"], row["side"]))
                tile = np.asarray(region.convert("RGB"))
                with contextlib.suppress(np.linalg.LinAlgError):  # it stays as it is, as in published code
                    tile = normaliser.normalize(tile, stains=False)[0]
                data = io.BytesIO()
                Image.fromarray(np.asarray(tile, np.uint8)).save(data, "JPEG", quality=90)
                writer.write({"__key__": f"{row['x']}_{row['y']}", "jpg": data.getvalue()})


def floor(dataset: Path, _out: Path) -> None:
    """Decode and encode the tiles on all cores: the codec's own time."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for slide, index in indexes(dataset):
            recode(slide, index, pool)


def recode(slide: Path, index: Path, pool: ThreadPoolExecutor) -> None:
    """The floor of one slide."""
    import numpy as np

    from pathprep.images import jpeg
    from pathprep.slides.grid import BLOCK
    from pathprep.slides.slide import Slide

    table = pq.read_table(index, columns=["x", "y", "side"])
    if not table.num_rows:
        return
    side = table["side"][0].as_py()
    places = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], 1)
    step = max(side, BLOCK // side * side)
    blocks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for x, y in places.tolist():
        blocks.setdefault((x // step, y // step), []).append((x, y))

    with Slide(slide) as image:

        def work(tiles: list[tuple[int, int]]) -> None:
            low, high = np.min(tiles, 0), np.max(tiles, 0) + side
            pixels = image.read(0, *low.tolist(), *(high - low).tolist())
            for x, y in tiles - low:
                jpeg.encode(np.ascontiguousarray(pixels[y : y + side, x : x + side]), 90, "420")

        list(pool.map(work, blocks.values()))


PEERS = {"plain": plain, "floor": floor}
OURS: dict[str, list[str]] = {"pathprep": [], "pathprep --gpus 1": ["--gpus", "1"]}


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=16384, help="side of the drawn slide, pixels")
    parser.add_argument("--native-tile", type=int, default=240, help="side of its own JPEG tiles: 240 or 256")
    parser.add_argument(
        "--slides", type=Path, nargs="+", metavar="FILE", help="slides instead of a drawn one"
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="draw there, unless it was drawn before")
    parser.add_argument("--cores", type=int, nargs="+", default=[], metavar="N")
    parser.add_argument("--skip", choices=list(PEERS), nargs="+", default=[])
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser)
    parser.add_argument("--case", choices=list(PEERS), help=argparse.SUPPRESS)
    parser.add_argument("--files", nargs=2, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:  # the child process of one measurement
        PEERS[options.case](*options.files)
        return

    from pathprep.synth.archive import synthesize  # not at the top: the plain script must not pay for it

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        drawn = (options.keep or root) / f"{options.size}-{options.native_tile}"
        slides: list[Path] = options.slides or sorted(drawn.glob("*.tif"))
        if not slides:
            print(f"drawing a slide of {options.size} px")
            slides = synthesize(
                drawn, slides=1, size=options.size, native_tile=options.native_tile, workers=2
            )
        program = [sys.executable, "-m", "pathprep"]
        commands: dict[str, list[str | Path]] = {
            case: [*program, "shard", *slides, "--out", root / case, "--rebuild", *added]
            for case, added in OURS.items()
            if not added or describe()["gpus"]
        }
        for cores in options.cores:
            limited: list[str | Path] = ["taskset", "--cpu-list", f"0-{cores - 1}", *commands["pathprep"]]
            limited[limited.index("--out") + 1] = root / f"cores-{cores}"
            commands[f"pathprep, {cores} cores"] = [*limited, "--workers", str(min(4, len(slides)))]
        accounts = {
            case: account.account(words, Path(words[words.index("--out") + 1]))
            for case, words in commands.items()
        }
        kept = root / "pathprep"  # its index names the tiles for the others
        tiles = sum(pq.read_metadata(index).num_rows for _, index in indexes(kept))
        for case in (case for case in PEERS if case not in options.skip):
            commands[case] = [sys.executable, __file__, "--case", case, "--files", kept, root / "out"]

        def run(case: str) -> None:
            # torchstain's small matrices are slower with BLAS threads than without: the peer at its best
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(commands[case], check=True, env=environment, **quiet)

        seconds = interleave({case: partial(run, case) for case in commands}, options.rounds)

    table = Table(title=f"Sharding {tiles} tiles with Macenko, median of {options.rounds} rounds")
    for heading in ("", "seconds", "tiles/s", "x plain", "x floor"):
        table.add_column(heading, justify="right" if heading else "left")
    median = {case: statistics.median(values) for case, values in seconds.items()}
    for case, value in median.items():
        table.add_row(
            case,
            f"{value:.2f}",
            f"{tiles / value:,.0f}",
            *(f"{median[peer] / value:.2f}" if peer in median else "" for peer in PEERS),
        )
    console = Console()
    console.print(table)
    console.print(account.table(accounts))
    made = {"size": options.size, "native_tile": options.native_tile}
    save(
        options.json,
        "bench_shard-real" if options.slides else f"bench_shard-{options.size}-{options.native_tile}",
        {
            **({"slides": [path.name for path in slides]} if options.slides else made),
            "tiles": tiles,
            "seconds": seconds,
            "median": median,
            "accounts": accounts,
        },
    )


if __name__ == "__main__":
    main()
