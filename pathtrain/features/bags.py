"""Features of slides as `pathtrain embed` writes them: a bag of tile vectors per slide, or one vector.

FOLDER/<slide>.h5   features (N, D) and coords (N, 2): a bag
                    features (D,), or (1, D) without coords: a slide-level vector

Files are called after the slides' own names, as other tools do it too, or after those in a dataset. Here, a
slide has its name in the dataset, which the file's attribute ``slide`` says, or which follows from its own.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.slides.own_names import SlideNames, safe_name
from pathprep.storage import hdf5_chunks
from pathprep.words import command
from pathtrain.features.read import files_of, opened

Floats = npt.NDArray[np.float32]
KEPT_BYTES = 2 << 30  # of features in memory; what does not fit is read again when its turn comes


@dataclass(frozen=True)
class Places:
    """Where a slide's tiles lie.

    Attributes:
        coords: (N, 2) int64, x and y in level-0 pixels.
        side: of a tile, level-0 pixels.
    """

    coords: npt.NDArray[np.int64]
    side: int


@dataclass
class Bags:
    """A folder of features.

    Attributes:
        name: how tables and charts call it.
        root: the folder.
        dim: D.
        bags: False if each slide has one vector only.
        counts: slide -> number of its tiles, in the order of names. paths: slide -> its file.
    """

    name: str
    root: Path
    dim: int
    bags: bool
    counts: dict[str, int]
    paths: dict[str, Path]
    _kept: dict[str, Floats] = field(default_factory=dict)
    _bytes: int = 0

    @classmethod
    def open(cls, root: Path, name: str | None = None) -> "Bags":
        """Look at every file of a folder.

        Raises:
            UsageError: no such folder, no HDF5 file in it, a file without features, without a tile or with
                another D than the others, or bags beside slide-level vectors.
        """
        paths = files_of(root, ".h5")
        if not paths:
            raise UsageError(
                f"{root}: no .h5 file there; write features with {command('pathtrain embed --out', root)}"
            )
        shapes = {path: _shape(path) for path in paths}
        first, (_, dim, _, _) = next(iter(shapes.items()))
        # (1, D) without coords fits both: it is a slide of one tile if others have more
        bags = any(kind == "bag" for _, _, kind, _ in shapes.values())
        files: dict[str, tuple[Path, int]] = {}
        for path, (count, other, kind, slide) in shapes.items():
            if other != dim:
                raise UsageError(
                    f"{path}: {other} numbers per tile, {first.name} has {dim}; keep each model's "
                    "features in a folder of its own"
                )
            if bags and kind == "vector":
                raise UsageError(
                    f"{path}: one vector for the slide, but others in {root} hold tiles; keep the two kinds "
                    "in folders of their own"
                )
            if slide in files:
                raise UsageError(f"{path}: a second file of slide {slide}, as {files[slide][0]}; keep one")
            files[slide] = path, count
        ordered = sorted(files.items())
        counts = {slide: count for slide, (_, count) in ordered}
        places = {slide: path for slide, (path, _) in ordered}
        return cls(name or root.resolve().name, root, dim, bags, counts, places)

    @property
    def names(self) -> SlideNames:
        """The slides, to be found by what tables call them."""
        return SlideNames.of(self.paths, {slide: (path.stem,) for slide, path in self.paths.items()})

    def read(self, slide: str) -> Floats:
        """A slide's features, (N, D) float32.

        Raises:
            UsageError: the file cannot be read, is damaged, or holds NaN or infinity.
        """
        if slide in self._kept:
            return self._kept[slide]
        path = self.paths[slide]
        with opened(path) as file:
            features = np.asarray(hdf5_chunks.whole(file["features"]), np.float32).reshape(-1, self.dim)
        if not np.isfinite(features).all():
            raise UsageError(f"{path}: holds NaN or infinite features; run `pathtrain embed` again")
        if self._bytes + features.nbytes <= KEPT_BYTES:
            self._kept[slide] = features
            self._bytes += features.nbytes
        return features

    def mean(self, slide: str) -> Floats:
        """A slide's vector, (D,): its own, or the mean of its tiles'."""
        return np.asarray(self.read(slide).mean(axis=0, dtype=np.float64), dtype=np.float32)

    def said(self, *names: str) -> dict[str, str | None]:
        """What the first file says of its model, by attribute; None of what it does not say."""
        with opened(next(iter(self.paths.values())), whole=False) as file:
            found = {name: file.attrs.get(name) for name in names}
        return {name: None if value is None else str(value) for name, value in found.items()}

    def places(self, slide: str) -> Places | None:
        """Where the tiles lie; None if the file does not say.

        Raises:
            UsageError: the file cannot be read, or is damaged.
        """
        with opened(self.paths[slide]) as file:
            if "coords" not in file or "patch_size_level0" not in file["coords"].attrs:
                return None
            coords = file["coords"]
            side = int(coords.attrs["patch_size_level0"])
            return Places(np.asarray(hdf5_chunks.whole(coords), np.int64), side)


def _shape(path: Path) -> tuple[int, int, Literal["bag", "vector", "either"], str]:
    """Number of tiles, D, what the file holds, and the slide's name in a dataset."""
    with opened(path, whole=False) as file:
        shape, placed = file["features"].shape, "coords" in file
        slide = str(file.attrs.get("slide", "")) or safe_name(path.stem)
    if len(shape) not in (1, 2) or 0 in shape:
        raise UsageError(f"{path}: features are {shape}; one row per tile is needed, and at least one")
    if len(shape) == 1:
        return 1, shape[0], "vector", slide
    return shape[0], shape[1], "bag" if shape[0] > 1 or placed else "either", slide
