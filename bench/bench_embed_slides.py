"""Slides to features: one command against two, and against other toolkits.

    python bench/bench_embed_slides.py [SLIDES ...] [--model timm:vit_small_patch16_224] [--mpp 0.5]
        [--peers FOLDER] [--rounds 3] [--json [FILE]]

"one command" is `pathtrain embed MODEL slides/`, "two commands" are `pathprep shard --stain none` and
`pathtrain embed MODEL dataset`. The floors: "reading alone" cuts the same tiles in as many processes and
throws them away, "model alone" runs the network on as many images that lie in memory. No way is faster than
the slower of the two, and where both use the same cores, as without a card, than their sum.

Each is a whole command in a process of its own, start-up included, and they take turns. CPU seconds are of
the process and all that it started. Weights are random: it is speed that is measured. Without slides, drawn
ones are used. --peers names a folder of packages (`pip install --target FOLDER --no-deps ...`); slide2vec is
run if it can be imported from there (embed_peers.py), on the same slides, with the same network, on the CPU.
"""

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from machine import add_json, saved
from rich.console import Console
from rich.table import Table

CHILD_SUBREAPER = 36  # prctl: orphans of ours become our children, so that their CPU time is counted


def measured(*commands: list[str]) -> tuple[float, float]:
    """Wall seconds, and CPU seconds of all processes, of commands one after the other."""
    start, cpu = time.perf_counter(), 0.0
    for command in commands:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        said = process.stderr.read() if process.stderr else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        cpu += usage.ru_utime + usage.ru_stime
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{said}")
    seconds = time.perf_counter() - start
    while True:
        try:
            _, _, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return seconds, cpu
        cpu += usage.ru_utime + usage.ru_stime


def reading(slides: list[Path], mpp: float) -> None:
    """Tiles as one command cuts them, thrown away."""
    from pathprep.params.shard import ShardParams
    from pathprep.slides.find import find
    from pathprep.streaming.stream import Tiles, TileStream

    params = ShardParams.of(tile=224, mpp=mpp, stain="none")
    with TileStream(find(slides), params, Path(), workers=None) as stream:
        for event in stream:
            if isinstance(event, Tiles):
                event.release()


def model_alone(name: str, tiles: int) -> None:
    """The network on images in memory, in batches of the command's default."""
    import numpy as np
    import torch

    from pathtrain.features.encode import Passes
    from pathtrain.params.encoding import How
    from pathtrain.runs.opening import opened

    model, how = opened(name, "random"), How()
    images = torch.randint(0, 256, (how.batch, model.size, model.size, 3), dtype=torch.uint8)
    with Passes([model], how) as passes:
        for start in range(0, tiles, how.batch):
            count = min(how.batch, tiles - start)
            found = np.empty((count, *model.shape(model.size)), np.float32)
            passes.add(images[:count], [found], lambda: None)


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("slides", type=Path, nargs="*")
    parser.add_argument("--model", default="timm:vit_small_patch16_224")
    parser.add_argument("--mpp", type=float, default=0.5)
    parser.add_argument("--count", type=int, default=3, help="slides that are drawn")
    parser.add_argument("--size", type=int, default=4096, help="of drawn slides")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=Path)
    parser.add_argument("--only", nargs="+", help="cases, by their names in the table")
    add_json(parser)
    parser.add_argument("--case", choices=("reading", "model"), help=argparse.SUPPRESS)
    parser.add_argument("--tiles", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case == "reading":
        return reading(options.slides, options.mpp)
    if options.case == "model":
        return model_alone(options.model, options.tiles)
    ctypes.CDLL(None).prctl(CHILD_SUBREAPER, 1, 0, 0, 0)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, saved(options.json, "embed_slides", results):
        compare(options, Path(folder), results)
    return None


def compare(options: argparse.Namespace, root: Path, results: dict[str, Any]) -> None:
    """All cases, in turn."""
    program, slides = [sys.executable, "-m"], list(options.slides)
    if not slides:
        drawn = ["synth", str(root / "slides"), "--slides", str(options.count), "--size", str(options.size)]
        measured([*program, "pathprep", *drawn])
        slides = sorted((root / "slides").glob("*.tif"))
    names = [str(slide) for slide in slides]
    how = ["--tile", "224", "--mpp", f"{options.mpp:g}"]
    random = [options.model, "--weights", "random"]
    rounds = iter(range(1000))
    account: dict[str, Any] = {}

    def one() -> tuple[float, float]:
        out = root / f"one-{next(rounds)}"
        found = measured(
            [*program, "pathtrain", "embed", random[0], *names, *random[1:], *how, "--out", str(out),
             "--out-json", str(root / "one.json")]
        )  # fmt: skip
        account.update(json.loads((root / "one.json").read_text()))
        return found

    def two() -> tuple[float, float]:
        number = next(rounds)
        dataset, out = root / f"dataset-{number}", root / f"two-{number}"
        return measured(
            [*program, "pathprep", "shard", *names, *how, "--stain", "none", "--out", str(dataset)],
            [*program, "pathtrain", "embed", random[0], str(dataset), *random[1:], "--out", str(out)],
        )

    own = [sys.executable, str(Path(__file__)), "--mpp", f"{options.mpp:g}", "--model", options.model]
    one()  # kernels are compiled, files are in the cache; and the number of tiles is known
    tiles = account["tiles"]
    counts: dict[str, int] = {}  # of those that find others
    cases: dict[str, Callable[[], tuple[float, float]]] = {
        "one command": one,
        "two commands": two,
        "reading alone": lambda: measured([*own, "--case", "reading", *names]),
        "model alone": lambda: measured([*own, "--case", "model", "--tiles", str(tiles)]),
    }
    if options.peers:
        script = [sys.executable, str(Path(__file__).with_name("embed_peers.py")), str(options.peers)]
        more = [options.model.removeprefix("timm:"), f"{options.mpp:g}"]

        def peer() -> tuple[float, float]:
            out = root / f"peer-{next(rounds)}"
            found = measured([*script, *more, str(out), *names])
            counts["slide2vec"] = json.loads((out / "tiles.json").read_text())
            return found

        cases["slide2vec"] = peer
    cases = {name: call for name, call in cases.items() if not options.only or name in options.only}
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    cpu: dict[str, list[float]] = {name: [] for name in cases}
    waited = []
    for _ in range(options.rounds):
        for name, call in cases.items():
            wall, used = call()
            seconds[name].append(wall)
            cpu[name].append(used)
            if name == "one command":
                waited.append(account["model_waited"])
    table = Table(title=f"{len(slides)} slides, tiles of 224 px, {options.model}")
    for column in ("", "tiles", "seconds", "CPU s", "tiles/s", "CPU ms a tile", "time a tile, by one's"):
        table.add_column(column, justify="left" if not column else "right")
    base = statistics.median(seconds["one command"])
    for name in cases:
        wall, used = statistics.median(seconds[name]), statistics.median(cpu[name])
        found = counts.get(name, tiles)
        rate, each = found / wall, 1e3 * used / found
        relative = wall / found / base * tiles
        cells = (f"{found:,}", f"{wall:.1f}", f"{used:.1f}", f"{rate:.1f}", f"{each:.0f}", f"{relative:.2f}")
        table.add_row(name, *cells)
    Console().print(table)
    Console().print(f"the model waited {statistics.median(waited):.0%} of its time (one command)")
    results |= {
        "model": options.model,
        "tiles": {**dict.fromkeys(cases, tiles), **counts},
        "seconds": seconds,
        "cpu_seconds": cpu,
        "model_waited": waited,
        "load": os.getloadavg(),
    }


if __name__ == "__main__":
    main()
