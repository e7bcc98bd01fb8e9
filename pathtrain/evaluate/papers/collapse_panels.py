"""The feature-collapse study of EXAONEPath 1.0 (arXiv 2408.00380, figure 2), with numbers.

    (a) plain model, plain tiles
    (b) plain model, normalised tiles
    (c) normalised model, normalised tiles

The same tiles of the same slides in all three, found by slide and place (by source for imported tiles), so
the changes between panels are paired. The paper takes 1,000 random tiles from each of 10 slides and finds
that slides mix more from (a) to (c).

Features that hold less mix more, so beside the panels stand, on the same tiles, random weights and the mean
and SD of colour: what plain and normalised tiles give by themselves.
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathprep.params.origin import AskedOrigin
from pathprep.params.settings import build
from pathprep.storage import atomic
from pathprep.words import counted
from pathtrain.data.whole_tiles import DatasetTiles, outcome
from pathtrain.evaluate.baselines import other_seeds
from pathtrain.evaluate.statistics import Doubles, Ints, describe, figures, flat
from pathtrain.evaluate.subject import vectors_of
from pathtrain.evaluate.tile_level import tsne
from pathtrain.evaluate.tile_level.collapse import (
    Sample,
    check_k,
    choose,
    generator,
    labels_of,
    measure,
    open_slides,
)
from pathtrain.evaluate.tile_level.collapse_figures import Scores
from pathtrain.features.encode import encode, preparation
from pathtrain.features.progress import TileProgress
from pathtrain.params.evaluation import CollapseParams
from pathtrain.runs.finishing import with_target
from pathtrain.runs.model import LoadedModel, Model
from pathtrain.runs.variants import untrained

PAPER_SLIDES = 10
TITLES = {
    "a": "plain model, plain tiles",
    "b": "plain model, normalised tiles",
    "c": "normalised model, normalised tiles",
}
CHANGES = (("a", "b"), ("b", "c"), ("a", "c"))
JUDGED = {"own_share": "own share", "silhouette": "silhouette"}

Key = tuple[object, ...]


def panels(
    plain: tuple[Model, str | Path],
    normalised: tuple[Model, str | Path],
    *,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
    out: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Measure the three panels.

    Args:
        plain: the model trained on plain tiles, and a dataset of plain tiles.
        normalised: the model trained on normalised tiles, and a dataset for it: baked to its target, or
            plain (with fits or without): its tiles are then normalised for (b) and (c) as they are read.
            The two datasets may be one.
        labels, label_origin: of the plain dataset's tiles, as ``collapse`` takes them.
        out: a folder for the figure, collapse-panels.png, which is created; None: no figure.
        settings: of CollapseParams, by their flat names; ``slides``, 10 by default, are at most so many of
            those that both datasets have, as ``collapse.choose`` chooses.

    Returns:
        JSON-able: the numbers of each of ``panels`` and ``baselines``, ``changes`` between panels, and
        ``verdict``, which says in a sentence whether the paper's order holds; with ``out`` also ``tsne``.

    Raises:
        UsageError: models or datasets that do not fit the panels, fewer than two common slides, or k not
            below the number of tiles.
        ModelError, CheckpointError, DatasetError: a model or a dataset cannot be read.
    """
    params = build(CollapseParams, settings)
    result, samples = measured(
        (vectors_of(plain[0], params.how), Path(plain[1])),
        (vectors_of(normalised[0], params.how), Path(normalised[1])),
        params,
        labels,
        label_origin,
    )
    if out is not None:
        places = [tsne.place(taken, params.tsne_tiles, params.seed) for taken in samples]
        result["tsne"] = {"file": "collapse-panels.png", "tiles": len(places[0][1])}
        Path(out).mkdir(parents=True, exist_ok=True)
        picture = tsne.panels(samples, places, result["panels"])
        atomic.write_alone(Path(out) / "collapse-panels.png", picture)
    return result


def measured(
    plain: tuple[LoadedModel, Path],
    normalised: tuple[LoadedModel, Path],
    params: CollapseParams,
    labels: str | Path | None = None,
    label_origin: AskedOrigin = "auto",
) -> tuple[dict[str, Any], list[Sample]]:
    """The results of ``panels`` without a figure, and each panel's sample to draw it from."""
    (one, plain_data), (other, normalised_data) = plain, normalised
    if one.target is not None:
        raise UsageError(f"{one.name}: was trained on normalised tiles, it cannot be the model of `plain`")
    if other.target is None:
        raise UsageError(f"{other.name}: was trained on plain tiles, it cannot be the model of `normalised`")
    sets = open_slides(plain_data, None), open_slides(normalised_data, other.target)
    if sets[0].dataset.params["stain"]["mode"] == "bake":
        raise UsageError(f"{plain_data}: its tiles are normalised; `plain` needs plain ones")
    k, seed, per_slide = params.k, params.seed, params.tiles_per_slide
    orders, slide, names = common(*sets, slides=params.slides or PAPER_SLIDES, per_slide=per_slide, seed=seed)
    check_k(k, len(slide))
    known, classes = labels_of(sets[0], labels, label_origin)
    told = None if known is None else known[orders[0]]
    runs = {"a": (one, 0), "b": (with_target(one, other.target), 1), "c": (other, 1)}
    (random_seed,) = other_seeds([one, other], seed, 1)
    samples, measured, baselines = [], [], []
    progress = TileProgress(3 * len(slide), "encode")
    for panel, (model, at) in runs.items():
        untaught = [] if panel == "b" else [untrained(model, random_seed)]
        (features, *random), colour = encode(
            [model, *untaught], sets[at], orders[at], params.how, progress.advance
        )
        progress.line(f"({panel}) {TITLES[panel]}: {counted(len(slide), 'tile')} of {counted(len(names))}")
        samples.append(Sample(features, slide, names, told, classes))
        about = {"model": describe(model), "dataset": str((plain, normalised)[at][1])}
        row = measure(samples[-1], k, seed)
        measured.append({"panel": panel, "title": TITLES[panel], **about, **row})
        if random:  # (b) has the tiles of (c)
            scaled = (colour - colour.mean(axis=0)) / np.maximum(colour.std(axis=0), 1e-12)
            for name, values in (("random weights", random[0]), ("colour", scaled)):
                title = f"{name}, {('plain', 'normalised')[at]} tiles"
                row = measure(Sample(values, slide, names, told, classes), k, seed)
                baselines.append({"name": name, "title": title, "tiles_of": panel, **row})
    progress.note(outcome(sets[1]))
    found = {row["panel"]: row for row in measured}
    differences = {f"{a} to {b}": change(found[a], found[b], seed) for a, b in CHANGES}
    tiles_alone = change(baselines[0], baselines[2], seed)
    return {
        "task": "collapse panels",
        "slides": len(names),
        "tiles": len(slide),
        **preparation(one, params.how),
        "tiles_per_slide": per_slide,
        "k": k,
        "seed": seed,
        "panels": measured,
        "baselines": baselines,
        "random_seed": random_seed,
        "changes": differences,
        "random_change": tiles_alone,
        "verdict": f"{verdict(differences)} {beside(found, baselines[2], tiles_alone, seed)}",
    }, samples


