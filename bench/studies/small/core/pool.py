"""The tiles that encoders are trained on: all of the data but the groups that are held out, as one dataset.

EBHI, LC25000 and mitoses (their training groups; to choose by, without the validating ones), CoNSeP's
training fields, and fields that no test is made of: MoNuSeg, MoNuSAC, five hospitals of CAMELYON17.
Sections with gene expression are left out: they test. All are brought to squares of 224 px: larger ones are
cut, mitoses (128 px) enlarged.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from PIL import Image

from pathprep.storage import atomic
from small.core.config import TREE, Study
from small.core.tiles import SETS, Row, rows

SIDE = 224  # pixels
For = Literal["choice", "final"]


def pool(study: Study, purpose: For) -> Path:
    """A dataset, made once: for the choice without the groups that validate, in the end with them."""
    where = study.work / "sets" / f"pool-{purpose}"
    images = study.work / "tiles" / "pool" / purpose
    if not images.exists():
        found = list(_sources(study.data, purpose))
        _write(images, found[:: max(1, len(found) // study.common.pool)] if study.common.pool else found)
    return imported(images, where)


def imported(images: Path, where: Path, *options: str) -> Path:
    """A dataset of a folder of labelled tiles; what is made already is not made again."""
    words = [sys.executable, "-m", "pathprep", "import-tiles", str(images), "--out", str(where), *options]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(TREE)}, stdout=sys.stderr)
    return where


def _sources(data: Path, purpose: For) -> Iterator[tuple[Row, str]]:
    for name in SETS:
        for row in rows(data, name):
            if row.on("fit" if purpose == "choice" else "train"):
                yield row, name
    with (data / "consep" / "index.csv").open() as file:
        for line in csv.DictReader(file):
            found = Row(data / "consep" / line["file"], "", line["group"], line["split"] == "test")
            if found.on("fit" if purpose == "choice" else "train"):
                yield found, "consep"
    for name, pattern in (
        ("monuseg", "slides/monuseg/*.tif"),
        ("monuseg", "monuseg/image/*"),
        ("monusac", "monusac/image/*"),
        ("centres", "centres/tiles/*"),
    ):
        for path in sorted(data.glob(pattern)):
            yield Row(path, "", path.stem, False), name


def _write(where: Path, found: list[tuple[Row, str]]) -> None:
    half = where.with_name(f"{where.name}.half")
    half.mkdir(parents=True, exist_ok=True)
    lines = ["file,label,group"]
    for row, source in found:
        for tile in squares(Image.open(row.path).convert("RGB")):
            name = f"{len(lines):05d}.png"
            tile.save(half / name, compress_level=1)
            lines.append(f"{name},{source},{source}-{row.group}")
    atomic.write_bytes(half / "labels.csv", ("\n".join(lines) + "\n").encode())
    half.rename(where)


def squares(image: Image.Image) -> list[Image.Image]:
    """An image as squares of 224 px: as many as fit side by side, centred; a smaller one enlarged to one."""
    if min(image.size) < SIDE:
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        square = image.crop((left, top, left + short, top + short))
        return [square.resize((SIDE, SIDE), Image.Resampling.BICUBIC)]
    across, down = image.width // SIDE, image.height // SIDE
    left, top = (image.width - across * SIDE) // 2, (image.height - down * SIDE) // 2
    corners = [(left + x * SIDE, top + y * SIDE) for y in range(down) for x in range(across)]
    return [image.crop((x, y, x + SIDE, y + SIDE)) for x, y in corners]
