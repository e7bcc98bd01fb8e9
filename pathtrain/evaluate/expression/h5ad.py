"""Counts of spots from .h5ad files, whoever wrote them: only the names and the values of some genes are
read.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from pathprep.errors import DatasetError, PathprepError, UsageError
from pathprep.storage import regular
from pathtrain.evaluate.expression.spots import Texts
from pathtrain.evaluate.statistics import Doubles

AGAIN = "copy it again"


@contextmanager
def hdf5(path: Path, what: str) -> Iterator[h5py.File]:
    """An HDF5 file for reading.

    Args:
        what: it should be, for messages.

    Raises:
        DatasetError: it is missing, or no such file; whatever goes wrong in the block.
    """
    try:
        with regular.open_regular(path) as stream, h5py.File(stream, "r") as file:
            yield file
    except PathprepError:
        raise
    except Exception as error:  # of a damaged file anything may come
        words = getattr(error, "strerror", None) or str(error).strip() or type(error).__name__
        line = words.splitlines()[0][:200]
        raise DatasetError(f"{path}: cannot be read as {what} ({line}); {AGAIN}") from None


def names(values: Any) -> Texts:
    """(N,) texts of an array of texts or bytes, of one or two dimensions ((N, 1), as HEST has barcodes).

    Raises:
        ValueError: they are of another shape.
    """
    found = np.asarray(values)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim != 1:
        raise ValueError(f"names of shape {found.shape}; expected one a row")
    return np.array([each.decode() if isinstance(each, bytes) else str(each) for each in found.tolist()])


class Counts:
    """Values of an .h5ad: N spots, all its genes.

    Attributes:
        path: the file.
        spots: (N) names of the spots. genes: names of all genes.
        values: (N, all genes), sparse or dense.
    """

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            UsageError: anndata is not installed.
            DatasetError: it cannot be read, or names a spot twice.
        """
        try:
            from anndata.io import read_elem
        except ImportError:
            raise UsageError(
                f"{path}: anndata is not installed: `pip install 'pathprep[anndata]'`, which reads .h5ad"
            ) from None
        self.path = path
        with hdf5(path, "AnnData (.h5ad)") as file:
            missing = [part for part in ("X", "obs", "var") if part not in file]
            if missing:
                raise DatasetError(
                    f"{path}: not AnnData, it has no {' and no '.join(missing)}; write it with anndata's "
                    "write_h5ad"
                )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of files before anndata 0.7: they are read all the same
                obs, var, self.values = (read_elem(file[part]) for part in ("obs", "var", "X"))
            self.spots, self.genes = self._index(obs), self._index(var)
        if self.values.shape != (len(self.spots), len(self.genes)):
            raise DatasetError(
                f"{path}: X is of {self.values.shape}, but there are {len(self.spots)} spots (obs) and "
                f"{len(self.genes)} genes (var); {AGAIN}"
            )
        twice = _twice(self.spots)
        if twice:
            raise DatasetError(f"{path}: spot {twice} is there twice (obs); keep one row of each")

    def _index(self, table: Any) -> Texts:
        """Names of the rows of a table; of files before anndata 0.7 the field ``index`` of a record array."""
        return names(table.index if hasattr(table, "index") else table["index"])

    def of(self, genes: list[str]) -> Doubles:
        """(N, G) values of some genes.

        Raises:
            DatasetError: one is not there, or twice.
        """
        known = {name: place for place, name in enumerate(self.genes.tolist())}
        missing = [gene for gene in genes if gene not in known]
        if missing:
            raise DatasetError(
                f"{self.path}: has no gene {', '.join(missing[:3])} ({len(missing)} of {len(genes)} are "
                f"missing); its genes are named like {', '.join(self.genes[:3].tolist())}: give a list "
                "of its "
                "own genes, or name them alike"
            )
        wanted = set(genes)
        twice = _twice(np.array([gene for gene in self.genes.tolist() if gene in wanted]))
        if twice:
            raise DatasetError(
                f"{self.path}: gene {twice} is there twice (var); make names unique, or add the two up"
            )
        return self.columns([known[gene] for gene in genes])

    def columns(self, places: list[int]) -> Doubles:
        """(N, G) values of some columns."""
        part = self.values[:, places]
        return np.asarray(part.toarray() if hasattr(part, "toarray") else part, dtype=np.float64)

    def totals(self) -> Doubles:
        """(N,) sums over all genes."""
        return np.asarray(self.values.sum(axis=1), dtype=np.float64).ravel()


def _twice(found: Texts) -> str:
    """A name that is there more than once; "" if none is."""
    different, counts = np.unique(found, return_counts=True)
    return str(different[counts > 1][0]) if (counts > 1).any() else ""
