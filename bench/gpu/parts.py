"""What is done on a card, in which order: the most valuable first, some 35 minutes on an H200.

Each part has a twin for the rehearsal, which runs on a CPU: the same script, at other sizes.
"""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from runner import Part

BENCH = Path(__file__).resolve().parents[1]
# Where tests marked gpu are: elsewhere pytest would load what they do not need
PLACES = ("gpu", "kernels", "pathprep/stain", "pathprep/tiles", "pathtrain/data", "pathtrain/stain")
TESTS = " ".join(f"tests/{place}" for place in PLACES)
SLIDES = 16  # that are sharded
SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")
# What a library warns of on a card that it was not tried on is shown, and fails nothing
PYTEST = "python -m pytest -q -p no:cacheprovider -W default"
TRAINING = "python bench/bench_train.py --dataset {work}/256px --steps 10 --rounds 3 --compile --batch"
DINOV2 = "python bench/bench_dinov2.py --steps 10 --recipe"
TINY = "python bench/bench_dinov2.py --recipe midnight-tiny --batch 4 --steps 1"
TOY = "python bench/bench_train.py --dataset {work}/256px --batch 4 --out-dim 64 --steps 1 --rounds 1"
# name, seconds at most, the command on a card, and in a rehearsal; --json is added to those of bench/
PARTS = [
    ("tests", 420, f"{PYTEST} -m 'gpu and not slow' {TESTS}", f"{PYTEST} -m 'not slow' tests/gpu"),
    (
        "macenko",
        100,
        "python bench/bench_macenko.py --devices gpu --rounds 5 --gpu-batch 32768",
        "python bench/bench_macenko.py --rounds 1 --batch 2",
    ),
    (
        "data",
        200,
        f"python bench/gpu/draw.py {{work}} --slides {SLIDES}",
        "python bench/gpu/draw.py {work} --slides 1 --size 3072",
    ),
    # each compiles a ViT-B first, with cold caches and on few cores for minutes
    ("train-64", 420, f"{TRAINING} 64", TOY),
    ("train-128", 360, f"{TRAINING} 128", TOY),
    ("dinov2-g", 420, f"{DINOV2} midnight --batch 32", TINY),
    ("dinov2-l", 300, f"{DINOV2} midnight --model vit_large_patch14_dinov2 --batch 64", TINY),
    ("dinov2-392", 360, f"{DINOV2} midnight-392 --batch 12", TINY),
    (
        "loader",
        200,
        "python bench/bench_loader.py {work}/256px {work}/512px --ours --batch 64 --batches 150",
        "python bench/bench_loader.py {work}/256px --ours --batch 4 --batches 1 --rounds 1",
    ),
    *(
        (
            tool,
            120,
            f"python bench/sanitize.py --limit 110 --tools {tool}",
            f"{PYTEST} --collect-only -p helpers.no_pool -m gpu tests/kernels",
        )
        for tool in SANITIZERS
    ),
    (
        "slide",
        150,
        "python bench/bench_slide_step.py --chunk 256",
        "python bench/bench_slide_step.py --tiles 20 --steps 1",
    ),
    (
        "embed",
        150,
        "python bench/bench_embed.py {work}/256px",
        "python bench/bench_embed.py {work}/256px --tiles 16 --batch 8 --rounds 1",
    ),
    (
        "tiling",
        60,
        "python bench/bench_tiling.py --devices gpu --rounds 7",
        "python bench/bench_tiling.py --rounds 1",
    ),
    ("encode", 60, "python bench/bench_encode.py", "python bench/bench_encode.py --rounds 1"),
    (
        "shard",
        200,
        "python bench/bench_shard.py --slides {slides} --skip plain --rounds 1",
        "python bench/bench_shard.py --slides {work}/slides/0.tif --skip plain --rounds 1",
    ),
]


@dataclass(frozen=True)
class Place:
    """Where a round of measurements is.

    Attributes:
        out: what the parts write is there, a .log and mostly a .json each.
        work: slides and datasets that they read are made there.
        tiny: for a rehearsal.
    """

    out: Path
    work: Path
    tiny: bool


def parts(place: Place) -> list[Part]:
    """Every part, in order; they run in the project's folder."""
    slides = " ".join(shlex.quote(f"{place.work}/slides/{number}.tif") for number in range(SLIDES))
    found = []
    for name, limit, full, tiny in PARTS:
        text = (tiny if place.tiny else full).format(work=shlex.quote(str(place.work)), slides=slides)
        words = [sys.executable if word == "python" else word for word in shlex.split(text)]
        if "python bench/" in text and "draw.py" not in text:
            words += ["--json", str(place.out / f"{name}.json")]
        found.append(Part(name, words, limit))
    return found
