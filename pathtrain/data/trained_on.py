"""What training asks of the tiles that it trains on: those of a dataset, and of mixed shards.

Training, hold-out, identity, probes and the stain settings know a ``TrainingData`` and not what it is.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError, UsageError
from pathprep.folders import is_pseudonymised
from pathprep.mixed.reader import MixedDataset
from pathprep.storage.place import storage_at
from pathprep.words import command, counted
from pathtrain.data.groups import Grouped
from pathtrain.data.mixed_source import MixedSource
from pathtrain.data.order import Ints
from pathtrain.data.sampling import grouped
from pathtrain.data.source import NO_TILES, DatasetSource, TileSource
from pathtrain.data.whole_tiles import DatasetTiles
from pathtrain.recipes.sampling import SamplingConfig
from pathtrain.stain.suits import Stained


class TrainingData(ABC):
    """N tiles that a run is trained on, numbered from 0.

    Attributes:
        said: what messages call it: a folder or URL, or several.
        roots: folders or URLs, in the order in which they were named.
        stained: what says how the tiles' stain was treated when they were stored; they agree in it.
        measured: the dataset that probes without one of their own measure on, and out of which their slides
            are held; None if there is none, which ``unmeasured`` gives the reason of.
        unmeasured: the reason.
        estimated: whether N is what the tiles would about be, and not counted.
    """

    roots: Sequence[PurePath]
    stained: Sequence[Stained]
    measured: Dataset | None = None
    unmeasured: str = ""
    estimated: bool = False

    @property
    def said(self) -> str:
        return ", ".join(map(str, self.roots))

    def counted(self, number: int) -> str:
        """So many of its tiles, for people: 206 tiles, or about 206 tiles."""
        return f"{'about ' if self.estimated else ''}{counted(number, 'tile')}"

    @abstractmethod
    def __len__(self) -> int:
        """N."""

    @abstractmethod
    def groups(self, sampling: SamplingConfig, held_out: Ints) -> Grouped | None:
        """The groups that a recipe draws by; None where every tile comes once an epoch.

        Args:
            held_out: numbers of tiles (H,), rising, that do not come.

        Raises:
            UsageError: this data cannot be drawn so.
        """

    @abstractmethod
    def source(self, sampling: SamplingConfig, held_out: Ints = NO_TILES) -> TileSource:
        """Its tiles in the order of a run, without those held out; errors as ``groups``."""

    @abstractmethod
    def tiles_of(self, slides: Collection[str]) -> Ints:
        """Numbers, rising, of the tiles of slides (of imported tiles, of groups), wherever these are."""

    @abstractmethod
    def trained(self, place: PurePath, slides: Collection[str]) -> set[str]:
        """Which of some slides (or groups) of the dataset at ``place`` are among these; told by their names,
        where these are kept."""

    @abstractmethod
    def places(self) -> set[str]:
        """Absolute paths or URLs of all that its tiles are of."""

    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """Which tiles there are: what a resume must find unchanged, ``dataset build id``, what
        ``dataset slides`` is the digest of, and of a survey how tiles are drawn."""

    @abstractmethod
    def counts(self, held_out: Collection[str]) -> dict[str, int | None]:
        """How many ``slides`` and ``groups`` the tiles are of; None where that is not known.

        Imported tiles have groups, and those without one are each their own; their shards are neither.

        Args:
            held_out: slides, of imported tiles groups, that are not trained on.
        """

    def account(self, groups: Grouped | None, held_out: Ints) -> list[str]:
        """Lines on what is drawn how often, for people, beside what the groups say."""
        return []

    def one(self, what: str) -> Dataset:
        """The dataset that this is.

        Args:
            what: that needs one, for the message.

        Raises:
            UsageError: it is something else.
        """
        raise UsageError(f"{self.said}: {self.unmeasured}; {what} needs a dataset")

    def place(self) -> dict[str, Any]:
        """Where the tiles are, for run.json; of pseudonymised ones, what their folders are called: a path
        tells of a machine."""
        hidden = [is_pseudonymised(root) for root in self.roots]
        names = [
            PurePath(storage_at(root).absolute).name if hide else str(root)
            for root, hide in zip(self.roots, hidden, strict=True)
        ]
        found = {"dataset": names[0] if len(names) == 1 else names}
        return {**found, "pseudonymised": True} if any(hidden) else found


class OneDataset(TrainingData):
    """A dataset."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = self.measured = dataset
        self.roots, self.stained = [dataset.root], [dataset]

    def __len__(self) -> int:
        return sum(self.dataset.tile_counts().values())

    def groups(self, sampling: SamplingConfig, held_out: Ints) -> Grouped | None:
        return grouped({self.dataset.root.name: self.dataset}, sampling, held_out)

    def source(self, sampling: SamplingConfig, held_out: Ints = NO_TILES) -> DatasetSource:
        return DatasetSource(self.dataset, held_out, groups=self.groups(sampling, held_out))

    def tiles_of(self, slides: Collection[str]) -> Ints:
        return members(self.dataset, slides)

    def trained(self, place: PurePath, slides: Collection[str]) -> set[str]:
        return set(slides) & set(DatasetTiles(self.dataset.root).groups)

    def places(self) -> set[str]:
        return {self.dataset.storage.absolute}

    def identity(self) -> dict[str, Any]:
        return {
            "dataset build id": self.dataset.info["build_id"],
            "dataset slides": self.dataset.tile_counts(),
        }

    def counts(self, held_out: Collection[str]) -> dict[str, int | None]:
        tiles = DatasetTiles(self.dataset.root)
        found = len(tiles.groups) - len(held_out)
        slides = tiles.kind == "slide"
        return {"slides": found if slides else None, "groups": None if slides else found}

    def account(self, groups: Grouped | None, held_out: Ints) -> list[str]:
        """Lines on what is drawn how often, for people, beside what the groups say."""
        return []

    def one(self, what: str) -> Dataset:
        return self.dataset


