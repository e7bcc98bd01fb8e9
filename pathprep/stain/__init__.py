"""Macenko stain normalisation: the fit is metadata, applying it is one cheap pass.

``fit`` measures the stains of tiles; ``matrix`` turns a fit and a target into one 3x3 matrix in optical
density per tile; ``apply`` multiplies. A tile whose stains cannot be told (glass, one flat colour, too
little tissue) never raises and never passes silently: its status says so, and it is left as it is
unless ``fall_back`` gives it the slide's pooled fit.

    fits = fit(tiles)                               # status fitted or unfitted
    fits = fall_back(fits, pool(fits))              # unfitted -> slide_fit
    tiles = apply(tiles, matrix(fits, target))

The method, its constants and its limits: kernels/macenko_reference.py. Tiles are (N, H, W, 3) uint8, or a
sequence of (H, W, 3) arrays of differing sizes: numpy or torch on the CPU, CuPy or torch on a GPU, and what
comes out is of the same kind, on the same device, without a copy between libraries; strided tiles are made
contiguous first. On a GPU the work is queued on the current stream. Everything may be called from many
threads; results do not depend on threads, batches or order.
"""

from typing import Any

import numpy as np

from pathprep.kernels import macenko_cpu
from pathprep.kernels.macenko_reference import ALPHA, BETA, IO
from pathprep.stain.arrays import Array, beside, is_cupy, namespace, returner, stream_of
from pathprep.stain.fits import (
    StainFit,
    Status,
    Tiles,
    check_io,
    checked,
    each,
    fall_back,
    first,
    fit,
    is_batch,
    judged,
    pool,
)
from pathprep.stain.matrices import NUMBERS, Jitter, hed, matrix
from pathprep.stain.target import Target

__all__ = [
    "ALPHA",
    "BETA",
    "IO",
    "NUMBERS",
    "Jitter",
    "StainFit",
    "Status",
    "Target",
    "Tiles",
    "apply",
    "fall_back",
    "fit",
    "hed",
    "matrix",
    "normalize",
    "pool",
]


def apply(tiles: Tiles, matrix: Array, *, io: float = IO, threads: int | None = None) -> Any:
    """Multiply the optical density of each tile by its matrix (N, 3, 3); (N, 3, 4) adds the last column.

    An exact identity copies its tile. An array gives an array, a sequence a list, of the same shapes and
    the same library. Matrices are numpy, or of the tiles' library and on their device. ``threads``: CPU
    threads, None for one per core.

    Raises:
        ValueError: not one finite matrix per tile, matrices of another library or device, io outside 1 to
            256, or tiles as ``fit`` refuses them. Whether matrices on a GPU are finite is not asked: that
            would wait for it. A row that is not makes its channel 0 or 255 in every pixel.
    """
    check_io(io)
    given = first(tiles)
    back = returner(given)
    with stream_of(given):
        batches = checked(tiles)
        matrices = beside(matrix, given if batches else matrix, "matrices")  # an empty list is of no library
        count = sum(len(batch) for batch in batches)
        if matrices.shape not in ((count, 3, 3), (count, 3, 4)):
            raise ValueError(
                f"expected {count} finite 3x3 or 3x4 matrices, one per tile, got {matrices.shape}"
            )
        if isinstance(matrices, np.ndarray) and not np.isfinite(matrices).all():
            raise ValueError(f"expected {count} finite matrices, one per tile; some are not finite")
        if batches and is_cupy(batches[0]):
            from pathprep.kernels import macenko_cuda

            results = macenko_cuda.apply(batches, matrices, io)
        elif is_batch(tiles):
            results = [macenko_cpu.apply(batches[0], matrices, io, threads)]
        else:
            results = each(batches, lambda tile, i: macenko_cpu.apply(tile, matrices[i : i + 1], io), threads)
        return back(results[0]) if is_batch(tiles) else [back(result[0]) for result in results]


def normalize(
    tiles: Tiles,
    fit: StainFit | None = None,
    target: Target | None = None,
    *,
    io: float = IO,
    threads: int | None = None,
) -> Any:
    """Fit (unless fits are given), then apply the target's stains (the field's reference by default).

    UNFITTED tiles come back unchanged; ask ``fit`` first to know which they are. Without fits this is one
    kernel that computes optical densities once; on a GPU it reads each tile once and writes it once. What
    ``fit`` refuses beyond that is copied back.

    Args:
        tiles: as in ``fit``.
        fit: fits of the tiles, numpy or of their library and on their device.
        io: transmitted light, grey levels; that of the fits, if they are given.
        threads: CPU threads, None for one per core.

    Raises:
        ValueError: as ``fit`` and ``apply`` do.
    """
    check_io(io)
    target = Target.default() if target is None else target
    if fit is not None:
        return apply(tiles, matrix(fit, target), io=io, threads=threads)
    given = first(tiles)
    back = returner(given)
    with stream_of(given):
        batches = checked(tiles)
        if batches and is_cupy(batches[0]):
            from pathprep.kernels import macenko_cuda

            results, columns = macenko_cuda.normalize(batches, target.he, target.max_c, io)
            _left_alone(results, batches, StainFit(*columns), io)
        else:

            def whole(batch: Array, threads: int | None) -> Array:
                out, (he, max_c, pixels, fitted) = macenko_cpu.normalize(
                    batch, target.he, target.max_c, io=io, threads=threads
                )
                status = np.where(fitted, Status.FITTED, Status.UNFITTED).astype(np.uint8)
                _left_alone([out], [batch], StainFit(he, max_c, pixels, status), io)
                return out

            if is_batch(tiles):
                results = [whole(batches[0], threads)]
            else:
                results = each(batches, lambda tile, _: whole(tile, 1), threads)
        return back(results[0]) if is_batch(tiles) else [back(result[0]) for result in results]


def _left_alone(results: list[Array], batches: list[Array], fits: StainFit, io: float) -> None:
    """Put tiles back whose fits the kernels took and ``fit`` does not take."""
    xp = namespace(fits.he)
    spoilt = (judged(fits, batches, io).status != fits.status)[:, None, None, None]
    first_of = 0
    for result, batch in zip(results, batches, strict=True):
        xp.copyto(result, batch, where=spoilt[first_of : first_of + len(batch)])
        first_of += len(batch)
