"""How the stains of tiles and slides are compared: six numbers per fit, distances in robust deviations.

A fit's numbers are the red and the blue part of both unit stain vectors (the green follows) and the
logarithms of both strengths. A deviation is |value - median| / (1.4826 MAD), the modified z-score of
Iglewicz and Hoaglin (1993), who call values above 3.5 outliers.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Floats = npt.NDArray[np.float64]

LIMIT = 3.5
LABELS = (
    "red of haematoxylin",
    "blue of haematoxylin",
    "red of eosin",
    "blue of eosin",
    "strength of haematoxylin",
    "strength of eosin",
)
# The smallest deviation that counts as one: about 1 degree, 5 per cent. An archive of equal slides has
# no outliers, however small its MAD.
FLOOR = np.array([0.02, 0.02, 0.02, 0.02, 0.05, 0.05])


def numbers(he: npt.ArrayLike, max_c: npt.ArrayLike) -> Floats:
    """The six numbers of N fits, (N, 6), from (N, 6) row-major stain vectors and (N, 2) strengths."""
    vectors = np.asarray(he, np.float64).reshape(-1, 3, 2)
    strengths = np.asarray(max_c, np.float64).reshape(-1, 2)
    # strengths of stored fits are positive; float32 may have rounded a tiny one to zero
    logs = np.log(np.maximum(strengths, 1e-6))
    return np.concatenate(
        [vectors[:, 0, :1], vectors[:, 2, :1], vectors[:, 0, 1:], vectors[:, 2, 1:], logs], 1
    )


def from_table(table: pa.Table) -> tuple[npt.NDArray[np.int64], Floats]:
    """Rows of an index whose tile has a fit of its own: their positions and six numbers."""
    status = np.array(table["stain_status"].to_pylist(), dtype=object)
    rows = np.flatnonzero(status == "fitted")
    chosen = table.select(["he", "max_c"]).take(rows)
    he, max_c = (chosen[name].combine_chunks().flatten().to_numpy() for name in ("he", "max_c"))
    return rows, numbers(he, max_c)


def deviations(values: Floats) -> Floats:
    """(N, 6) distances from the median of the N, in robust deviations; N must be at least 1."""
    distance = np.abs(values - np.median(values, axis=0))
    scale = np.maximum(1.4826 * np.median(distance, axis=0), FLOOR)
    result: Floats = distance / scale
    return result