class MixedShards(TrainingData):
    """Mixed shards: read in their own order, so slides are neither drawn nor held out."""

    unmeasured = "mixed shards have no slides"

    def __init__(self, mix: MixedDataset) -> None:
        self.mix = mix
        self.roots, self.stained = [mix.root], [mix]

    def __len__(self) -> int:
        return len(self.mix)

    def groups(self, sampling: SamplingConfig, held_out: Ints) -> None:
        if sampling.draws:
            raise UsageError(
                f"{self.said}: mixed shards are read from beginning to end in an order that `pathprep mix` "
                f"has fixed; sampling.{sampling.draws} needs the dataset that they were made of"
            )

    def source(self, sampling: SamplingConfig, held_out: Ints = NO_TILES) -> MixedSource:
        self.groups(sampling, held_out)
        return MixedSource(self.mix)

    def tiles_of(self, slides: Collection[str]) -> Ints:
        return NO_TILES

    def trained(self, place: PurePath, slides: Collection[str]) -> set[str]:
        return set(slides) if storage_at(place).absolute in self.places() else set()

    def places(self) -> set[str]:
        sources = {storage_at(source["path"]).absolute for source in self.mix.info["sources"]}
        return {self.mix.storage.absolute, *sources}

    def identity(self) -> dict[str, Any]:
        return {
            "dataset build id": self.mix.info["build_id"],
            "dataset slides": self.mix.tile_counts(),
        }

    def counts(self, held_out: Collection[str]) -> dict[str, int | None]:
        """Mixed shards of imported sets do not keep how many groups there were."""
        imported = "txt" in self.mix.info["components"]
        counts = [int(source["slides"]) for source in self.mix.info["sources"]]
        return {"slides": None if imported else sum(counts), "groups": None}


def no_tiles(data: TrainingData) -> DatasetError:
    """The refusal of data without a tile."""
    return DatasetError(f"{data.said}: no tiles to train on; see {command('pathprep report', data.roots[0])}")


def members(dataset: Dataset, slides: Collection[str]) -> Ints:
    """Numbers, rising, of the tiles of some of a dataset's slides (of imported tiles, of groups)."""
    if not slides:
        return NO_TILES
    found = [*DatasetTiles(dataset.root).members(set(slides)).values()]
    return np.sort(np.concatenate([NO_TILES, *found]))
