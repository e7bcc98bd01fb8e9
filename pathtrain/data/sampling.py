"""What a recipe draws tiles by: datasets, slides or the values of a column, resolutions; as groups.

Each level of pathtrain.data.groups has a word, and every stretch of tiles a name in it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import SCHEMA, STATUSES
from pathprep.dataset.tile_index import TileIndex
from pathprep.errors import UsageError
from pathprep.words import counted
from pathtrain.data import cluster_table, groups, label_table
from pathtrain.data.cluster_table import ClusterTable
from pathtrain.data.groups import Grouped
from pathtrain.data.order import Ints
from pathtrain.recipes.sampling import SamplingConfig

CLUSTER = "cluster"  # what `pathtrain curate` makes tables of
SHOWN = 5  # names in a message

Names = npt.NDArray[np.str_]
Floats = npt.NDArray[np.float64]
Parts = Mapping[str, Dataset]


@dataclass(frozen=True)
class _Stretches:
    """R stretches of one part's tiles.

    Attributes:
        starts: (R + 1,) where they begin, and the end.
        values: by the word of each level, (R,) names; without that of datasets.
    """

    starts: Ints
    values: dict[str, Names]

    def cut(self, starts: Ints, word: str, values: Names) -> "_Stretches":
        """Cut where other stretches begin too, with those as a further level."""
        both = np.union1d(self.starts, starts)
        mine = np.searchsorted(self.starts, both[:-1], side="right") - 1
        theirs = np.searchsorted(starts, both[:-1], side="right") - 1
        found = {name: part[mine] for name, part in self.values.items()}
        return _Stretches(both, {**found, word: values[theirs]})


def grouped(parts: Parts, config: SamplingConfig, held_out: Ints) -> Grouped | None:
    """The groups that a recipe draws by; None where every tile comes once an epoch.

    Args:
        parts: datasets by their names; their tiles are numbered one dataset after the other.
        held_out: numbers of tiles (H,), rising, that do not come; a group without any other is left out.

    Raises:
        UsageError: such data cannot be drawn so; there is no such column; a tile or slide has no value in
            it; a weight is of no group.
    """
    if not config.draws:
        return None
    bounds = np.cumsum([0, *(sum(data.tile_counts().values()) for data in parts.values())])
    found, firsts = list[_Stretches](), list[Ints]()
    for (name, data), start, end in zip(parts.items(), bounds[:-1], bounds[1:], strict=True):
        without = held_out[(held_out >= start) & (held_out < end)] - start
        found.append(_stretches(name, data, config, without, len(parts) > 1))
        firsts.append(found[-1].starts[:-1] + start)
    begins = np.concatenate([*firsts, bounds[-1:]])
    begins = begins - np.searchsorted(held_out, begins)  # as they are numbered without those
    levels = {word: np.concatenate([part.values[word] for part in found]) for word in found[0].values}
    if config.datasets is not None:
        own = np.repeat(np.array(list(parts)), [len(part) for part in firsts])
        levels = {"dataset": own, **levels}
    return _tree(levels, begins[:-1], np.diff(begins), config)


def _tree(levels: dict[str, Names], firsts: Ints, sizes: Ints, config: SamplingConfig) -> Grouped:
    """Groups of stretches (R,), by the names that they have in each level."""
    names, codes, draws = list[Names](), list[Ints](), list[Callable[[Ints], Ints] | None]()
    given = {"dataset": config.datasets, config.by: config.weights, "MPP": _named(config.mpps)}
    for number, (word, values) in enumerate(levels.items()):
        different, code = np.unique(values, return_inverse=True)
        weights = _weights(word, given.get(word), different.tolist())
        names.append(different)
        codes.append(code.astype(np.int64))
        draws.append(_drawn(weights, number == 0 and word == config.by) if given.get(word) else None)
    made, starts, firsts, places, leaves = groups.tree(codes, firsts, sizes, draws)
    labels = {word: different[leaf] for word, different, leaf in zip(levels, names, leaves, strict=True)}
    return Grouped(labels, made, starts, firsts, places)


def _drawn(weights: Floats, as_before: bool) -> Callable[[Ints], Ints]:
    """What gives a parent's children their draws.

    Args:
        as_before: as runs of slides or values alone have always had them.
    """

    def drawn(children: Ints) -> Ints:
        own = weights[children]
        return groups.shares_as_draws(own) if as_before else groups.draws_of(own)

    return drawn


def _stretches(name: str, data: Dataset, config: SamplingConfig, held_out: Ints, several: bool) -> _Stretches:
    """A part's stretches of tiles of one name in each level."""
    index = data.tiles(("x",))
    found = _by(name, data, config, index, held_out, several)
    return found.cut(index.starts, "MPP", _resolutions(data, config, index)) if config.mpps else found


