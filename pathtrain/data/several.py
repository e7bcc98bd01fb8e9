"""Several datasets in one run: tiles are numbered one dataset after the other, in the order in which these
are named, and drawn as one pool or as the recipe's ``sampling`` says."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.stain import StainFit
from pathtrain.data.groups import Grouped
from pathtrain.data.order import Ints
from pathtrain.data.sampling import grouped
from pathtrain.data.source import NO_TILES, DatasetSource, Order, Place, TileSource
from pathtrain.data.trained_on import OneDataset, TrainingData
from pathtrain.recipes.sampling import SamplingConfig
from pathtrain.stain.stage import Fits


class SeveralDatasets(TrainingData):
    """D datasets.

    Probes without a dataset of their own measure on the one with the most slides; slides that are held out
    of it are held out of the others too, by their names.

    Raises:
        UsageError: one is named twice; they differ in the tiles' size, or in how their stain was treated.
    """

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        self.parts = [OneDataset(data) for data in datasets]
        self.roots, self.stained = [data.root for data in datasets], list(datasets)
        _check_apart(datasets)
        _check_alike(datasets)
        self.named = dict(zip(names(self.roots), datasets, strict=True))
        self._bounds = np.cumsum([0, *map(len, self.parts)])
        # the first of those with the most
        self.measured = max(datasets, key=lambda data: sum(n > 0 for n in data.tile_counts().values()))

    def __len__(self) -> int:
        return int(self._bounds[-1])

    def groups(self, sampling: SamplingConfig, held_out: Ints) -> Grouped | None:
        return grouped(self.named, sampling, held_out)

    def source(self, sampling: SamplingConfig, held_out: Ints = NO_TILES) -> "SeveralSource":
        sources = {name: DatasetSource(data) for name, data in self.named.items()}
        return SeveralSource(sources, Order(len(self), held_out, self.groups(sampling, held_out)))

    def tiles_of(self, slides: Collection[str]) -> Ints:
        starts = zip(self.parts, self._bounds.tolist(), strict=False)
        return np.concatenate([part.tiles_of(slides) + start for part, start in starts])

    def trained(self, place: PurePath, slides: Collection[str]) -> set[str]:
        return set().union(*(part.trained(place, slides) for part in self.parts))

    def places(self) -> set[str]:
        return set().union(*(part.places() for part in self.parts))

    def identity(self) -> dict[str, Any]:
        found = [part.identity() for part in self.parts]
        return {key: [each[key] for each in found] for key in found[0]}

    def counts(self, held_out: Collection[str]) -> dict[str, int | None]:
        """Slides of one name in two datasets count twice."""
        found: dict[str, int | None] = {"slides": None, "groups": None}
        for part in self.parts:
            gone = part.trained(part.roots[0], held_out)
            for kind, count in part.counts(gone).items():
                if count is not None:
                    found[kind] = (found[kind] or 0) + count
        return found

    def one(self, what: str) -> Dataset:
        raise UsageError(f"{self.said}: {len(self.parts)} datasets; {what} trains on one: name one of them")

    def account(self, groups: Grouped | None, held_out: Ints) -> list[str]:
        bounds = self._bounds - np.searchsorted(held_out, self._bounds)
        sizes = np.diff(bounds)
        shares = sizes / max(1, bounds[-1]) if groups is None else groups.shares_of(bounds)
        each = zip(self.named, sizes.tolist(), shares.tolist(), strict=True)
        return ["tiles drawn: " + ", ".join(f"{s:.1%} of {name} ({n:,})" for name, n, s in each)]


class SeveralSource(TileSource):
    """The tiles of several datasets.

    Args:
        sources: of the datasets, by their names.
        order: of all tiles.
    """

    def __init__(self, sources: Mapping[str, DatasetSource], order: Order) -> None:
        self._names, self._parts, self._order = list(sources), list(sources.values()), order
        self.storage, self.stain = self._parts[0].storage, self._parts[0].stain
        self._bounds = np.cumsum([0, *map(len, self._parts)])

    @property
    def said(self) -> str:
        return ", ".join(part.said for part in self._parts)

    def __len__(self) -> int:
        return len(self._order)

    def order(self, positions: Ints, seed: int) -> Ints:
        return self._order(positions, seed)

    @property
    def reach(self) -> int:
        return self._order.reach

    def place(self, tile: int) -> Place:
        part, own = self._own(tile)
        return self._parts[part].place(own)

    def name(self, tile: int) -> str:
        part, own = self._own(tile)
        return f"{self._parts[part].name(own)} of {self._names[part]}"

    def home(self, tile: int) -> PurePath:
        return self._parts[self._own(tile)[0]].root

    def read(self, tile: int) -> bytes:
        part, own = self._own(tile)
        return self._parts[part].read(own)

    @property
    def has_fits(self) -> bool:
        return all(part.has_fits for part in self._parts)

    def fits(self) -> "_JoinedFits":
        return _JoinedFits([part.fits() for part in self._parts], self._bounds)

    def close(self) -> None:
        for part in self._parts:
            part.close()

    def _own(self, tile: int) -> tuple[int, int]:
        """A tile's dataset and its number there."""
        part = int(np.searchsorted(self._bounds, tile, side="right")) - 1
        return part, tile - int(self._bounds[part])


