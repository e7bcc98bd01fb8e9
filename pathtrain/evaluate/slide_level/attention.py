"""The attention of bag models as a file of scores: a row per tile of every scored slide.

    <task> <method>        attention before the softmax; of a branch per class (clam-mb) that of the predicted
                           class. It is of no scale: compare it within a slide
    <task> <method> rank   its rank in the slide, from 0 (lowest) to 1, as CLAM's heat maps colour it

It is that of the first seed, by the model of the fold that had the slide in its test part; a slide that a
task does not score has none of it.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from pathprep.errors import UsageError
from pathprep.scores.write import Tiles, check_name, write_scores
from pathprep.words import command
from pathtrain.evaluate.slide_level.runs import Attention
from pathtrain.features.bags import Bags
from pathtrain.params.slide_level import SlidesConfig


def check_attention(path: Path, models: Sequence[Bags], config: SlidesConfig) -> None:
    """Refuse what could not be written, before anything is trained.

    Raises:
        UsageError: another ending, several folders, no method with attention, or features without places.
    """
    check_name(path)
    if len(models) > 1:
        raise UsageError("`attention` is of one folder of features; evaluate one at a time for it")
    if not models[0].bags or set(config.settled().methods) <= {"linear", "mean-mlp"}:
        raise UsageError(
            "`attention`: linear has none, nor has mean-mlp; give `method` clam-sb, clam-mb, abmil, "
            "transmil or dsmil"
        )
    first = next(iter(models[0].counts))
    if models[0].places(first) is None:
        raise UsageError(
            f"{models[0].paths[first]}: does not say where its tiles lie (coords, with patch_size_level0); "
            f"write features of slides with {command('pathtrain embed')}"
        )


def write_attention(path: Path, model: Bags, attention: Sequence[Attention]) -> int:
    """Write the file; returns the number of rows.

    Raises:
        UsageError: a slide's file does not say where its tiles lie, or it cannot be written.
    """
    columns = list(dict.fromkeys(f"{one.task} {one.method}" for one in attention))
    found: dict[str, dict[str, npt.NDArray[np.float64]]] = {}
    for one in attention:
        name = f"{one.task} {one.method}"
        own = found.setdefault(one.slide, {})
        own[name], own[f"{name} rank"] = one.scores.astype(np.float64), ranks(one.scores)
    tiles = []
    for slide, own in sorted(found.items()):
        places = model.places(slide)
        if places is None:
            raise UsageError(f"{model.paths[slide]}: does not say where its tiles lie")
        none = np.full(len(places.coords), np.nan)
        every = {part: own.get(part, none) for name in columns for part in (f"{name} rank", name)}
        tiles.append(Tiles(model.paths[slide].stem, places.coords, places.side, every))
    return write_scores(path, tiles)


def ranks(scores: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """From 0 to 1, equal ones share theirs; a lone tile is neither high nor low."""
    if len(scores) == 1:
        return np.array([0.5])
    return np.asarray((rankdata(scores) - 1) / (len(scores) - 1))