def _by(
    name: str, data: Dataset, config: SamplingConfig, index: TileIndex, held_out: Ints, several: bool
) -> _Stretches:
    """Stretches of one slide, value or cluster; of all tiles where none is drawn."""
    if config.by == "tile":
        return _Stretches(np.array([0, len(index)]), {})
    if config.by == "slide":
        if data.kind == "tiles":
            raise UsageError(
                f"{data.root}: imported tiles have no slides; sampling.by=group draws by group, label by it"
            )
        slides = slides_of(data, index)
        if several and config.datasets is None and config.mpps is None:
            slides = [f"{name}/{slide}" for slide in slides]  # two of one name are two
        return _Stretches(index.starts, {"slide": np.array(slides)})
    if config.table is not None:
        check_table(config.table)
    if config.table is not None and cluster_table.is_one(config.table):
        return _clusters(data, config)
    if config.table is not None:
        left = np.diff(index.starts - np.searchsorted(held_out, index.starts))
        return _Stretches(index.starts, {config.by: _of_table(data, config, index.slides, left)})
    values = _of_index(data, config.by)
    starts = _starts(values[1:] != values[:-1])
    return _Stretches(starts, {config.by: values[starts[:-1]]})


def check_table(path: Path) -> None:
    """Check that there is such a table.

    Raises:
        UsageError: there is none.
    """
    if not path.exists():
        raise UsageError(f"sampling.table {path}: no such file")


def _clusters(data: Dataset, config: SamplingConfig) -> _Stretches:
    """Stretches of tiles of one cluster, with those of each level, the coarsest first."""
    assert config.table is not None
    if config.by != CLUSTER or config.weights:
        raise UsageError(
            f"sampling.table {config.table}: holds clusters, which `by: {CLUSTER}` draws alike, level by "
            "level, without weights"
        )
    state = config.table.stat()
    found = _read_clusters(config.table, (state.st_mtime_ns, state.st_size)).of(data, config.table)
    starts = _starts((found[1:] != found[:-1]).any(axis=1))
    first = found[starts[:-1]]
    levels = reversed(range(found.shape[1]))
    return _Stretches(starts, {f"{CLUSTER}_{level + 1}": first[:, level].astype(str) for level in levels})


@lru_cache(1)
def _read_clusters(path: Path, state: tuple[int, int]) -> ClusterTable:
    """A table as its file is now; several datasets may share it."""
    return cluster_table.read(path)


def _starts(changes: npt.NDArray[np.bool_]) -> Ints:
    """Where stretches begin, and their end, from whether each of N tiles but the first differs (N - 1,)."""
    return np.unique([0, *(np.flatnonzero(changes) + 1), len(changes) + 1])


def slides_of(data: Dataset, index: TileIndex) -> list[str]:
    """The slide of each shard of a dataset; the same one at several resolutions has several."""
    several = isinstance(data.params["mpp"], list)
    return [name.rpartition("_mpp")[0] for name in index.slides] if several else index.slides


