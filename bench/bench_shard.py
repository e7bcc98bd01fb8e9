"""Sharding with Macenko: `pathprep shard` against the script that one would otherwise write.

    python bench/bench_shard.py [--size 16384] [--rounds 3] [--json [FILE]]

The plain script is openslide + torchstain + Pillow + webdataset, one process, one tile after another, on
the very tiles that pathprep keeps, so that it need not find tissue. The floor decodes and encodes the
same tiles and does nothing else, on all cores. Each is a whole command in a process of its own, start-up
included; they take turns. The slide is drawn (`pathprep synth`): 240 px native tiles, 0.5 MPP.
"""

import argparse
import contextlib
import io
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from machine import add_json, interleave, save
from rich.console import Console
from rich.table import Table


def plain(slide: Path, index: Path, out: Path) -> None:
    """What a user writes."""
    import numpy as np
    import openslide
    import webdataset as wds
    from PIL import Image
    from torchstain.numpy.normalizers import NumpyMacenkoNormalizer

    normaliser = NumpyMacenkoNormalizer()
    image = openslide.OpenSlide(str(slide))
    with wds.TarWriter(str(out)) as writer:
        for row in pq.read_table(index, columns=["x", "y", "side"]).to_pylist():
            region = image.read_region((row["x"], row["y"]), 0, (row["side"], row["side"]))
            tile = np.asarray(region.convert("RGB"))
            with contextlib.suppress(np.linalg.LinAlgError):  # it stays as it is, as in published code
                tile = normaliser.normalize(tile, stains=False)[0]
            data = io.BytesIO()
            Image.fromarray(np.asarray(tile, np.uint8)).save(data, "JPEG", quality=90)
            writer.write({"__key__": f"{row['x']}_{row['y']}", "jpg": data.getvalue()})


def floor(slide: Path, index: Path, _out: Path) -> None:
    """Decode and encode the tiles on all cores: the codec's own time."""
    import numpy as np

    from pathprep import jpeg
    from pathprep.grid import BLOCK
    from pathprep.slide import Slide

    table = pq.read_table(index, columns=["x", "y", "side"])
    side = table["side"][0].as_py()
    places = np.stack([table["x"].to_numpy(), table["y"].to_numpy()], 1)
    step = BLOCK // side * side
    blocks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for x, y in places.tolist():
        blocks.setdefault((x // step, y // step), []).append((x, y))

    with Slide(slide) as image:

        def work(tiles: list[tuple[int, int]]) -> None:
            low, high = np.min(tiles, 0), np.max(tiles, 0) + side
            pixels = image.read(0, *low.tolist(), *(high - low).tolist())
            for x, y in tiles - low:
                jpeg.encode(np.ascontiguousarray(pixels[y : y + side, x : x + side]), 90, "420")

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(work, blocks.values()))


def ours(slide: Path, _index: Path, out: Path) -> None:
    """The command."""
    command = [str(Path(sys.executable).with_name("pathprep")), "shard", str(slide), "--out", f"{out}-d"]
    os.execv(command[0], [*command, "--rebuild"])


CASES = {"plain": plain, "pathprep": ours, "floor": floor}


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=16384, help="side of the drawn slide, pixels")
    parser.add_argument("--rounds", type=int, default=3)
    add_json(parser)
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--files", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:  # the child process of one measurement
        CASES[options.case](*options.files)
        return

    from pathprep.synth import synthesize  # not at the top: the plain script must not pay for it

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        print(f"drawing a slide of {options.size} px")
        slide = synthesize(root, slides=1, size=options.size, workers=2)[0]
        index = root / "out-d" / "index" / f"{slide.stem}.parquet"
        files = [slide, index, root / "out"]

        def run(case: str) -> None:
            command = [sys.executable, __file__, "--case", case, "--files", *files]
            # torchstain's small matrices are slower with BLAS threads than without: the peer at its best
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            subprocess.run(command, check=True, env=environment, **quiet)

        run("pathprep")  # its index names the tiles for the others
        tiles = pq.read_metadata(index).num_rows
        seconds = interleave({case: partial(run, case) for case in CASES}, options.rounds)

    table = Table(title=f"Sharding {tiles} tiles of 256 px with Macenko, median of {options.rounds} rounds")
    for heading in ("", "seconds", "tiles/s", "x plain", "x floor"):
        table.add_column(heading, justify="right" if heading else "left")
    median = {case: statistics.median(values) for case, values in seconds.items()}
    for case, value in median.items():
        table.add_row(
            case,
            f"{value:.2f}",
            f"{tiles / value:,.0f}",
            f"{median['plain'] / value:.2f}",
            f"{median['floor'] / value:.2f}",
        )
    Console().print(table)
    save(
        options.json,
        "bench_shard",
        {"size": options.size, "tiles": tiles, "seconds": seconds, "median": median},
    )


if __name__ == "__main__":
    main()
