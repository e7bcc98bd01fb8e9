"""Macenko stain normalisation of tiles: a fit per tile with a status, one 3x3 matrix per tile to apply it.

A fit is metadata (two stain vectors, two concentrations); normalising to any target is one cheap pass
over the pixels. Tiles whose own fit is not plausible are marked, never guessed at. Definition and
limits: pathprep.kernels.macenko_reference.
"""

import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from pathprep import atomic
from pathprep.errors import StainError
from pathprep.kernels import macenko_cpu
from pathprep.kernels.macenko_reference import ALPHA, BETA, IO, unmixing

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
Tiles = TypeVar("Tiles", Pixels, list[Pixels])
Keep = Literal["all", "any"]


class Status(enum.IntEnum):
    """What a tile was normalised with; lower-case names are those of shards.STATUSES."""

    FITTED = 0  # its own fit
    SLIDE_FIT = 1  # the slide's pooled fit
    UNFITTED = 2  # nothing: it is left as it is


@dataclass(frozen=True)
class StainFit:
    """Fits of N tiles.

    Attributes:
        he: (N, 3, 2) float64, unit columns: RGB optical density of haematoxylin and of eosin; zeros
            where there is no fit.
        max_c: (N, 2) float64, 99th percentile of the two concentrations; zeros where there is no fit.
        tissue_pixels: (N,) int64, pixels that the fit used.
        status: (N,) uint8, Status.
    """

    he: Floats
    max_c: Floats
    tissue_pixels: npt.NDArray[np.int64]
    status: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.status)

    def __getitem__(self, which: npt.NDArray[Any] | slice) -> "StainFit":
        """The fits of some tiles: a boolean or integer array, or a slice."""
        return StainFit(self.he[which], self.max_c[which], self.tissue_pixels[which], self.status[which])

    @staticmethod
    def concatenate(fits: Sequence["StainFit"]) -> "StainFit":
        """The fits of several batches as one."""
        return StainFit(
            np.concatenate([fit.he for fit in fits]),
            np.concatenate([fit.max_c for fit in fits]),
            np.concatenate([fit.tissue_pixels for fit in fits]),
            np.concatenate([fit.status for fit in fits]),
        )


