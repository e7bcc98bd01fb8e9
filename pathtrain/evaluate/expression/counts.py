"""Counts become what is predicted: which genes, and log1p of them.

HEST-Benchmark takes log1p of raw counts, although its code speaks of totals; its lists of genes come from
scanpy's dispersions. Without a list, the genes of the largest variance of log1p are taken here, among those
that a tenth of each section's spots express, as HEST's helper does it.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pathprep.errors import DatasetError, UsageError
from pathprep.storage import regular
from pathtrain.evaluate.expression.spots import Texts
from pathtrain.evaluate.statistics import Doubles, Ints

EXPRESSED = 0.1  # share of a section's spots, HEST's min_cells_pct
CONTROLS = ("BLANK", "Control")  # probes that measure nothing, of Xenium; HEST leaves them out
MOST_BYTES = 1 << 24  # of a list of genes


class Table(Protocol):
    """Counts of a section, of whatever file."""

    path: Path
    spots: Texts
    genes: Texts

    def of(self, genes: list[str]) -> Doubles:
        """(N, G) values."""

    def totals(self) -> Doubles:
        """(N,) sums over all genes."""


def listed(path: Path) -> list[str]:
    """Genes of a list: HEST's JSON ({"genes": [...]}), a JSON list, or a line each.

    Raises:
        UsageError: it cannot be read, is empty, or names one twice.
    """
    try:
        text = regular.read(path, MOST_BYTES).decode()
        found = json.loads(text) if text.lstrip()[:1] in ("{", "[") else text.splitlines()
        found = found["genes"] if isinstance(found, dict) else found
        genes = [gene.strip() for gene in found if gene.strip()]
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        why = getattr(error, "strerror", None) or "not a list of names"
        raise UsageError(
            f'{path}: no list of genes ({why}); give {{"genes": [...]}}, or a line each'
        ) from None
    if not genes or len(set(genes)) < len(genes):
        raise UsageError(f"{path}: {'names a gene twice' if genes else 'names no gene'}; give each once")
    return genes


def most_variable(tables: Sequence[Table], rows: Sequence[Ints], count: int) -> list[str]:
    """The genes of the largest variance of log1p counts over all spots, largest first; equal ones by name.

    Args:
        tables: a section each. rows: of its spots that have tiles.

    Raises:
        DatasetError: fewer genes are in all sections, or a value is missing or negative.
    """
    common: set[str] | None = None
    for table, kept in zip(tables, rows, strict=True):
        names = np.unique(table.genes)
        if len(names) < len(table.genes):
            raise DatasetError(f"{table.path}: names a gene twice; make its names unique, or add the two up")
        counts = table.of(names.tolist())
        # NaN would sort last and go unseen
        checked(counts[kept], table.path, table.spots[kept].tolist(), names.tolist(), any_values=True)
        often = (counts[kept] > 0).sum(axis=0) >= np.ceil(EXPRESSED * len(kept))
        here = {str(name) for name in names[often] if not any(word in name for word in CONTROLS)}
        common = here if common is None else common & here
    genes = sorted(common or ())
    if len(genes) < count:
        raise DatasetError(
            f"{tables[0].path.parent}: {len(genes)} genes are expressed by a tenth of the spots of every "
            f"section, {count} are wanted (`top_genes`); ask for fewer, or give a list of genes"
        )
    values = np.concatenate(
        [np.log1p(table.of(genes)[kept]) for table, kept in zip(tables, rows, strict=True)]
    )
    order = np.lexsort((genes, -values.var(axis=0)))
    return [genes[place] for place in order[:count]]


def checked(
    values: Doubles, table: Path, spots: Sequence[str], genes: Sequence[str], any_values: bool
) -> None:
    """Refuse what is no count.

    Args:
        values: (N, G).
        any_values: take what is not whole.

    Raises:
        DatasetError: a value is missing, negative, or not whole; it names spot, gene and what to do.
    """
    for bad, what, fix in (
        (~np.isfinite(values), "not a number", "write counts there, or leave the gene out of the list"),
        (values < 0, "negative", "give raw counts, not centred or scaled ones"),
        (
            values != np.round(values),
            "no whole number",
            "give raw counts, not normalised ones (`any_values` takes them all the same)",
        ),
    ):
        if bad.any() and not (any_values and what.startswith("no whole")):
            spot, gene = np.argwhere(bad)[0]
            raise DatasetError(
                f"{table}: {genes[gene]} of spot {spots[spot]} is {values[spot, gene]:g}, {what} "
                f"({int(bad.any(axis=0).sum())} of {len(genes)} genes have such values); {fix}"
            )


def logged(values: Doubles, totals: Doubles, scaled: bool) -> Doubles:
    """(N, G) log1p of counts of all spots of a task.

    Args:
        totals: (N,) counts of each spot, over all its genes. scaled: to their median first.
    """
    if scaled:
        values = values * (np.median(totals) / np.where(totals > 0, totals, 1))[:, None]
    return np.log1p(values)
