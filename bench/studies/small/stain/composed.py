"""Tiles whose staining is known: two casts that may go with the class, and slides of one cast each.

A cast is what another laboratory's staining does to a tile: other directions of haematoxylin and eosin, and
other amounts of both, around the field's reference. It is one 3 x 3 matrix in optical density, the same for
every tile that has it, from the stains of the tile's set. That is the change which Macenko's method assumes,
so it can undo it best; scanners differ in other ways as well.

A composed slide has one cast and tiles of every class, in whole groups. So that its tiles share their slide
says nothing of the tissue, only of the stain.

Folders are made once and renamed when they are whole. Pictures are JPEG of quality 95 without subsampling,
whatever was done to them, so that the file format says nothing.
"""

import csv
import io
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from pathprep import stain
from pathprep.errors import UsageError
from pathprep.stain import Jitter, StainFit, Status, Target

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CASTS = ("A", "B")
# gains of both stains, two directions of each vector, no shifts: far apart, but within what may be drawn; at
# its very corners one LC25000 tile in 25 of the paler eosin could not be fitted. Both stains are turned
# alike, so that they stay as far from each other as they are
CORNERS = 0.75 * np.array([[1, -1, 1, 1, 1, 1, 0, 0], [-1, 1, -1, -1, -1, -1, 0, 0]], dtype=np.float64)
APART = 12.0  # degrees between the stains of a cast that is drawn, at least; real ones are 9 to 68 apart
SAMPLED = 100  # tiles that a set's stains are fitted on
QUALITY = 95
ACCOUNT = "stain.json"


class Tile(NamedTuple):
    """A picture, what it shows, and whose tissue it is; the others are "" where it has none."""

    path: Path
    label: str
    group: str
    cast: str = ""
    slide: str = ""
    scanner: str = ""


def listed(folder: Path) -> list[Tile]:
    """The tiles of a folder with a labels.csv of file, label, group, and perhaps cast, slide and scanner.

    Raises:
        UsageError: it lists none.
    """
    with (folder / "labels.csv").open(newline="") as file:
        found = [
            Tile(folder / row["file"], *(row.get(name, "") for name in Tile._fields[1:]))
            for row in csv.DictReader(file)
        ]
    if not found:
        raise UsageError(f"{folder / 'labels.csv'}: lists no tile; make the folder again")
    return found


def drawn(count: int, concentration: float, angle: float, seed: int) -> Floats:
    """(count, 3, 2) stains at random, without those in which the two are nearly one.

    Args:
        concentration: their lengths are 1 +- this at most, by which amounts are multiplied. angle: degrees
            that each is turned by at most, from the field's reference.
    """
    rng = np.random.default_rng(seed)
    found: list[Floats] = []
    while len(found) < count:
        (stains,) = _turned(rng.uniform(-1, 1, (1, stain.NUMBERS)), concentration, angle)
        unit = stains / np.linalg.norm(stains, axis=0)
        if np.degrees(np.arccos(unit[:, 0] @ unit[:, 1])) >= APART:
            found.append(stains)
    return np.stack(found)


def opposite(concentration: float, angle: float) -> Floats:
    """(2, 3, 2): the stains of A and B, much haematoxylin and little eosin against the other way round."""
    return _turned(CORNERS, concentration, angle)


def _turned(numbers: Floats, concentration: float, angle: float) -> Floats:
    target, count = Target.default(), len(numbers)
    reference = StainFit(
        np.repeat(target.he[None], count, axis=0),
        np.repeat(target.max_c[None], count, axis=0),
        np.ones(count, np.int64),
        np.full(count, Status.FITTED, np.uint8),
    )
    found = stain.matrix(reference, None, Jitter(concentration, angle), numbers)
    return np.asarray(found[:, :, :3] @ target.he)  # the last column are shifts, which are none


def cast(stains: Floats, pooled: Floats) -> Floats:
    """(3, 3): turns the stains of a set of tiles into others, and leaves what is outside their plane alone.

    Args:
        stains: (3, 2) of ``drawn`` or ``opposite``. pooled: (3, 2) of the set, see ``stains_of``.
    """
    normal = np.cross(pooled[:, 0], pooled[:, 1])
    normal /= np.linalg.norm(normal)
    return np.asarray(stains @ np.linalg.pinv(pooled) + np.outer(normal, normal))


