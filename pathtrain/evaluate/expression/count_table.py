"""Counts of a section as a text table: a row per spot and a column per gene, or the other way round.

TSV or CSV, also .gz, with the names in the first row and the first column, whose own name may be missing
(R's write.table leaves its cell out altogether).
"""

import gzip
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
from scipy import sparse

from pathprep.errors import DatasetError
from pathprep.storage import regular
from pathtrain.evaluate.statistics import Doubles

FIX = "give a row per spot and a column per gene, numbers in all cells"
HEAD = 1 << 22  # bytes that hold the first two rows: of 60,000 genes


class CountTable:
    """Counts of N spots and all genes.

    Attributes:
        path: the file. spots: (N). genes: names of all genes.
        values: (N, all genes) float64, sparse: most are 0, and all sections are held at once.
    """

    def __init__(self, path: Path, places: Collection[str]) -> None:
        """Read it.

        Args:
            places: names of spots that are known from elsewhere: they tell which way round the table is.

        Raises:
            DatasetError: it cannot be read, has a cell that is no number, or no known spot.
        """
        self.path = path
        corner, names, values = _read(path)
        columns = np.array(names[1:])
        rows = np.array(corner)
        here, there = (len(set(each.tolist()) & set(places)) for each in (rows, columns))
        if not here and not there:
            raise DatasetError(
                f"{path}: no spot in common with the table of places; spots here are like "
                f"{', '.join(rows[:2].tolist())}, there like {', '.join(sorted(places)[:2])}: name them alike"
            )
        turned = there > here
        self.spots, self.genes = (columns, rows) if turned else (rows, columns)
        self.values = sparse.csc_array(values.T if turned else values)
        for what, found in (("spot", self.spots), ("gene", self.genes)):
            different, counts = np.unique(found, return_counts=True)
            if len(different) < len(found):
                raise DatasetError(
                    f"{path}: {what} {different[counts > 1][0]} is there twice; keep one of each"
                )
        self._places = {str(gene): place for place, gene in enumerate(self.genes)}

    def of(self, genes: list[str]) -> Doubles:
        """(N, G) values of some genes.

        Raises:
            DatasetError: one is not there.
        """
        missing = [gene for gene in genes if gene not in self._places]
        if missing:
            raise DatasetError(
                f"{self.path}: has no gene {', '.join(missing[:3])} ({len(missing)} of {len(genes)} are "
                f"missing); its genes are named like {', '.join(self.genes[:3].tolist())}"
            )
        return np.asarray(self.values[:, [self._places[gene] for gene in genes]].toarray())

    def totals(self) -> Doubles:
        """(N,) sums over all genes."""
        return np.asarray(self.values.sum(axis=1))


def _read(path: Path) -> tuple[list[str], list[str], Doubles]:
    """Names of the rows, of the columns with that of the first one, and (rows, columns - 1) values."""
    try:
        with regular.open_regular(path) as stream:
            data = stream.read()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        header, second = (line.decode("utf-8-sig") for line in [*data[:HEAD].splitlines(), b"", b""][:2])
        separator = max("\t,;", key=header.count)
        names = [name.strip().strip('"') for name in header.split(separator)]
        if len(names) == second.count(separator):  # R leaves the first cell of the header out
            names = ["", *names]
        unique = [str(number) for number in range(len(names))]  # pyarrow would join columns of one name
        table = arrow_csv.read_csv(
            pa.BufferReader(data),
            arrow_csv.ReadOptions(column_names=unique, skip_rows=1, block_size=max(len(data), 1)),
            arrow_csv.ParseOptions(delimiter=separator),
            arrow_csv.ConvertOptions(
                column_types={"0": pa.string()} | {name: pa.float64() for name in unique[1:]},
                null_values=["", "NA", "NaN", "nan"],
            ),
        )
    except (OSError, EOFError, ValueError) as error:
        words = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()[0][:200]
        raise DatasetError(f"{path}: cannot be read as counts ({words}); {FIX}") from None
    if table.num_rows == 0 or len(names) < 2:
        raise DatasetError(f"{path}: holds no counts; {FIX}")
    spots = [str(name).strip() for name in table.column(0).to_pylist()]
    values = np.stack([column.to_numpy() for column in table.columns[1:]], axis=1)
    return spots, names, values