def common(
    one: DatasetTiles, other: DatasetTiles, *, slides: int, per_slide: int, seed: int
) -> tuple[tuple[Ints, Ints], Ints, list[str]]:
    """The same random tiles in both datasets.

    Returns:
        Tile numbers in each dataset, two arrays (n,); the tiles' slides (n,); the slides' names.

    Raises:
        UsageError: they have fewer than two slides in common, of two tiles or more.
    """
    counts = [
        dict(zip(tiles.groups, np.bincount(tiles.group).tolist(), strict=True)) for tiles in (one, other)
    ]
    both = {name: min(counts[0][name], counts[1][name]) for name in counts[0] if name in counts[1]}
    rows: tuple[list[int], list[int]] = ([], [])
    slide: list[int] = []
    names: list[str] = []
    for name in choose(both, slides, per_slide, seed):
        first, second = _keys(one, name), _keys(other, name)
        shared = sorted(first.keys() & second.keys(), key=repr)
        if len(shared) < 2:
            continue
        for at in generator(name, seed).permutation(len(shared))[:per_slide].tolist():
            rows[0].append(first[shared[at]])
            rows[1].append(second[shared[at]])
            slide.append(len(names))
        names.append(name)
    if len(names) < 2:
        raise UsageError(
            f"{one.path} and {other.path}: have {len(names)} {one.kind}s with at least 2 tiles in common; "
            "the panels need 2, sharded alike from the same slides"
        )
    return (np.array(rows[0]), np.array(rows[1])), np.array(slide), names


def _keys(tiles: DatasetTiles, group: str) -> dict[Key, int]:
    """Tile numbers of a slide by what a tile is called in any dataset of the same slides."""
    numbers = np.flatnonzero(tiles.group == tiles.groups.index(group)).tolist()
    if tiles.labels is not None:
        return {(tiles.sources[number],): number for number in numbers}
    slides, columns = tiles.index.slide_of(numbers).tolist(), tiles.index.columns
    return {
        (tiles.slides[slide], int(columns["x"][number]), int(columns["y"][number])): number
        for slide, number in zip(slides, numbers, strict=True)
    }


def change(before: dict[str, Any], after: dict[str, Any], seed: int) -> dict[str, Any]:
    """Differences of the figures between two panels, with intervals by one bootstrap over their slides."""
    keys = [field.name for field in fields(Scores)]
    one, other = (
        Scores(*(np.array([row[key] for row in side["slides"].values()]) for key in keys))
        for side in (before, after)
    )

    def difference(copies: Doubles) -> dict[str, Doubles]:
        first, second = one.figures(copies), other.figures(copies)
        return {name: second[name] - first[name] for name in first}

    return flat(figures(difference, len(one.tiles), seed))


def verdict(changes: dict[str, Any]) -> str:
    """Whether slides mix more from a to c, as in the paper: in the figures, and beyond their intervals."""
    falls = [change[name] < 0 for change in changes.values() for name in JUDGED]
    clear = [
        f"{words} from {step}"
        for step, change in changes.items()
        for name, words in JUDGED.items()
        if change[f"{name}_interval"][1] < 0
    ]
    rises = [
        f"{words} from {step}"
        for step, change in changes.items()
        for name, words in JUDGED.items()
        if change[f"{name}_interval"][0] > 0
    ]
    said = "holds" if all(falls) else "does not hold"
    text = f"The paper's order (slides mix more from a to b to c) {said} in own share and silhouette."
    text += f" Falls beyond their interval: {', '.join(clear) or 'none'}."
    return text + (f" Rises beyond their interval: {', '.join(rises)}." if rises else "")


def beside(found: dict[str, Any], random: dict[str, Any], tiles_alone: dict[str, Any], seed: int) -> str:
    """What the tiles do without any training, and whether the normalised model differs from that."""
    low, high = tiles_alone["own_share_interval"]
    text = f"Random weights, from plain to normalised tiles: own share {tiles_alone['own_share']:+.2f} "
    text += f"[{low:+.2f}, {high:+.2f}]; "
    trained = change(random, found["c"], seed)
    low, high = trained["own_share_interval"]
    word = "less" if high < 0 else "more" if low > 0 else "neither more nor less, within the interval,"
    return f"{text}c groups by slide {word} than they: {trained['own_share']:+.2f} [{low:+.2f}, {high:+.2f}]."