def stains_of(tiles: Sequence[Tile]) -> Floats:
    """(3, 2): the stains of a set, pooled over at most ``SAMPLED`` of its tiles.

    Raises:
        UsageError: none of them can be fitted.
    """
    some = tiles[:: -(-len(tiles) // SAMPLED)]
    fit = stain.pool(StainFit.join([stain.fit([opened(tile.path)], threads=1) for tile in some]))
    if fit.status[0] != Status.FITTED:
        raise UsageError(
            f"{tiles[0].path.parent}: none of {len(some)} tiles holds a pair of stains; give H&E tiles"
        )
    return np.asarray(fit.he[0])


def dealt(tiles: Sequence[Tile], slides: int, seed: int, complete: bool) -> Ints:
    """The slide of each tile: whole groups, those of each class in turn, so that slides hold all alike.

    Args:
        tiles: a group counts for the class that most of its tiles have.
        slides: how many. complete: every class must be on every slide.

    Raises:
        UsageError: ``complete``, and a class has too few groups.
    """
    of_group: dict[str, Counter[str]] = {}
    for tile in tiles:
        of_group.setdefault(tile.group, Counter())[tile.label] += 1
    rng = np.random.default_rng(seed)
    slide: dict[str, int] = {}
    for label in sorted({tile.label for tile in tiles}):
        # of labels that occur equally often, the first by name
        groups = sorted(
            g for g, found in of_group.items() if min(found, key=lambda k: (-found[k], k)) == label
        )
        if complete and len(groups) < slides:
            raise UsageError(
                f"{tiles[0].path.parent}: {label} has {len(groups)} groups, too few to be on "
                f"all {slides} slides; ask for fewer slides"
            )
        # the shorter slides are others for each class
        places = (np.arange(len(groups)) + rng.integers(slides)) % slides
        slide |= dict(zip(rng.permutation(groups).tolist(), places.tolist(), strict=True))
    return np.array([slide[tile.group] for tile in tiles], dtype=np.int64)


def assigned(labels: Sequence[str], first: str, agreement: float, seed: int) -> list[str]:
    """The cast of each tile: A in the first of two classes and B in the other, but for a share.

    Args:
        agreement: the share that has its class's cast, rounded to whole tiles of each class.
    """
    own = np.array([label == first for label in labels])
    agrees = np.zeros(len(labels), dtype=bool)
    rng = np.random.default_rng(seed)
    for side in (own, ~own):
        rows = rng.permutation(np.flatnonzero(side))
        agrees[rows[: round(agreement * len(rows))]] = True
    return [CASTS[0] if one else CASTS[1] for one in agrees == own]


def recoloured(tiles: Sequence[tuple[Tile, Floats | None]], out: Path, side: int | None = None) -> Path:
    """A folder of tiles, each seen through its matrix (3, 3); None: as it is.

    Args:
        side: pixels that the tiles are brought to; None: they keep theirs.
    """

    def pixels() -> Iterator[Pixels]:
        for tile, matrix in tiles:
            found = opened(tile.path, side)
            yield found if matrix is None else stain.apply([found], matrix[None], threads=1)[0]

    return _made(out, [tile for tile, _ in tiles], pixels, lambda: {})


def normalised(source: Path, out: Path, by: Callable[[Tile], str]) -> Path:
    """A folder's tiles, each normalised by Macenko's method to the field's reference.

    A tile that cannot be fitted takes the pooled fit of those it lies with, and stays as it is where there is
    none; ``stain.json`` beside the tiles says how many each were.

    Args:
        by: names those that a tile lies with, as its slide; "" for a tile that lies alone.
    """
    tiles = listed(source)
    counts: Counter[str] = Counter()

    def pixels() -> Iterator[Pixels]:
        fits = StainFit.join([stain.fit([opened(tile.path)], threads=1) for tile in tiles])
        fits = _fallen_back(fits, [by(tile) for tile in tiles])
        counts.update(Status(status).name.lower() for status in fits.status)
        for tile, matrix in zip(tiles, stain.matrix(fits, Target.default()), strict=True):
            yield stain.apply([opened(tile.path)], matrix[None], threads=1)[0]

    return _made(out, tiles, pixels, lambda: dict(counts))


def _fallen_back(fits: StainFit, lies_with: Sequence[str]) -> StainFit:
    he, max_c, status = fits.he.copy(), fits.max_c.copy(), fits.status.copy()
    names = np.array(lies_with, dtype=object)
    for name in sorted(set(lies_with) - {""}):
        rows = np.flatnonzero(names == name)
        part = StainFit(he[rows], max_c[rows], fits.tissue_pixels[rows], status[rows])
        part = stain.fall_back(part, stain.pool(part))
        he[rows], max_c[rows], status[rows] = part.he, part.max_c, part.status
    return StainFit(he, max_c, fits.tissue_pixels, status)


def account(folder: Path) -> dict[str, int]:
    """Tiles of a folder of ``normalised`` by where their fit came from: fitted, slide_fit, unfitted."""
    found: dict[str, int] = json.loads((folder / ACCOUNT).read_text())
    return found


def opened(path: Path, side: int | None = None) -> Pixels:
    """(H, W, 3) of a picture file, or (side, side, 3)."""
    with Image.open(path) as picture:
        found = picture.convert("RGB")
    if side is not None and found.size != (side, side):
        found = found.resize((side, side), Image.Resampling.BICUBIC)
    return np.array(found)


def _made(
    out: Path,
    tiles: Sequence[Tile],
    pixels: Callable[[], Iterator[Pixels]],
    about: Callable[[], dict[str, int]],
) -> Path:
    if out.exists():
        return out
    half = out.with_name(f"{out.name}.half")
    shutil.rmtree(half, ignore_errors=True)  # of a run that was stopped
    half.mkdir(parents=True)
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["file", *Tile._fields[1:]])
    for number, (tile, found) in enumerate(zip(tiles, pixels(), strict=True)):
        name = f"{number:05d}.jpg"
        Image.fromarray(found).save(half / name, quality=QUALITY, subsampling=0)
        writer.writerow([name, *tile[1:]])
    (half / "labels.csv").write_text(table.getvalue())
    (half / ACCOUNT).write_text(json.dumps(about()))
    half.rename(out)
    return out
