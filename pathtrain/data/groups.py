"""Tiles drawn level by level: a dataset, a slide of it, a resolution, a tile. Which comes when is computed.

Position p of the run lies in cycle p // S. Of the S draws of a cycle each child (a slide, a value) has its
fixed share, one without weights, in an order that is a permutation keyed by the cycle. So it is known how
often a child was drawn before p, t times; and t is the position within the child, of which the same is asked
again. At the end the tile is a permutation of the group's n tiles, keyed by t // n and evaluated at t % n:
each of its tiles comes once before one comes again. Nothing is stored but where the groups' tiles lie, as
stretches of the data's order: a slide is one stretch, whatever it holds.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from pathtrain.data.order import Ints, hashed, permuted

# Keep these permutations apart from others, and the groups' from that of the draws
_DRAWS, _GROUP, _PICK = 0x6472617773, 0x67726F7570, 0x7069636B
# Draws of a cycle with weights, for a child of mean weight, and of all at least; shares are right to one draw
EACH, LEAST = 64, 1000
CYCLES = 4  # with weights, tables of so many cycles of the first level are kept
FEW = 6  # names whose shares are said one by one
ORDERS = 16  # orders of a cycle that parents of the same weights below the first level share, each by a hash


@dataclass(frozen=True)
class Level:
    """P parents and their C children, parent after parent.

    Attributes:
        starts: (P + 1,) where each parent's children begin.
        draws: (C,) of each child in a cycle of its parent.
    """

    starts: Ints
    draws: Ints

    @cached_property
    def counts(self) -> Ints:
        """(P,) children of each parent."""
        return np.diff(self.starts)

    @cached_property
    def cycles(self) -> Ints:
        """(P,) draws of a cycle."""
        return np.add.reduceat(self.draws, self.starts[:-1])

    @cached_property
    def shares(self) -> npt.NDArray[np.float64]:
        """(C,) of each child among its parent's draws."""
        return self.draws / np.repeat(self.cycles, self.counts)

    @cached_property
    def kinds(self) -> tuple[Ints, list[Ints]]:
        """(P,) which of the different rows of draws each parent has, -1 for one of each; and these rows."""
        found, rows = np.full(len(self.counts), -1, np.int64), dict[bytes, int]()
        for parent in np.flatnonzero(self.cycles > self.counts).tolist():
            row = self.draws[self.starts[parent] : self.starts[parent + 1]]
            found[parent] = rows.setdefault(row.tobytes(), len(rows))
        return found, [np.frombuffer(row, np.int64) for row in rows]

    def needs(self, below: Ints) -> Ints:
        """(P,) draws in a row of a parent that give child c at least ``below[c]`` in a row."""
        most = np.maximum.reduceat(-(-below // self.draws), self.starts[:-1])
        found: Ints = self.cycles * (most + 1)
        return found


@dataclass(frozen=True)
class Grouped:
    """G groups of tiles at the ends of a tree, and how often each is drawn.

    Tiles are numbered from 0 without those that are held out.

    Attributes:
        labels: (G) names by the word of each level, such as those of slides; each group has a tile.
        levels: of the tree, from its root on; the children of the last one are the groups.
        starts: (G + 1,) of all groups' tiles, group after group, where each group's begin.
        firsts, places: (R,) of the stretches that these tiles are: the number of the first tile, and where
            among all groups' tiles it lies.
    """

    labels: dict[str, npt.NDArray[np.str_]]
    levels: tuple[Level, ...]
    starts: Ints
    firsts: Ints
    places: Ints

    @cached_property
    def names(self) -> list[str]:
        """(G) of the groups: their names in all levels."""
        return [
            "/".join(parts) for parts in zip(*(part.tolist() for part in self.labels.values()), strict=True)
        ]

    @cached_property
    def sizes(self) -> Ints:
        """(G,) tiles of each group."""
        return np.diff(self.starts)

    @cached_property
    def cycle(self) -> int:
        """S, the draws of a cycle of the first level."""
        return int(self.levels[0].cycles[0])

    @cached_property
    def shares(self) -> npt.NDArray[np.float64]:
        """(G,) of all draws, each group's."""
        found = np.ones(1)
        for level in self.levels:
            found = np.repeat(found, level.counts) * level.shares
        return found

    @property
    def reach(self) -> int:
        """So many positions in a row have every tile among them."""
        needed = 2 * self.sizes
        for level in reversed(self.levels):
            needed = level.needs(needed)
        return int(needed[0])

    def order(self, positions: Ints, seed: int) -> Ints:
        """Tile numbers (B,) at positions (B,) of the run."""
        turns = np.asarray(positions, np.int64)
        groups = np.zeros(len(turns), np.int64)
        for number in range(len(self.levels)):
            groups, turns = self._drawn(number, groups, turns, seed)
        within = permuted(turns, self.sizes[groups], hashed(seed, _GROUP, groups))
        flat = self.starts[groups] + within
        stretch = np.searchsorted(self.places, flat, side="right") - 1
        found: Ints = self.firsts[stretch] + flat - self.places[stretch]
        return found

    def _drawn(self, number: int, parents: Ints, turns: Ints, seed: int) -> tuple[Ints, Ints]:
        """(B,) the child at each turn of its parent, and how often it was drawn before."""
        level = self.levels[number]
        cycles, at = np.divmod(turns, level.cycles[parents])
        kinds, rows = level.kinds
        children, before = np.empty_like(turns), np.empty_like(turns)
        once = kinds[parents] < 0
        # of the first level as it was before there were others
        words = [seed, _DRAWS] if number == 0 else [seed, _DRAWS, number, parents[once]]
        children[once] = permuted(turns[once], level.counts[parents[once]], hashed(*words))
        before[once] = cycles[once]
        for kind in np.unique(kinds[parents[~once]]).tolist():
            here = np.flatnonzero(kinds[parents] == kind)
            if number == 0:
                picked, key = cycles[here], int(hashed(seed, _DRAWS)[0])
            else:
                picked = (hashed(seed, _PICK, number, parents[here], cycles[here]) % ORDERS).astype(np.int64)
                key = int(hashed(seed, _DRAWS, number, kind)[0])
            for pick in np.unique(picked).tolist():
                those = here[picked == pick]
                order, earlier = self._table(number, kind, pick, key)
                children[those] = order[at[those]]
                before[those] = earlier[at[those]] + cycles[those] * rows[kind][children[those]]
        return level.starts[parents] + children, before

    @cached_property
    def _table(self) -> Callable[[int, int, int, int], tuple[Ints, Ints]]:
        # of this object: a cache of the class would keep it alive
        first = lru_cache(CYCLES)(self._draw_cycle)
        below = lru_cache(None)(self._draw_cycle)
        return lambda number, *rest: (below if number else first)(number, *rest)

    def _draw_cycle(self, number: int, kind: int, pick: int, key: int) -> tuple[Ints, Ints]:
        """(S,) a cycle's children in their order, and how often each was drawn before in this cycle."""
        draws = self.levels[number].kinds[1][kind]
        whole = int(draws.sum())
        slots = permuted(np.arange(whole) + pick * whole, whole, key)
        children = np.repeat(np.arange(len(draws)), draws)[slots]
        by_child = np.argsort(children, kind="stable")
        before = np.empty_like(children)
        before[by_child] = np.arange(whole) - np.repeat(np.cumsum(draws) - draws, draws)
        return children, before

    def shares_of(self, bounds: Ints) -> npt.NDArray[np.float64]:
        """(D,) of all draws, those of tiles bounds[d] to bounds[d + 1], as tiles are numbered here."""
        lengths = np.diff(self.places, append=self.starts[-1])
        group = np.searchsorted(self.starts, self.places, side="right") - 1
        part = np.searchsorted(bounds, self.firsts, side="right") - 1
        rates = (self.shares / self.sizes)[group]
        found: npt.NDArray[np.float64] = np.bincount(part, rates * lengths, len(bounds) - 1).astype(float)
        return found

    def said(self) -> str:
        """What it comes to, for people."""
        rates = self.shares / self.sizes
        often, rare = int(rates.argmax()), int(rates.argmin())
        found = [
            f"sampling by {', then '.join(self.labels)}: "
            + ", ".join(_told(word, names, self.shares) for word, names in self.labels.items())
        ]
        return (
            f"{'; '.join(found)}; a tile of {self.names[often]} ({self.sizes[often]} tiles) comes "
            f"{rates[often] / rates[rare]:.3g} times as often as one of {self.names[rare]} "
            f"({self.sizes[rare]})"
        )

    def digest(self) -> str:
        """16 hex digits that differ where groups, their tiles or their draws do."""
        digest = hashlib.sha256("\n".join(self.names).encode())
        above = [part for level in self.levels[:-1] for part in (level.starts, level.draws)]
        last = self.levels[-1]
        if above:
            above.append(last.starts)
        for part in (*above, last.draws, self.starts, self.firsts, self.places):
            digest.update(part.astype(np.int64).tobytes())
        return digest.hexdigest()[:16]


def _told(word: str, names: npt.NDArray[np.str_], shares: npt.NDArray[np.float64]) -> str:
    """How often a level's names are drawn."""
    different, numbers = np.unique(names, return_inverse=True)
    each = np.bincount(numbers, shares)
    plural = {"slide": "slides", "dataset": "datasets", "MPP": "MPPs"}.get(word, "values")
    if np.allclose(each, each[0]):
        return f"{len(each)} {plural}, each 1 tile in {len(each)}"
    if len(each) <= FEW:
        shown = (f"{name} {share:.1%}" for name, share in zip(different.tolist(), each, strict=True))
        return f"{len(each)} {plural} ({', '.join(shown)} of tiles)"
    return f"{len(each)} {plural}, {each.min():.1%} to {each.max():.1%} of tiles"


def tree(
    codes: list[Ints], firsts: Ints, sizes: Ints, draws: list[Callable[[Ints], Ints] | None]
) -> tuple[tuple[Level, ...], Ints, Ints, Ints, list[Ints]]:
    """Levels, starts, firsts and places of Grouped, and the codes (G,) of each group by level.

    Args:
        codes: of each level, (R,) which child each stretch of tiles belongs to.
        firsts, sizes: (R,) of the stretches: the first tile, and how many; empty ones are left out.
        draws: of each level, what gives the draws of a parent's children by their codes; None for one each.
    """
    kept = np.flatnonzero(sizes > 0)
    order = kept[np.lexsort([kept, *(code[kept] for code in reversed(codes))])]
    sizes, firsts, codes = sizes[order], firsts[order], [code[order] for code in codes]
    new = np.zeros(len(order), bool)
    new[:1] = True
    levels, above = list[Level](), np.zeros(1, np.int64)  # where each parent's stretches begin
    for code, drawn in zip(codes, draws, strict=True):
        new[1:] |= code[1:] != code[:-1]
        begins = np.flatnonzero(new)
        starts = np.concatenate([np.searchsorted(begins, above), [len(begins)]])
        here = code[begins]
        if drawn is None:
            counts = np.ones(len(here), np.int64)
        else:
            counts = np.concatenate([drawn(part) for part in np.split(here, starts[1:-1])])
        levels.append(Level(starts, counts))
        above = begins
    ends = np.concatenate([[0], np.cumsum(sizes)])
    starts = np.append(ends[above], ends[-1])
    return tuple(levels), starts, firsts, ends[:-1], [code[above] for code in codes]


def shares_as_draws(weights: npt.NDArray[np.float64]) -> Ints:
    """Whole numbers of draws, at least one each, in proportion to weights: largest remainders."""
    whole = max(LEAST, EACH * len(weights))
    exact = weights / weights.sum() * whole
    found: Ints = np.maximum(1, np.floor(exact).astype(np.int64))
    left = whole - int(found.sum())
    if left > 0:
        found[np.argsort(found - exact, kind="stable")[:left]] += 1
    return found


def draws_of(weights: npt.NDArray[np.float64]) -> Ints:
    """As ``shares_as_draws``, but with a short cycle where the weights are as small whole numbers."""
    ratios = weights / weights.min()
    whole = np.round(ratios)
    if whole.sum() <= LEAST and np.allclose(ratios, whole, rtol=1e-9, atol=0):
        found: Ints = whole.astype(np.int64)
        return found
    return shares_as_draws(weights)
