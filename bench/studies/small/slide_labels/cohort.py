"""Slides that share no original: composed of LC25000 tiles, equalised, for five folds that are independent.

The slides of the data (cohort/) cannot be divided into folds: their tiles were drawn again and again, so that
slides hang together by the tiles they share (``shared`` counts it). So the study composes its own. A slide is
a grid of cells, some of them empty, and a diagnosis: its originals, each with a few of its augmentations, are
of no other slide. Most of a tumour's slide is normal tissue of its organ. What no slide holds is for DINO: no
test slide's original is ever seen in any arm. LC25000 does not say which patient an original is from.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image
from pydantic import Field
from scipy.sparse.csgraph import connected_components

from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathtrain.recipes.strict import Strict
from small.core.tiles import Row, equalised

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Pixels = npt.NDArray[np.uint8]

# normal tissue of the organ, which fills up a tumour's slides
NORMAL = {
    "lung_n": "lung_n",
    "lung_aca": "lung_n",
    "lung_scc": "lung_n",
    "colon_n": "colon_n",
    "colon_aca": "colon_n",
}
# no organ: handmade texture tells colon from lung at an AUROC of 1.00, on equalised tiles too; nothing is to
# be won
TASKS = ("malignancy", "lung_subtype")
FOLDS = 5
THUMB = 16  # pixels, of what tiles are compared by
ALIKE = (
    0.97  # correlation of thumbnails of one tile under two casts; of LC25000's originals, none is above .75
)
DUPLICATE = 0.8  # and above this two originals are taken for one
MPP = 0.5


class CohortSettings(Strict):
    """How slides are composed.

    Attributes:
        slides: of each diagnosis.
        originals: of a slide. tumour: how many of them are tumour, where the slide is.
        copies: tiles of each original.
        grid: cells along a slide's side; those that are left over are empty.
        tile: side of a slide's tiles, pixels. dino: of those that DINO crops from.
        seed: of the composition.
    """

    slides: Annotated[int, Field(ge=FOLDS)] = 22
    originals: Annotated[int, Field(ge=1)] = 3
    tumour: Annotated[int, Field(ge=1)] = 1
    copies: Annotated[int, Field(ge=1)] = 2
    grid: Annotated[int, Field(ge=2)] = 3
    tile: Annotated[int, Field(ge=32)] = 96
    dino: Annotated[int, Field(ge=32)] = 128
    seed: int = 0


@dataclass(frozen=True)
class Slide:
    """A composed slide.

    Attributes:
        name, diagnosis: LC25000's class of its tumour, or of all of it.
        fold: in which it is tested.
        tiles: numbers of its tiles. cells: of each, its place in the grid, row by row.
    """

    name: str
    diagnosis: str
    fold: int
    tiles: tuple[int, ...]
    cells: tuple[int, ...]

    @property
    def labels(self) -> dict[str, str]:
        """Per task its class, empty where the task does not ask it."""
        organ = self.diagnosis.split("_")[0]
        return {
            "malignancy": "normal" if self.diagnosis == NORMAL[self.diagnosis] else "tumour",
            "lung_subtype": self.diagnosis if organ == "lung" else "",
        }


def composed(label: Sequence[str], original: Ints, settings: CohortSettings) -> list[Slide]:
    """The slides, in the order of their names.

    Args:
        label: (N) class of each tile. original: (N,) number of its original.

    Raises:
        UsageError: there are too few originals, or the grid too small.
    """
    need = settings.originals * settings.copies
    if need > settings.grid**2 or settings.tumour > settings.originals:
        raise UsageError(
            f"a slide of {need} tiles does not fit into {settings.grid} x {settings.grid} cells, or has more "
            f"tumour ({settings.tumour}) than originals ({settings.originals}); change slide_labels.cohort"
        )
    rng = np.random.default_rng(settings.seed)
    names, members = np.array(label), {}
    for kind in NORMAL:
        found = [np.flatnonzero(original == one) for one in np.unique(original[names == kind])]
        whole = [tiles for tiles in found if len(tiles) >= settings.copies]
        members[kind] = [whole[place] for place in rng.permutation(len(whole))]
    slides = []
    for kind, normal in NORMAL.items():
        own = settings.originals if kind == normal else settings.tumour
        for number in range(settings.slides):
            wanted = [kind] * own + [normal] * (settings.originals - own)
            if any(len(members[one]) < wanted.count(one) for one in set(wanted)):
                raise UsageError(
                    f"too few originals of {kind} or {normal} for {settings.slides} slides of each "
                    "diagnosis; lower slide_labels.cohort.slides or originals"
                )
            tiles = np.concatenate([rng.permutation(members[one].pop())[: settings.copies] for one in wanted])
            cells = rng.permutation(settings.grid**2)[: len(tiles)]
            name = f"{kind.replace('_', '-')}-{number:02d}"
            slides.append(Slide(name, kind, number % FOLDS, tuple(tiles.tolist()), tuple(cells.tolist())))
    return slides


def originals(thumbs: Floats, group: Sequence[str]) -> tuple[Ints, dict[str, Any]]:
    """(N,) number of each tile's original: LC25000's groups, those that hold near-duplicates taken as one.

    Args:
        thumbs: (N, THUMB, THUMB) of ``thumbnail``.
        group: (N) as the table says.

    Returns:
        The numbers; and how many groups there were, how many originals are left, and the largest correlation
        between tiles of different originals.
    """
    names, number = np.unique(group, return_inverse=True)
    best = np.full((len(names), len(names)), -1.0, np.float32)
    for rows, found in similar(thumbs, thumbs):
        np.maximum.at(best, (number[rows][:, None], number[None, :]), found)
    np.fill_diagonal(best, 1)
    count, one = connected_components(np.maximum(best, best.T) > DUPLICATE, directed=False)
    apart = best[one[:, None] != one[None, :]]
    about = {
        "groups": len(names),
        "originals": int(count),
        "closest": float(apart.max()) if apart.size else None,
    }
    return one[number].astype(np.int64), about


def shared(data: Path) -> dict[str, Any]:
    """How the slides of the data's cohort hang together by tiles that several of them hold.

    Returns:
        ``slides``, ``cells`` with tissue, ``cells_shared`` with a slide that is another, and ``components``:
        numbers of slides that are bound to each other, the largest first.
    """
    margin, cell, across = 128, 224, 8  # pixels and cells of the composed slides
    thumbs, slide = [], []
    files = sorted((data / "cohort").glob("*.tif"))
    for number, path in enumerate(files):
        pixels = tifffile.imread(path, key=0)
        for place in range(across**2):
            top, left = (margin + cell * at for at in divmod(place, across))
            found = pixels[top : top + cell, left : left + cell].mean(axis=2)
            if found.std() > 8:  # grey levels; empty cells are white
                thumbs.append(thumbnail(found.astype(np.uint8)))
                slide.append(number)
    of = np.array(slide)
    tied, bound = np.zeros((len(files), len(files)), bool), np.zeros(len(of), bool)
    for rows, found in similar(np.stack(thumbs), np.stack(thumbs)):
        one, other = np.nonzero((found > ALIKE) & (of[rows][:, None] != of[None, :]))
        tied[of[rows][one], of[other]] = True
        bound[rows.start + one] = True
    _, part = connected_components(tied, directed=False)
    return {
        "slides": len(files),
        "cells": len(of),
        "cells_shared": int(bound.sum()),
        "components": sorted(np.bincount(part).tolist(), reverse=True),
    }


def thumbnail(grey: Pixels) -> Floats:
    """(THUMB, THUMB): ranks of a miniature's grey levels, which no cast changes; mean 0, length 1."""
    small = np.asarray(Image.fromarray(grey).resize((THUMB, THUMB), Image.Resampling.BOX), np.float32)
    ranks = small.ravel().argsort(kind="stable").argsort().astype(np.float32).reshape(small.shape)
    ranks -= ranks.mean()
    return np.asarray(ranks / np.linalg.norm(ranks), np.float32)


