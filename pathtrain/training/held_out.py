"""What training leaves out for probes: slides of its own data, drawn with the recipe's seed.

They are left out of the run's order.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pathprep.errors import UsageError
from pathprep.storage.place import storage_at
from pathprep.words import counted
from pathtrain.data.online.survey_data import SurveyData
from pathtrain.data.order import Ints
from pathtrain.data.source import NO_TILES
from pathtrain.data.trained_on import TrainingData
from pathtrain.data.whole_tiles import DatasetTiles
from pathtrain.evaluate.tile_level.collapse import generator, open_slides
from pathtrain.recipes.probes import CollapseProbe, Probe, RankProbe
from pathtrain.recipes.recipe import Recipe

SHARE = 10  # a tenth of a dataset's slides are held out at most, or two
INSTEAD = "give the probe other slides (its key dataset), or leave it out (--set probes=[])"


@dataclass(frozen=True)
class HeldOut:
    """What training leaves out, and which probes can be measured.

    Attributes:
        slides: of the training data, that are left out.
        tiles: numbers (H,), rising, of their tiles.
        probes: the recipe's, but for those that need what the training data cannot give.
        said: what the user should know, a line each.
    """

    slides: tuple[str, ...] = ()
    tiles: Ints = field(default_factory=NO_TILES.copy)
    probes: tuple[Probe, ...] = ()
    said: tuple[str, ...] = ()


def hold_out(
    data: TrainingData,
    recipe: Recipe,
    labelled: Collection[str] = (),
    before: Sequence[str] | None = None,
) -> HeldOut:
    """What the recipe's collapse probes leave out of training; every process of a run finds the same.

    Args:
        labelled: slides that training has labels of; they are not held out.
        before: what the run has held out so far, which does not change; None for a new run.

    Raises:
        UsageError: the training data has too few slides to do without some, or a probe's ``dataset`` is no
            dataset of other slides.
    """
    scored = [probe for probe in recipe.probes if isinstance(probe, CollapseProbe)]
    for probe in scored:
        if probe.dataset is not None:
            _check_apart(data, probe.dataset)
    without = [probe for probe in scored if probe.dataset is None]
    slides = tuple(before or ())
    if before is None and without and isinstance(data, SurveyData):
        most = max(probe.slides for probe in without)
        slides = _drawn(data.said, data.holdable(), "slide", most, recipe.seed)
    elif before is None and without and data.measured is not None:
        most = max(probe.slides for probe in without)
        slides = _draw(DatasetTiles(data.measured.root), most, recipe.seed, labelled)
    tiles, said = data.tiles_of(slides), []
    if slides:
        why = "for the collapse score" if without else "as before"
        of = f"{'about ' if data.estimated else ''}{len(tiles):,} of {counted(len(data), 'tile')}"
        said.append(f"held out {why}: {counted(len(slides))}, {of}")
    elif without:
        why = data.unmeasured or "the run began without slides"
        said.append(f"no collapse score: {why} to hold out; the probe's `dataset` measures on others")
    said += [f"collapse score on {probe.dataset}" for probe in scored if probe.dataset is not None]
    probes: list[Probe] = []
    for each in recipe.probes:
        measured = data.measured is not None or isinstance(data, SurveyData)
        if isinstance(each, RankProbe) and each.dataset is None and not measured:
            said.append(f"no {each.key}: {data.unmeasured}; its key dataset measures on others")
        elif slides or each not in without:
            probes.append(each)
    return HeldOut(slides, tiles, tuple(probes), tuple(said))


def _draw(tiles: DatasetTiles, most: int, seed: int, labelled: Collection[str]) -> tuple[str, ...]:
    counts, kind = tiles.counts(), tiles.kind
    used: set[str] = set()
    if labelled:
        groups = tiles.groups_of(tiles.starts[:-1]).tolist()
        used = {tiles.groups[g] for slide, g in zip(tiles.slides, groups, strict=True) if slide in labelled}
    return _drawn(str(tiles.path), counts, kind, most, seed, used)


def _drawn(
    said: str, counts: Mapping[str, int], kind: str, most: int, seed: int, used: Collection[str] = ()
) -> tuple[str, ...]:
    """The slides that are held out, of those with these ``counts`` of tiles; ``used``: not of these."""
    free = [name for name, count in counts.items() if count >= 2 and name not in used]
    if len(free) < 2:
        raise UsageError(
            f"{said}: the collapse score needs 2 {kind}s with at least 2 tiles that training can do "
            f"without, not {len(free)}{'; labelled ones are needed for training' if used else ''}; {INSTEAD}"
        )
    free.sort(key=lambda name: generator(name, seed).random())
    chosen = free[: max(2, min(most, len(counts) // SHARE))]
    taken, whole = sum(counts[name] for name in chosen), sum(counts.values())
    if 2 * taken > whole:
        raise UsageError(
            f"{said}: the {len(chosen)} {kind}s drawn for the collapse score have {taken} of {whole} "
            f"tiles, and training would lose them; {INSTEAD}"
        )
    return tuple(sorted(chosen))


def _check_apart(data: TrainingData, other: Path) -> None:
    """That a dataset has slides for the score, and is not what is trained on."""
    if storage_at(other).absolute in data.places():
        raise UsageError(f"the collapse probe's dataset {other}: is what is trained on; give other slides")
    tiles = open_slides(other, None)
    usable = sum(count >= 2 for count in tiles.counts().values())
    if usable < 2:
        raise UsageError(
            f"the collapse probe's dataset {other}: needs 2 {tiles.kind}s with at least 2 tiles, not {usable}"
        )