def _resolutions(data: Dataset, config: SamplingConfig, index: TileIndex) -> Names:
    """(S,) the resolution of each slide's tiles, as it is named in the recipe."""
    assert config.mpps is not None
    stated = data.params.get("mpp")
    if stated is None:
        raise UsageError(
            f"sampling.mpps: {data.root} does not state its resolution; import it again with `--mpp`"
        )
    if isinstance(stated, list):
        endings = {f"{mpp:g}".replace(".", "-"): mpp for mpp in stated}
        own = [endings[name.rpartition("_mpp")[2]] for name in index.slides]
    else:
        own = [stated] * len(index.slides)
    there = np.array(list(config.mpps))
    for mpp in sorted(set(own)):
        if not np.isclose(there, mpp, rtol=1e-6).any():
            raise UsageError(
                f"sampling.mpps: {data.root} has tiles at {mpp:g} MPP, which it does not name; give it a "
                "weight, or train on a dataset without them"
            )
    return np.array([f"{there[np.argmin(np.abs(there - mpp))]:g}" for mpp in own])


def _named(mpps: Mapping[float, float] | None) -> dict[str, float] | None:
    return None if mpps is None else {f"{mpp:g}": weight for mpp, weight in mpps.items()}


def _of_table(data: Dataset, config: SamplingConfig, slides: Sequence[str], left: Ints) -> Names:
    """Each slide's cell in a table's column; empty where none of its tiles is ``left``, if there is none."""
    assert config.table is not None
    if data.kind == "tiles":
        raise UsageError(
            f"sampling.table {config.table}: {data.root} has imported tiles, no slides; leave it out, and "
            "draw by a column of the dataset"
        )
    table = label_table.read([config.table], data.slide_names(slides))
    if config.by not in table.cells:
        raise UsageError(
            f"sampling.by: {config.table} has no column {config.by}; there are {', '.join(table.cells)}"
        )
    cells: Mapping[str, str] = dict(zip(table.slides, table.labels_of(config.by), strict=True))
    without = [slide for slide, tiles in zip(slides, left, strict=True) if tiles and not cells.get(slide)]
    if without:
        shown = ", ".join(without[:SHOWN]) + (", ..." if len(without) > SHOWN else "")
        raise UsageError(
            f"{config.table}: {counted(len(without), 'slide has', 'slides have')} no {config.by} "
            f"({shown}) and would never be drawn; "
            "give them one"
        )
    return np.array([cells.get(slide) or "" for slide in slides])


def _of_index(data: Dataset, column: str) -> Names:
    """Each tile's cell (N,) in a column of the index, as text."""
    if column == CLUSTER:
        raise UsageError(f"sampling.by: {CLUSTER} needs sampling.table, a table of `pathtrain curate`")
    if column not in SCHEMA.names:
        raise UsageError(
            f"sampling.by: there is no column {column}; there are {', '.join(SCHEMA.names)}, or give tile, "
            "slide, or sampling.table, a table of slides that has it"
        )
    if column in ("label", "group", "source"):
        texts = data.texts(column)
        missing = sum(not text for text in texts)
        values: npt.NDArray[np.str_] = np.array([text or "" for text in texts])
    else:
        found = data.tiles((column,)).columns[column]
        if found.ndim > 1:
            raise UsageError(f"sampling.by: {column} holds several numbers a tile; give a column of one")
        missing = int(np.isnan(found).sum()) if found.dtype.kind == "f" else 0
        values = np.array(STATUSES)[found] if column == "stain_status" else found.astype(str)
    if missing:
        raise UsageError(
            f"sampling.by: {missing:,} of {counted(len(values), 'tile')} in {data.root} have no "
            f"{column} and would never "
            "be drawn; give another column, or sampling.table, a table of slides"
        )
    return values


def _weights(word: str, given: Mapping[str, float] | None, names: list[str]) -> Floats:
    unknown = sorted((given or {}).keys() - set(names))
    if unknown:
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        key = {"dataset": "datasets", "MPP": "mpps"}.get(word, "weights")
        fix = "; leave it out, or shard the slides at it too" if word == "MPP" else ""
        raise UsageError(f"sampling.{key}: there is no {word} {unknown[0]}; there are {shown}{fix}")
    return np.array([(given or {}).get(name, 1.0) for name in names])
