"""WSI-specific feature collapse: do features cluster by slide rather than by tissue?

EXAONEPath's study (arXiv 2408.00380) shows it as a t-SNE of random tiles of some slides, coloured by
slide. Here the picture comes with numbers, on the same sample:

    own share   of a tile's k nearest neighbours by cosine, itself excluded, those from its own slide;
                the mean over tiles
    chance      what a random order of the tiles gives: (n_s - 1) / (n - 1) for a tile of a slide with n_s
                of the n tiles; the mean over tiles
    excess      (own share - chance) / (1 - chance): 0 is none, 1 is full collapse, however many slides; those
                of at most k tiles have too few to reach it
    ratio       own share / chance: 1 is none; bounded by 1 / chance, so that it cannot be compared between
                samples of other slides
    silhouette  cosine, with slides as clusters: above 0 slides hold together; by chance, the mean over
                random orders of the tiles

Intervals are over slides, of the tiles' own shares, chances and silhouettes; neighbours are found once. The
three panels of the study: pathtrain.evaluate.papers.collapse_panels.
"""

import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.params.settings import build
from pathprep.storage import atomic
from pathprep.words import counted
from pathtrain.data.online.probe_tiles import DrawnTiles
from pathtrain.data.tile_labels import read_labels
from pathtrain.data.whole_tiles import DatasetTiles, open_tiles, outcome
from pathtrain.evaluate.statistics import Floats, Ints, describe, figures, flat, unit
from pathtrain.evaluate.subject import vectors_of
from pathtrain.evaluate.tile_level.collapse_figures import BOUNDS, Scores, shares
from pathtrain.evaluate.tile_level.labelled_collapse import beside
from pathtrain.features.encode import encode, preparation
from pathtrain.features.progress import TileProgress
from pathtrain.params.evaluation import CollapseParams
from pathtrain.runs.model import LoadedModel, Model
from pathtrain.stain.target import ModelTarget

SHUFFLES = 20  # random orders of the tiles; the mean silhouette of 10,000 tiles then has an SD below 0.0005


@dataclass(frozen=True)
class Sample:
    """The sampled tiles: features (n, D), slide number (n,), and the slides' names; of labelled ones also
    class numbers (n,), -1 for none, and the classes' names.
    """

    features: Floats
    slide: Ints
    slides: list[str]
    labels: Ints | None = None
    classes: list[str] = field(default_factory=list)