def similar(queries: Floats, bank: Floats) -> Iterator[tuple[slice, Floats]]:
    """Correlations (Q, N) of thumbnails in blocks: the largest over a tile's eight directions."""
    flat = bank.reshape(len(bank), -1).T
    for start in range(0, len(queries), 512):
        part = slice(start, min(start + 512, len(queries)))
        found = np.full((part.stop - start, len(bank)), -1, np.float32)
        for turns in range(4):
            turned = np.rot90(queries[part], turns, (1, 2))
            for way in (turned, turned[:, :, ::-1]):
                np.maximum(found, way.reshape(len(way), -1) @ flat, out=found)
        yield part, found


def write(where: Path, rows: Sequence[Row], settings: CohortSettings) -> None:
    """Slides, masks, tiles, a table, DINO's tiles and ``about.json``: a folder that is whole or not there.

    A tile is equalised at the size that it is stored at: made smaller afterwards, its SD would tell how fine
        it is.
    """
    small = [_grey(row.path, settings.tile) for row in rows]
    original, about = originals(np.stack([thumbnail(tile) for tile in small]), [row.group for row in rows])
    slides = composed([row.label for row in rows], original, settings)
    half = where.with_name(f"{where.name}.half")
    for name in ("slides", "masks", "tiles", "dino"):
        (half / name).mkdir(parents=True, exist_ok=True)
    cells = ["file,label,group"]
    for slide in slides:
        side = settings.grid * settings.tile
        picture, mask = np.full((side, side), 255, np.uint8), np.zeros((side, side), np.uint8)
        for tile, cell in zip(slide.tiles, slide.cells, strict=True):
            top, left = (settings.tile * at for at in divmod(cell, settings.grid))
            place = (slice(top, top + settings.tile), slice(left, left + settings.tile))
            picture[place], mask[place] = small[tile], 255
            file = f"{slide.name}-{cell:02d}.png"
            Image.fromarray(small[tile]).convert("RGB").save(half / "tiles" / file)
            cells.append(f"{file},{rows[tile].label},{slide.name}")
        _slide(half / "slides" / f"{slide.name}.tif", picture, settings.tile)
        Image.fromarray(mask).save(half / "masks" / f"{slide.name}.png")
    atomic.write_bytes(half / "tiles" / "labels.csv", ("\n".join(cells) + "\n").encode())
    used = np.isin(original, original[[tile for slide in slides for tile in slide.tiles]])
    lines = ["file,label,group"]
    for number in np.flatnonzero(~used).tolist():
        name = f"{number:05d}.png"
        Image.fromarray(_grey(rows[number].path, settings.dino)).convert("RGB").save(half / "dino" / name)
        lines.append(f"{name},{rows[number].label},{original[number]}")
    atomic.write_bytes(half / "dino" / "labels.csv", ("\n".join(lines) + "\n").encode())
    table = [["slide_id", "diagnosis", "fold", *TASKS]]
    table += [
        [one.name, one.diagnosis, str(one.fold), *(one.labels[task] for task in TASKS)] for one in slides
    ]
    atomic.write_bytes(half / "slides.csv", ("\n".join(map(",".join, table)) + "\n").encode())
    tiles = [len(one.tiles) for one in slides]
    atomic.write_json(
        half / "about.json", {**about, "slides": len(slides), "tiles": sum(tiles), "dino": len(lines) - 1}
    )
    half.rename(where)


def _slide(path: Path, picture: Pixels, tile: int) -> None:
    """A grey picture as a slide at ``MPP``: a tiled TIFF without loss."""
    per_cm = 1e4 / MPP
    tifffile.imwrite(
        path,
        np.repeat(picture[..., None], 3, axis=2),
        photometric="rgb",
        tile=(tile, tile),
        compression="deflate",
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )


def _grey(path: Path, side: int) -> Pixels:
    image = Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    return equalised(np.asarray(image))


def table(where: Path) -> list[dict[str, str]]:
    """The slides that ``write`` composed: slide_id, diagnosis, fold and the tasks."""
    with (where / "slides.csv").open(newline="") as file:
        return list(csv.DictReader(file))
