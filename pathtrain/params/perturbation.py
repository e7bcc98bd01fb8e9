"""Parameters of `pathtrain evaluate perturbation`; quick to import, so that help is instant."""

from dataclasses import dataclass, field
from typing import Annotated

from pathprep.params.settings import Setting, check
from pathtrain.params.baselines import BaselineParams
from pathtrain.params.encoding import KeptHow

# Kind -> the strengths that are measured; pathtrain.evaluate.shifts.perturb_kinds says what they mean
STRENGTHS: dict[str, tuple[float, ...]] = {
    "stain": (0.05, 0.1, 0.2),
    "shift": (0.05, 0.1, 0.2),
    "cast": (2.0, 5.0, 10.0),
    "light": (0.05, 0.1, 0.2),
    "gamma": (0.1, 0.2, 0.4),
    "blur": (0.25, 0.5, 1.0),
    "jpeg": (90.0, 70.0, 50.0, 30.0),
    "mpp": (0.8, 1.25),
    "noise": (2.0, 5.0, 10.0),
}
# Lowest and highest strength that can be drawn
LIMITS = {
    "stain": (0.0, 0.5),
    "shift": (0.0, 0.5),
    "cast": (0.0, 45.0),
    "light": (0.0, 0.9),
    "gamma": (0.0, 2.0),
    "blur": (0.0, 20.0),
    "jpeg": (1.0, 100.0),
    "mpp": (0.1, 1.25),
    "noise": (0.0, 100.0),
}


@dataclass(frozen=True)
class PerturbationParams:
    """Parameters of `pathtrain evaluate perturbation`.

    Attributes:
        kinds: ``all``, or some of STRENGTHS between commas, with strengths of one's own after a colon:
            ``blur:0.5/1,jpeg``.
        tiles: so many random ones, labelled ones where there are labels.
        k: neighbours that vote for a tile's label.
        mpp: of the tiles, where the dataset does not say it; blur is in micrometres.
        seed: of the sample, the draws, the random weights and the bootstrap.
    """

    kinds: Annotated[
        str,
        Setting(
            "all, or some of stain,shift,cast,light,gamma,blur,jpeg,mpp,noise; with own strengths: "
            "blur:0.5/1.",
            "Tiles",
        ),
    ] = "all"
    tiles: Annotated[
        int, Setting("Random tiles; each is encoded once per strength and network.", "Tiles")
    ] = 300
    k: Annotated[int, Setting("Neighbours that vote for a label.", "Tiles")] = 20
    mpp: Annotated[
        float | None, Setting("MPP of the tiles, where the dataset does not say it (for blur).", "Tiles")
    ] = None
    seed: Annotated[int, Setting("Of sample, draws, random weights and bootstrap, from 0.", "Running")] = 0
    baselines: BaselineParams = field(default_factory=BaselineParams)
    how: KeptHow = field(default_factory=KeptHow)

    def __post_init__(self) -> None:
        check(
            {
                "`tiles` must be at least 2": self.tiles >= 2,
                "`k` must be above 0": self.k >= 1,
                "`mpp` must be above 0": self.mpp is None or self.mpp > 0,
                "`seed` must not be negative": self.seed >= 0,
            }
        )
        for kind, strengths in self.chosen().items():
            low, high = LIMITS[kind]
            check(
                {
                    f"`kinds` {kind}:{strength:g}: give {low:g} to {high:g}": low <= strength <= high
                    for strength in strengths
                }
            )

    def chosen(self) -> dict[str, tuple[float, ...]]:
        """Kind -> strengths, in the order of STRENGTHS.

        Raises:
            UsageError: a kind or a strength is none.
        """
        if self.kinds == "all":
            return dict(STRENGTHS)
        found: dict[str, tuple[float, ...]] = {}
        for part in self.kinds.split(","):
            kind, colon, given = part.strip().partition(":")
            check({f"`kinds` {kind}: give some of {','.join(STRENGTHS)}, or all": kind in STRENGTHS})
            try:
                found[kind] = tuple(float(each) for each in given.split("/")) if colon else STRENGTHS[kind]
            except ValueError:
                check({f"`kinds` {part}: give strengths as numbers, {kind}:0.1/0.2": False})
        return {kind: found[kind] for kind in STRENGTHS if kind in found}
