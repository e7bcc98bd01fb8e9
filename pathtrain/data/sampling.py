"""Tiles drawn by slide, or by the value of a column: which comes when is computed, as ever.

Position p of the run lies in cycle p // S. Of the S draws of a cycle each group (a slide, a value) has its
fixed share, one without weights, in an order that is a permutation keyed by the cycle. So it is known how
often a group was drawn before p, t times, and its tile is a permutation of the group's n tiles, keyed by
t // n and evaluated at t % n: each of its tiles comes once before one comes again. Nothing is stored but
where the groups' tiles lie, as stretches of the dataset's order: a slide is one stretch, whatever it holds.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import SCHEMA, STATUSES
from pathprep.dataset.tile_index import TileIndex
from pathprep.errors import UsageError
from pathprep.words import counted
from pathtrain.data import label_table
from pathtrain.data.order import Ints, hashed, permuted
from pathtrain.recipes.sampling import SamplingConfig

# Keep these permutations apart from others, and the groups' from that of the draws
_DRAWS, _GROUP = 0x6472617773, 0x67726F7570
# Draws of a cycle with weights, for a group of mean weight, and of all at least; shares are right to one draw
EACH, LEAST = 64, 1000
CYCLES = 4  # with weights, tables of so many cycles are kept
SHOWN = 5  # names in a message

Names = npt.NDArray[np.str_]


@dataclass(frozen=True)
class Grouped:
    """G groups of tiles, and how often each is drawn.

    Tiles are numbered from 0 without those that are held out.

    Attributes:
        names: (G) of slides or values, sorted; each has a tile.
        draws: (G,) in a cycle.
        starts: (G + 1,) of all groups' tiles, group after group, where each group's begin.
        firsts, places: (R,) of the stretches that these tiles are: the number of the first tile, and where
            among all groups' tiles it lies.
    """

    names: list[str]
    draws: Ints
    starts: Ints
    firsts: Ints
    places: Ints

    @cached_property
    def sizes(self) -> Ints:
        """(G,) tiles of each group."""
        return np.diff(self.starts)

    @cached_property
    def cycle(self) -> int:
        """S, the draws of a cycle."""
        return int(self.draws.sum())

    @property
    def reach(self) -> int:
        """So many positions in a row have every tile among them."""
        return self.cycle * (2 * int((-(-self.sizes // self.draws)).max()) + 1)

    def order(self, positions: Ints, seed: int) -> Ints:
        """Tile numbers (B,) at positions (B,) of the run."""
        groups, turns = self._drawn(np.asarray(positions, np.int64), seed)
        within = permuted(turns, self.sizes[groups], hashed(seed, _GROUP, groups))
        flat = self.starts[groups] + within
        stretch = np.searchsorted(self.places, flat, side="right") - 1
        found: Ints = self.firsts[stretch] + flat - self.places[stretch]
        return found

    def _drawn(self, positions: Ints, seed: int) -> tuple[Ints, Ints]:
        """(B,) the group at each position, and how often it was drawn before."""
        key = int(hashed(seed, _DRAWS)[0])
        cycles, at = np.divmod(positions, self.cycle)
        if len(self.draws) == self.cycle:  # once each
            return permuted(positions, self.cycle, key), cycles
        groups, turns = np.empty(len(positions), np.int64), np.empty(len(positions), np.int64)
        for number in np.unique(cycles).tolist():
            here = cycles == number
            order, before = self._table(number, key)
            groups[here], turns[here] = order[at[here]], before[at[here]]
        turns += cycles * self.draws[groups]
        return groups, turns

    @cached_property
    def _table(self) -> Callable[[int, int], tuple[Ints, Ints]]:
        return lru_cache(CYCLES)(self._draw_cycle)  # of this object: a cache of the class would keep it alive

    def _draw_cycle(self, number: int, key: int) -> tuple[Ints, Ints]:
        """(S,) a cycle's groups in their order, and how often each was drawn before in this cycle."""
        slots = permuted(np.arange(self.cycle) + number * self.cycle, self.cycle, key)
        groups = np.repeat(np.arange(len(self.draws)), self.draws)[slots]
        by_group = np.argsort(groups, kind="stable")
        before = np.empty_like(groups)
        before[by_group] = np.arange(self.cycle) - np.repeat(np.cumsum(self.draws) - self.draws, self.draws)
        return groups, before

    def digest(self) -> str:
        """16 hex digits that differ where groups, their tiles or their draws do."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        for part in (self.draws, self.starts, self.firsts, self.places):
            digest.update(part.astype(np.int64).tobytes())
        return digest.hexdigest()[:16]

    def said(self, by: str) -> str:
        """What it comes to, for people."""
        rates = self.draws / self.sizes
        often, rare = int(rates.argmax()), int(rates.argmin())
        shares = self.draws / self.cycle
        what = "slides" if by == "slide" else "values"
        same = shares.min() == shares.max()
        each = (
            f"each 1 tile in {len(self.names)}"
            if same
            else f"{shares.min():.1%} to {shares.max():.1%} of tiles"
        )
        return (
            f"sampling by {by}: {len(self.names)} {what}, {each}; a tile of {self.names[often]} "
            f"({self.sizes[often]} tiles) comes {rates[often] / rates[rare]:.3g} times as often as one of "
            f"{self.names[rare]} ({self.sizes[rare]})"
        )


def grouped(data: Dataset, config: SamplingConfig, held_out: Ints) -> Grouped | None:
    """The groups that a recipe draws by; None where every tile comes once an epoch.

    Args:
        held_out: numbers of tiles (H,), rising, that do not come; a group without any other is left out.

    Raises:
        UsageError: such data cannot be drawn so; there is no such column; a tile or slide has no value in
            it; a weight is of no group.
    """
    if config.datasets or config.mpps:
        raise UsageError(f"sampling.{config.draws}: {data.root} is one dataset, drawn from as one pool")
    if config.by == "tile":
        return None
    index = data.tiles(("x",))
    stretches, values = _stretches(data, config, index, held_out)
    starts = stretches - np.searchsorted(held_out, stretches)  # as they are numbered without those
    sizes = np.diff(starts)
    names, numbers = np.unique(values, return_inverse=True)
    weights = _weights(config, names.tolist())
    counts = np.bincount(numbers, sizes, len(names)).astype(np.int64)
    order = np.argsort(numbers, kind="stable")
    order = order[sizes[order] > 0]
    there = np.flatnonzero(counts)
    return Grouped(
        names[there].tolist(),
        _draws(weights[there]) if config.weights else np.ones(len(there), np.int64),
        np.concatenate([[0], np.cumsum(counts[there])]),
        starts[:-1][order],
        np.cumsum(sizes[order]) - sizes[order],
    )


def _stretches(data: Dataset, config: SamplingConfig, index: TileIndex, held_out: Ints) -> tuple[Ints, Names]:
    """Where stretches of tiles of one value begin, and the end (R + 1,); and each one's value (R,)."""
    if config.by == "slide":
        if data.kind == "tiles":
            raise UsageError(
                f"{data.root}: imported tiles have no slides; sampling.by=group draws by group, label by it"
            )
        slides = index.slides
        if isinstance(data.params["mpp"], list):  # the same slide at several resolutions
            slides = [name.rpartition("_mpp")[0] for name in slides]
        return index.starts, np.array(slides)
    if config.table is not None:
        left = np.diff(index.starts - np.searchsorted(held_out, index.starts))
        return index.starts, _of_table(data, config, index.slides, left)
    values = _of_index(data, config.by)
    changes = np.flatnonzero(values[1:] != values[:-1]) + 1
    starts = np.concatenate([[0], changes, [len(values)]])
    return starts, values[starts[:-1]]


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
    if column not in SCHEMA.names:
        raise UsageError(
            f"sampling.by: there is no column {column}; there are {', '.join(SCHEMA.names)}, or give "
            "sampling.table, a table of slides that has it"
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


def _weights(config: SamplingConfig, names: list[str]) -> npt.NDArray[np.float64]:
    given = config.weights or {}
    unknown = sorted(given.keys() - set(names))
    if unknown:
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        raise UsageError(f"sampling.weights: there is no {config.by} {unknown[0]}; there are {shown}")
    return np.array([given.get(name, 1.0) for name in names])


def _draws(weights: npt.NDArray[np.float64]) -> Ints:
    """Whole numbers of draws, at least one each, in proportion to weights: largest remainders."""
    whole = max(LEAST, EACH * len(weights))
    exact = weights / weights.sum() * whole
    found: Ints = np.maximum(1, np.floor(exact).astype(np.int64))
    left = whole - int(found.sum())
    if left > 0:
        found[np.argsort(found - exact, kind="stable")[:left]] += 1
    return found
