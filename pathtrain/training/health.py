"""Whether a run has collapsed, from the rows of its log, and in words.

A collapsed network says the same of every tile: then the entropy of the mean output is no more than the mean
entropy of the outputs (their difference is what an output tells of its tile, their mutual information). DINO
has two ways there: all outputs alike, with the loss at ln K, and one output for all, with the loss at 0.
Centring works against the second and sharpening against the first (Caron et al. 2021, section 5.3), so what
helps against one brings the other nearer. On the way to the second, two outputs may be left. A student may
also learn nothing of a teacher that tells tiles apart, and features may lose what tells tiles apart before
the outputs say so.

The rows are all that is looked at: a run that was killed is judged as if it had not been.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pathtrain.recipes.dinov2 import Dinov2Recipe
from pathtrain.recipes.recipe import Recipe
from pathtrain.training.logs import Row

NOTHING = 0.99  # of ln K: a loss above is that of knowing nothing, ln K, or worse
SAME = 0.01  # of ln K: outputs that tell less of their tile, and an entropy below, are nearly 0
FEW = 3  # outputs in use: fewer sort all tiles into two kinds
# Of features that are all the same, where a rank of 1 and an SD of 0 are blurred by rounding and drift
LEAST_RANK, LEAST_SD = 1.5, 0.02


@dataclass(frozen=True)
class Spell:
    """Rows in a row that look collapsed in one way.

    Attributes:
        first, last: steps of the run.
        words: what is wrong, since when, and what helps.
    """

    first: int
    last: int
    words: str


class Health:
    """Judges one row after the other.

    Args:
        recipe: its ``warn_after``, and how many outputs there are.
        rows: of the run so far.
    """

    def __init__(self, recipe: Recipe, rows: Iterable[Row] = ()) -> None:
        self._patience, self._outputs = recipe.warn_after, recipe.outputs()
        # which has no centre that could move slower or faster
        self._sinkhorn = isinstance(recipe, Dinov2Recipe) and recipe.dino.centring == "sinkhorn"
        self._since: dict[str, int] = {}  # cause -> finished steps before its first row
        self._told: dict[str, Spell] = {}
        self.spells: list[Spell] = []  # that are over
        for row in rows:
            self.see(row)

    @property
    def now(self) -> list[Spell]:
        """What is wrong after the last row."""
        return list(self._told.values())

    def see(self, row: Row) -> list[str]:
        """Take the next row; returns what is to be said now: a cause once, and again if it comes back."""
        news = []
        for kind, outputs in self._outputs.items():
            if f"{kind}kl" not in row:
                continue  # these steps did not have it
            found = dict(_signs(row, kind, outputs, self._sinkhorn))
            for cause in [name for name in self._since if name.startswith(f"{kind}:") and name not in found]:
                del self._since[cause]
                if cause in self._told:
                    self.spells.append(self._told.pop(cause))
            for cause, words in found.items():
                first = self._since.setdefault(cause, row["step"] - row["steps"])
                if not self._patience or row["step"] - first < self._patience:
                    continue
                if cause not in self._told:
                    news.append(f"step {row['step']}: {words}")
                self._told[cause] = Spell(first + 1, row["step"], words)
        return news


def _signs(row: Row, kind: str, outputs: int, sinkhorn: bool) -> Iterator[tuple[str, str]]:
    """Cause and words of all that a row shows of ``tile_``, ``region_``, or of the whole method."""
    most, thing = math.log(outputs), kind.removesuffix("_") or "tile"
    config = f"hierarchy.phases.{row['phase'] - 1:.0f}.region" if kind == "region_" else "dino"
    loss, mean, rank, deviation = (
        row[kind + name] for name in ("loss", "output_entropy", "feature_rank", "feature_sd")
    )
    if mean - row[f"{kind}teacher_entropy"] < SAME * most:
        centre = "" if sinkhorn else f"a lower {config}.center_momentum or "
        softer = f"{centre}a higher {config}.teacher_temp"
        which = f"the same {row[f'{kind}outputs_used']:.1f} of {outputs} outputs"
        if mean < SAME * most:
            which = f"one output of {outputs}"
        elif loss > NOTHING * most:
            which = f"all {outputs} outputs alike"
            centre = "" if sinkhorn else f" or a {config}.center_momentum nearer to 1"
            softer = f"a lower {config}.teacher_temp{centre}"
        yield (
            f"{kind}:same",
            f"the network says the same of every {thing}, {which} (loss {loss:.4f}, ln {outputs} is "
            f"{most:.4f}); what may help: {softer}, a lower learning rate",
        )
    elif loss > NOTHING * most:
        centre = "" if sinkhorn else f"a {config}.center_momentum nearer to 1, "
        yield (
            f"{kind}:nothing",
            f"the student knows nothing of what the teacher says of a {thing}: the loss, {loss:.4f}, is no "
            f"less than that of all outputs alike, ln {outputs} = {most:.4f}; what may help: {centre}another "
            "learning rate, a slower teacher (dino.momentum nearer to 1)",
        )
    elif row[f"{kind}outputs_used"] < FEW:
        centre = "" if sinkhorn else f"a lower {config}.center_momentum, "
        yield (
            f"{kind}:few",
            f"the network uses {row[f'{kind}outputs_used']:.1f} of {outputs} outputs, so that it tells a "
            f"{thing} from another by no more than one split; what may help: {centre}a higher "
            f"{config}.teacher_temp, a lower learning rate",
        )
    if rank < LEAST_RANK or deviation < LEAST_SD:
        yield (
            f"{kind}:features",
            f"the encoder gives every {thing} nearly the same features (effective rank {rank:.2f}, SD "
            f"{deviation:.4f}, where 1 is evenly spread); what may help: a lower learning rate, other first "
            "weights, views that differ more",
        )
