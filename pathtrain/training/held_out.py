"""What training leaves out for the collapse score: slides of another dataset, or of its own.

Its own are drawn with the recipe's seed and left out of the run's order.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

import numpy as np

from pathprep.dataset.reader import Dataset
from pathprep.errors import UsageError
from pathprep.mixed.reader import MixedDataset
from pathprep.storage.place import storage_at
from pathtrain.data.order import Ints
from pathtrain.data.source import NO_TILES
from pathtrain.data.whole_tiles import DatasetTiles
from pathtrain.evaluate.tile_level.collapse import generator, open_slides
from pathtrain.recipes.recipe import Recipe

SHARE = 10  # a tenth of a dataset's slides are held out at most, or two
INSTEAD = "give other slides, collapse.dataset=DATASET, or none, collapse.every=0"


@dataclass(frozen=True)
class HeldOut:
    """What training leaves out, and what the collapse score is measured on.

    Attributes:
        slides: of the training data, that are left out.
        tiles: numbers (H,), rising, of their tiles.
        dataset: what is measured on, these slides of the training data or others; None for no score.
        said: what the user should know.
    """

    slides: tuple[str, ...] = ()
    tiles: Ints = field(default_factory=NO_TILES.copy)
    dataset: PurePath | None = None
    said: str = ""


def hold_out(
    data: Dataset | MixedDataset,
    recipe: Recipe,
    labelled: Collection[str] = (),
    before: Sequence[str] | None = None,
) -> HeldOut:
    """What the recipe's ``collapse`` leaves out of training; every process of a run finds the same.

    Args:
        labelled: slides that training has labels of; they are not held out.
        before: what the run has held out so far, which does not change; None for a new run.

    Raises:
        UsageError: the training data has too few slides to do without some, or ``collapse.dataset`` is no
            dataset of other slides.
    """
    config = recipe.collapse
    if config.every and config.dataset is not None:
        _check_apart(data, config.dataset)
    slides = tuple(before or ())
    if before is None and config.every and config.dataset is None and isinstance(data, Dataset):
        slides = _draw(DatasetTiles(data.root), recipe, labelled)
    found = HeldOut(slides, tiles_of(data, slides))
    kept = f"{len(slides)} slides, {len(found.tiles)} of {sum(data.tile_counts().values())} tiles"
    if not config.every:
        return replace(found, said=f"held out as before: {kept}" if slides else "")
    if config.dataset is not None:
        return replace(found, dataset=config.dataset, said=f"collapse score on {config.dataset}")
    if slides:
        return replace(found, dataset=data.root, said=f"held out for the collapse score: {kept}")
    why = "mixed shards have no slides" if isinstance(data, MixedDataset) else "the run began without slides"
    said = f"no collapse score: {why} to hold out; collapse.dataset=DATASET measures on others"
    return replace(found, said=said)


def tiles_of(data: Dataset | MixedDataset, slides: Sequence[str]) -> Ints:
    """Tile numbers, rising, of slides (of imported tiles, of groups) that are held out."""
    if not slides or isinstance(data, MixedDataset):
        return NO_TILES
    return np.sort(np.concatenate([*DatasetTiles(data.root).members(set(slides)).values()]))


def _draw(tiles: DatasetTiles, recipe: Recipe, labelled: Collection[str]) -> tuple[str, ...]:
    counts, kind = tiles.counts(), tiles.kind
    used: set[str] = set()
    if labelled:
        groups = tiles.groups_of(tiles.starts[:-1]).tolist()
        used = {tiles.groups[g] for slide, g in zip(tiles.slides, groups, strict=True) if slide in labelled}
    free = [name for name, count in counts.items() if count >= 2 and name not in used]
    if len(free) < 2:
        raise UsageError(
            f"{tiles.path}: the collapse score needs 2 {kind}s with at least 2 tiles that training can do "
            f"without, not {len(free)}{'; labelled ones are needed for training' if used else ''}; {INSTEAD}"
        )
    free.sort(key=lambda name: generator(name, recipe.seed).random())
    chosen = free[: max(2, min(recipe.collapse.slides, len(counts) // SHARE))]
    taken, whole = sum(counts[name] for name in chosen), sum(counts.values())
    if 2 * taken > whole:
        raise UsageError(
            f"{tiles.path}: the {len(chosen)} {kind}s drawn for the collapse score have {taken} of {whole} "
            f"tiles, and training would lose them; {INSTEAD}"
        )
    return tuple(sorted(chosen))


def _check_apart(data: Dataset | MixedDataset, other: Path) -> None:
    """That a dataset has slides for the score, and is not what is trained on."""
    mixed = [source["path"] for source in data.info["sources"]] if isinstance(data, MixedDataset) else []
    if storage_at(other).absolute in (data.storage.absolute, *mixed):
        raise UsageError(f"collapse.dataset={other}: is what is trained on; give other slides")
    tiles = open_slides(other, None)
    usable = sum(count >= 2 for count in tiles.counts().values())
    if usable < 2:
        raise UsageError(
            f"collapse.dataset={other}: needs 2 {tiles.kind}s with at least 2 tiles, not {usable}"
        )
