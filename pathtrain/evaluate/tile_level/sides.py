"""Which tiles are learnt from, which choose among layers, and which are scored.

sources given     ``train``, perhaps ``val``, perhaps ``test``: datasets or folders of their own
the set's own     ``train`` alone, whose tiles its publisher put into partitions (imported by a preset, or a
                  column ``split`` in labels.csv): train, val and test, as far as they are there
neither           ``train`` alone: what becomes of it is up to the evaluation
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.storage.place import storage_at
from pathtrain.data.tile_labels import Labels, read_labels
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles, open_tiles
from pathtrain.evaluate.statistics import Ints
from pathtrain.evaluate.tile_level.labelled import NAMED, owners
from pathtrain.stain.target import ModelTarget

Tiles = DatasetTiles | FolderTiles
CALLED = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sides:
    """Tiles by their part in an evaluation; of one source with a split of its own, it stands for each.

    Attributes:
        names: ``train``, then ``val`` and ``test`` as far as they are there.
        sources: of each name.
        labels: of each name (N,): -1 for tiles of other sides as for those without a label.
        own: whether the split is the set's own.
    """

    names: list[str]
    sources: list[Tiles]
    labels: Labels
    own: bool

    @property
    def scored(self) -> str:
        """The side that figures are of: ``test``, else ``val``, else ``train``."""
        return next(name for name in ("test", "val", "train") if name in self.names)

    @property
    def said(self) -> str:
        """What is learnt from and scored, in words."""
        return f"train to {self.scored}" + (", the set's own split" if self.own else "")

    def of(self, name: str) -> tuple[Tiles, Ints]:
        """The tiles and class numbers of a side."""
        place = self.names.index(name)
        return self.sources[place], self.labels.values[place]

    def pair(self) -> "Sides":
        """Train and the side that is scored; alone, train."""
        kept = [place for place, name in enumerate(self.names) if name in ("train", self.scored)]
        labels = replace(self.labels, values=[self.labels.values[place] for place in kept])
        return Sides([self.names[p] for p in kept], [self.sources[p] for p in kept], labels, self.own)

    def absent(self) -> list[str]:
        """Classes without a tile on the side that is scored."""
        there = set(self.of(self.scored)[1].tolist())
        return [name for number, name in enumerate(self.labels.classes) if number not in there]


def open_sides(
    train: str | Path,
    val: str | Path | None,
    test: str | Path | None,
    labels: str | Path | None,
    label_origin: AskedOrigin,
    target: ModelTarget | None,
) -> Sides:
    """Open the tiles of an evaluation, with their labels.

    Args:
        train, val, test: datasets, or folders of labelled images; see the module's text.
        labels, label_origin: of datasets of slides; see pathtrain.data.tile_labels.
        target: of the model.

    Raises:
        UsageError: labels that do not fit, a group on two sides, a class that nothing is learnt of, ``val``
            without ``test``.
    """
    if val is not None and test is None:
        raise UsageError(f"`val` {val}: without `test` nothing would be scored; give it as `test`")
    # the same set may validate and be scored, as eva has it where a set has no validation part
    if val is not None and test is not None and _same(val, test):
        val = None
    given = {"train": train, "val": val, "test": test}
    places = {name: path for name, path in given.items() if path is not None}
    sources = [open_tiles(Path(path), target) for path in places.values()]
    found = read_labels(sources, None if labels is None else Path(labels), label_origin)
    sides = Sides(list(places), sources, found, False)
    if len(sources) == 1:
        sides = _own(sides)
    if len(sides.names) > 1:
        _check(sides)
    for name in sides.absent():
        log.warning(
            "%s: class %s has no tile to be scored: balanced accuracy is the mean over the others",
            sides.of(sides.scored)[0].path, name,
        )  # fmt: skip
    return sides


def _same(one: PurePath | str, other: PurePath | str) -> bool:
    return storage_at(one).absolute == storage_at(other).absolute


def _own(sides: Sides) -> Sides:
    """The sides of a set with a split of its own; the same sides where there is none."""
    (tiles,), (values,) = sides.sources, sides.labels.values
    if tiles.partitions is None:
        return sides
    parts = np.array([CALLED.get(part.casefold(), part.casefold()) for part in tiles.partitions])
    there = [name for name in ("train", "val", "test") if (values[parts == name] >= 0).any()]
    if "train" not in there or len(there) < 2:
        named = sorted({part for part in np.unique(parts[values >= 0]).tolist() if part})
        if len(named) > 1:
            log.warning(
                "%s: its partitions %s are not used: they are no train with val or test",
                tiles.path, ", ".join(named),
            )  # fmt: skip
        return sides
    other = sorted({*np.unique(parts[values >= 0]).tolist()} - {*there})
    if other:
        log.warning(
            "%s: tiles of partition %s are on no side", tiles.path, ", ".join(o or "''" for o in other)
        )
    divided = [np.where(parts == name, values, -1) for name in there]
    return Sides(there, [tiles] * len(there), replace(sides.labels, values=divided), True)


def _check(sides: Sides) -> None:
    """Refuse a group on two sides, one set as train and another, and a class that nothing is learnt of."""
    groups = [
        _groups(tiles, values, sides.own)
        for tiles, values in zip(sides.sources, sides.labels.values, strict=True)
    ]
    for place, tiles in enumerate(sides.sources):
        for before in range(place):
            first = sides.sources[before]
            if not sides.own and _same(first.path, tiles.path):
                raise UsageError(
                    f"{tiles.path}: is both training and test set; leave `test` out to split it by group"
                )
            shared = sorted(groups[before] & groups[place])
            if shared:
                named = f"{first.kind}{'s' if len(shared) > 1 else ''} {', '.join(shared[:NAMED])}"
                where = f"with {first.path}"
                if sides.own:
                    where = f"between its partitions {sides.names[before]} and {sides.names[place]}"
                raise UsageError(
                    f"{tiles.path}: shares {named} {where} ({len(shared)} in all); "
                    "tiles of one slide or group are alike, so none may be on both sides: split by slide or "
                    "group"
                )
        missing = set(sides.labels.values[place].tolist()) - {-1, *sides.labels.values[0].tolist()}
        if missing:
            name = sides.labels.classes[min(missing)]
            learnt = "partition train" if sides.own else sides.sources[0].path
            raise UsageError(
                f"{tiles.path}: class {name} has no tile in {learnt}; label some or leave it out"
            )


def _groups(tiles: Tiles, values: Ints, own: bool) -> set[str]:
    """Groups of the tiles of a side; of two sources all, labelled or not."""
    if not own:
        return owners(tiles)
    return {tiles.groups[number] for number in np.unique(tiles.group[values >= 0])}