def collapse(
    model: Model,
    dataset: str | Path = "dataset",
    *,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    out: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Measure how a model's features cluster by slide, on random tiles of the slides of a dataset.

    Args:
        model: the encoder, or its run or exported folder.
        dataset: with at least two slides that have two tiles or more.
        labels: of its tiles, see pathtrain.data.tile_labels: adds ``within`` and ``content``, see
            pathtrain.evaluate.tile_level.labelled_collapse; imported tiles bring theirs.
        label_origin: as ``knn`` takes it.
        out: a folder for the figure, tsne.png, which is created; None: no figure.
        settings: of CollapseParams, by their flat names: ``slides=10, k=20``.

    Returns:
        JSON-able: what was done, and the numbers of the module's text with intervals, over all tiles and for
        each of ``slides``; with ``out`` also ``tsne``: the figure's file name and number of tiles.

    Raises:
        UsageError: an image folder, fewer than two usable slides, or k not below the number of tiles.
        ModelError, CheckpointError, DatasetError: the model or the dataset cannot be read.
    """
    params = build(CollapseParams, settings)
    result, taken = measured(vectors_of(model, params.how), Path(dataset), params, labels, label_origin)
    if out is not None:
        from pathtrain.evaluate.tile_level import tsne

        flat, rows = tsne.place(taken, params.tsne_tiles, params.seed)
        Path(out).mkdir(parents=True, exist_ok=True)
        atomic.write_alone(Path(out) / "tsne.png", tsne.figure(taken, flat, rows, result))
        result["tsne"] = {"file": "tsne.png", "tiles": len(rows)}
    return result


def measured(
    model: LoadedModel,
    dataset: Path,
    params: CollapseParams,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
) -> tuple[dict[str, Any], Sample]:
    """The results of ``collapse`` without a figure, and the sample to draw it from."""
    tiles = open_slides(dataset, model.target)
    order = sample(tiles, params.tiles_per_slide, params.seed, params.slides)
    kept, slide = np.unique(tiles.groups_of(order), return_inverse=True)
    if len(kept) < 2:
        raise UsageError(
            f"{dataset}: feature collapse needs 2 {tiles.kind}s with at least 2 tiles, not {len(kept)}"
        )
    check_k(params.k, len(order))
    known, classes = labels_of(tiles, labels, label_origin)
    progress = TileProgress(len(order), "encode")
    (features,), _ = encode([model], tiles, order, params.how, progress.advance)
    progress.line(f"{dataset}: {counted(len(order), 'tile')} of {counted(len(kept), tiles.kind)}")
    progress.note(outcome(tiles))
    names = [tiles.groups[number] for number in kept]
    taken = Sample(features, slide, names, None if known is None else known[order], classes)
    return {
        "task": "collapse",
        "model": describe(model),
        "dataset": str(dataset),
        "build_id": tiles.dataset.info["build_id"],
        "stain": tiles.dataset.params["stain"]["mode"],
        **preparation(model, params.how),
        "tiles_per_slide": params.tiles_per_slide,
        "tiles": len(order),
        "k": params.k,
        "seed": params.seed,
        **measure(taken, params.k, params.seed),
    }, taken


def labels_of(
    tiles: DatasetTiles, labels: str | Path | None, origin: AskedOrigin
) -> tuple[Ints | None, list[str]]:
    """Class numbers (N,) of a dataset's tiles and the classes; None where nobody labelled them.

    Raises:
        UsageError: as pathtrain.data.tile_labels.read_labels.
    """
    own = {label for label in tiles.labels or () if label}
    if labels is None and len(own) < 2:
        return None, []
    found = read_labels([tiles], None if labels is None else Path(labels), origin)
    return found.values[0], found.classes


def check_k(k: int, tiles: int) -> None:
    """Refuse more neighbours than there are other tiles.

    Raises:
        UsageError: there are fewer, or ``k`` is below 1.
    """
    if not 1 <= k < tiles:
        raise UsageError(f"`k` {k}: must be 1 to {tiles - 1}, the number of other tiles")


def open_slides(dataset: PurePath | str, target: ModelTarget | None) -> DatasetTiles:
    """A dataset's tiles for a model with this target.

    Raises:
        UsageError: it is an image folder.
    """
    tiles = open_tiles(dataset, target)
    if not isinstance(tiles, DatasetTiles):
        raise UsageError(f"{dataset}: feature collapse is about slides; give a dataset from `pathprep shard`")
    return tiles


def generator(name: str, seed: int) -> np.random.Generator:
    """Random numbers of a slide: they depend on its name and the seed, not on other slides."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def choose(counts: Mapping[str, int], slides: int | None, per_slide: int, seed: int) -> list[str]:
    """Names of the slides to sample, sorted: those of 2 tiles or more, at most ``slides``.

    Slides that can give ``per_slide`` tiles come first, in random order, then the others by their tiles.
    """
    usable = [name for name, count in counts.items() if count >= 2]
    drawn = {name: generator(name, seed).random() for name in usable}
    usable.sort(key=lambda name: (-min(counts[name], per_slide), drawn[name]))
    return sorted(usable[:slides])


def sample(
    tiles: DatasetTiles | DrawnTiles,
    per_slide: int,
    seed: int,
    slides: int | None = None,
    of: Collection[str] = (),
) -> Ints:
    """Tile numbers, rising; a slide's sample depends on its name and the seed, not on other slides.

    Of imported tiles, the groups stand for slides.

    Args:
        per_slide: at least 2.
        of: the slides to choose from; empty for all.
    """
    counts = {name: count for name, count in tiles.counts().items() if not of or name in of}
    members = tiles.members(set(choose(counts, slides, per_slide, seed)))
    parts = [rows[generator(name, seed).permutation(len(rows))[:per_slide]] for name, rows in members.items()]
    return np.sort(np.concatenate(parts)) if parts else np.empty(0, dtype=np.int64)


def measure(taken: Sample, k: int, seed: int) -> dict[str, Any]:
    """The numbers of the module's text, over all tiles and per slide; with labels labelled_collapse's."""
    slide = taken.slide
    counts = np.bincount(slide)
    own, by_chance = shares(taken.features, slide, k)
    widths = silhouette(taken.features, slide)
    share = np.bincount(slide, own) / counts
    width = np.bincount(slide, widths) / counts
    chance = np.bincount(slide, by_chance) / counts

    table = Scores(counts, share, chance, width)
    found = figures(table.figures, len(counts), seed, BOUNDS)
    rng = np.random.default_rng(seed)
    shuffled = [silhouette(taken.features, rng.permutation(slide)).mean() for _ in range(SHUFFLES)]
    return {
        **flat(found),
        "chance": float(np.average(chance, weights=counts)),
        "silhouette_chance": float(np.mean(shuffled)),
        **(
            {}
            if taken.labels is None
            else beside(taken.features, slide, taken.labels, taken.classes, k, seed)
        ),
        "slides": {
            name: {
                "tiles": int(counts[number]),
                "own_share": float(share[number]),
                "chance": float(chance[number]),
                "excess": float((share[number] - chance[number]) / (1 - chance[number])),
                "silhouette": float(width[number]),
            }
            for number, name in enumerate(taken.slides)
        },
    }


def silhouette(features: Floats, slide: Ints) -> npt.NDArray[np.float64]:
    """Silhouette width of each row (n,) with cosine distance, exact in O(n S D).

    The mean cosine distance of x to a set is 1 - x . mean(set), so no pairwise matrix is needed.

    Args:
        features: (n, D).
        slide: (n,) numbers 0 to S - 1; a row that is alone with its number has the width 0, as
            scikit-learn's.
    """
    points = unit(features).astype(np.float64)
    counts = np.bincount(slide)
    sums = np.zeros((len(counts), points.shape[1]))
    np.add.at(sums, slide, points)
    distance = 1 - points @ (sums / counts[:, None]).T
    rows = np.arange(len(points))
    # Its own slide: the row itself is at distance 0 and does not count
    inner = distance[rows, slide] * counts[slide] / np.maximum(counts[slide] - 1, 1)
    distance[rows, slide] = np.inf
    outer = distance.min(axis=1)
    largest = np.maximum(inner, outer)
    widths: npt.NDArray[np.float64] = np.zeros(len(points))
    np.divide(outer - inner, largest, out=widths, where=(largest > 0) & (counts[slide] > 1))
    return widths
