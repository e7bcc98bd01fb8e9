"""What stands beside a model in an evaluation; quick to import, so that help is instant."""

from dataclasses import dataclass
from typing import Annotated

from pathprep.params.settings import Setting, check

BASELINES = ("start", "random", "colour", "lbp")
PANEL = "Running"


@dataclass(frozen=True)
class BaselineParams:
    """What a model is compared with.

    Attributes:
        chosen: of ``start``, the weights that the run's recipe starts from; ``random``, the same architecture
            with random weights; ``colour``, mean and SD of red, green and blue; ``lbp``, these with local
            binary patterns; between commas. Or ``none``.
        seeds: random networks, each with its own weights.
    """

    chosen: Annotated[
        str,
        Setting(
            "Some of start,random,colour,lbp; or none. start and each random network cost another pass of "
            "the encoder over the tiles.",
            PANEL,
            "baselines",
        ),
    ] = ",".join(BASELINES)
    seeds: Annotated[
        int, Setting("Random networks; their mean and range are shown.", PANEL, "random_seeds")
    ] = 3

    def __post_init__(self) -> None:
        check(
            {
                f"`baselines` {self.chosen}: give some of {','.join(BASELINES)}, or none": (
                    self.chosen == "none" or set(self.chosen.split(",")) <= set(BASELINES)
                ),
                "`random_seeds` must be above 0": self.seeds >= 1,
            }
        )

    def __contains__(self, name: str) -> bool:
        return name in self.chosen.split(",")