@dataclass(frozen=True, eq=False)
class Target:
    """The stains that tiles are normalised to.

    Attributes:
        he: (3, 2) unit columns. max_c: (2,). name: where they come from.
    """

    he: Floats
    max_c: Floats
    name: str

    @classmethod
    def default(cls) -> "Target":
        """The reference used across the field (mitkovetta's normalizeStaining.m)."""
        he = np.array([[0.5626, 0.2159], [0.7201, 0.8012], [0.4062, 0.5581]])
        return cls(he, np.array([1.9705, 1.0308]), "reference")

    @classmethod
    def fit(cls, image: Pixels, name: str = "fitted", keep: Keep = "all") -> "Target":
        """The stains of a picture, (H, W, 3) uint8 RGB.

        Raises:
            StainError: it holds no plausible pair of stains.
        """
        found = macenko_cpu.fit(np.ascontiguousarray(image), keep == "any")
        if not found.fitted:
            raise StainError(
                f"{name}: no pair of stains can be fitted ({found.tissue_pixels} tissue pixels); "
                "choose a region of well stained tissue"
            )
        return cls(found.he, found.max_c, name)

    def as_params(self) -> dict[str, Any]:
        """A JSON-able description that holds every value exactly."""
        return {"he": self.he.tolist(), "max_c": self.max_c.tolist(), "name": self.name}

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        atomic.write_json(path, {"format": "pathprep-stain-target", **self.as_params()})

    @classmethod
    def load(cls, path: Path) -> "Target":
        """Read what ``save`` wrote.

        Raises:
            StainError: absent, not such a file, or implausible values.
        """
        advice = "make one with `pathprep target IMAGE`"
        try:
            content = json.loads(path.read_bytes())
            he, max_c = np.array(content["he"], np.float64), np.array(content["max_c"], np.float64)
            name = str(content["name"])
        except OSError as error:
            raise StainError(f"{path}: {error.strerror}; {advice}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise StainError(f"{path}: not a stain target ({error!r}); {advice}") from None
        if he.shape != (3, 2) or max_c.shape != (2,) or not np.isfinite(he).all() or not (max_c > 0).all():
            raise StainError(f"{path}: needs he (3 x 2) and max_c (2, above 0); {advice}")
        return cls(he, max_c, name)


def fit(
    tiles: Pixels | Iterable[Pixels], *, keep: Keep = "all", alpha: float = ALPHA, beta: float = BETA, io: float = IO
) -> StainFit:
    """Fit every tile on its own.

    Args:
        tiles: (N, H, W, 3) uint8 RGB, or N arrays (H, W, 3) of any sizes.
        keep: a pixel is tissue if ``all`` (canonical) or ``any`` of its channels reach ``beta``.
        alpha: percentile of the extreme angles, percent.
        beta: optical density, natural logarithm.
        io: transmitted light, grey levels.

    Returns:
        N fits, each FITTED or UNFITTED.
    """
    found = [macenko_cpu.fit(tile, keep == "any", alpha, beta, io) for tile in tiles]
    n = len(found)
    return StainFit(
        np.array([f.he for f in found]).reshape(n, 3, 2),
        np.array([f.max_c for f in found]).reshape(n, 2),
        np.array([f.tissue_pixels for f in found], np.int64),
        np.array([Status.FITTED if f.fitted else Status.UNFITTED for f in found], np.uint8),
    )


def matrix(fit: StainFit, target: Target) -> Floats:
    """(N, 3, 3) from each tile's optical density to the target's; the identity for UNFITTED tiles."""
    result = np.tile(np.eye(3), (len(fit), 1, 1))
    usable = fit.status != Status.UNFITTED
    if usable.any():
        scale = target.max_c / fit.max_c[usable]
        result[usable] = (target.he * scale[:, None, :]) @ unmixing(fit.he[usable])
    return result


def apply(tiles: Tiles, matrix: Floats, io: float = IO) -> Tiles:
    """Multiply every tile's optical density by its matrix.

    Args:
        tiles: (N, H, W, 3) uint8 RGB, or a list of N arrays (H, W, 3).
        matrix: (N, 3, 3); an exact identity copies the tile.
        io: transmitted light, grey levels.

    Returns:
        The same kind as ``tiles``.
    """
    done = [macenko_cpu.apply(tile, m, io) for tile, m in zip(tiles, matrix, strict=True)]
    if isinstance(tiles, list):
        return done
    return np.array(done, np.uint8).reshape(tiles.shape)


_fit = fit  # ``normalize`` has a parameter of that name


def normalize(
    tiles: Tiles, fit: StainFit | None = None, target: Target | None = None, io: float = IO
) -> Tiles:
    """Bring tiles to a target's stains; UNFITTED tiles come back unchanged.

    Args:
        tiles: (N, H, W, 3) uint8 RGB, or a list of N arrays (H, W, 3).
        fit: of these tiles; default: each tile's own, with the canonical parameters.
        target: default: Target.default().
        io: transmitted light, grey levels.
    """
    own = _fit(tiles, io=io) if fit is None else fit
    return apply(tiles, matrix(own, target or Target.default()), io)


def pool(fit: StainFit) -> StainFit:
    """A slide's fit from its tiles': the median over FITTED tiles, N = 1.

    A median, so that a pen mark or a fold among the tiles does not move it; it does not depend on the
    tiles' order. Stain vectors are medians by component, made unit again. UNFITTED if no tile is fitted.
    """
    own = fit.status == Status.FITTED
    pixels = np.array([fit.tissue_pixels[own].sum()], np.int64)
    if not own.any():
        return StainFit(np.zeros((1, 3, 2)), np.zeros((1, 2)), pixels, np.array([Status.UNFITTED], np.uint8))
    he = np.median(fit.he[own], axis=0)
    he /= np.linalg.norm(he, axis=0)
    max_c = np.median(fit.max_c[own], axis=0)
    return StainFit(he[None], max_c[None], pixels, np.array([Status.FITTED], np.uint8))