class _JoinedFits:
    """Fits of several datasets' tiles, numbered one dataset after the other."""

    def __init__(self, parts: Sequence[Fits], bounds: Ints) -> None:
        self._parts, self._bounds = parts, bounds

    def take(self, tiles: Ints) -> StainFit:
        """Those of some tiles (B,)."""
        owner = np.searchsorted(self._bounds, tiles, side="right") - 1
        order = np.argsort(owner, kind="stable")
        some = np.unique(owner).tolist()
        found = StainFit.join(
            [self._parts[part].take(tiles[owner == part] - self._bounds[part]) for part in some]
        )
        back = np.argsort(order, kind="stable")
        return StainFit(found.he[back], found.max_c[back], found.tissue_pixels[back], found.status[back])


def names(roots: Sequence[PurePath]) -> list[str]:
    """What datasets are called: the last part of their paths, or as many as tell them apart."""
    parts = [root.parts for root in roots]
    for length in range(1, max(map(len, parts)) + 1):
        found = ["/".join(each[-length:]) for each in parts]
        if len(set(found)) == len(found):
            return found
    return [str(root) for root in roots]


def _check_apart(datasets: Sequence[Dataset]) -> None:
    """That no dataset comes twice, by another name, a link or a copy: its tiles would come twice as often."""
    seen = dict[tuple[str, str], PurePath]()
    slides = Counter(name for data in datasets for name, tiles in data.tile_counts().items() if tiles)
    for data in datasets:
        index = data.tiles(["crc32"])
        for name in index.slides:
            if slides[name] == 1:
                continue
            tiles = index.tiles_of(name)
            own = np.asarray(index.columns["crc32"][tiles.start : tiles.stop])
            other = seen.setdefault((name, hashlib.sha256(own.tobytes()).hexdigest()), data.root)
            if other is not data.root:
                raise UsageError(
                    f"slide {name} has the same tiles in {other} and in {data.root}: name each dataset once; "
                    "sampling.datasets says how often each is drawn"
                )


def _check_alike(datasets: Sequence[Dataset]) -> None:
    first = datasets[0]
    for other in datasets[1:]:
        for what, fix in (
            ("tile size", "make them again at one size"),
            (
                "stain",
                "make one of them again, with `--stain bake` to the same target, or with `--stain fit`",
            ),
        ):
            here, there = _nature(first)[what], _nature(other)[what]
            if here != there:
                raise UsageError(
                    f"{what}: {first.root} has {here}, {other.root} has {there}; datasets of one run agree "
                    f"in it: {fix}, or train on one of them"
                )


def _nature(data: Dataset) -> dict[str, str]:
    """What datasets of a run share, in words."""
    params, stain = data.params, data.params["stain"]
    if "tile" in params:
        sides = [params["tile"]]
    else:
        sides = np.unique(data.tiles(["stored"]).columns["stored"]).tolist()
    size = f"{', '.join(map(str, sides))} px"
    if stain["mode"] != "bake":
        return {"tile size": size, "stain": "plain tiles"}
    most, hed = (
        stain["target"]["max_c"],
        [[round(float(row[number]), 3) for row in stain["target"]["he"]] for number in range(2)],
    )
    return {
        "tile size": size,
        "stain": f"tiles normalised to H {hed[0]} of {most[0]:.3g}, E {hed[1]} of {most[1]:.3g}",
    }
