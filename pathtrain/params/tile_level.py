"""Parameters of few-shot, retrieval and invariance; quick to import, so that help is instant."""

from dataclasses import dataclass, field
from typing import Annotated

from pathprep.errors import UsageError
from pathprep.params.settings import Setting, check
from pathtrain.params.baselines import BaselineParams
from pathtrain.params.encoding import How, KeptHow

SEED = "Of draws, random weights and bootstrap, from 0."


@dataclass(frozen=True)
class FewShotParams:
    """Parameters of `pathtrain evaluate few-shot`.

    Attributes:
        shots: tiles of each class that are learnt from, between commas.
        episodes: draws of them, each scored on all of the test tiles.
        seed: of the draws, of the random weights and of the bootstrap.
        baselines: see BaselineParams. how: see How.
    """

    shots: Annotated[str, Setting("Tiles of each class, between commas.", metavar="N[,N...]")] = (
        "1,2,4,8,16,32"
    )
    episodes: Annotated[int, Setting("Draws of them; each is scored on all tiles of the test side.")] = 1000
    seed: Annotated[int, Setting(SEED)] = 0
    baselines: BaselineParams = field(default_factory=BaselineParams)
    how: KeptHow = field(default_factory=KeptHow)

    def __post_init__(self) -> None:
        check(
            {"`seed` must not be negative": self.seed >= 0, "`episodes` must be above 0": self.episodes >= 1}
        )
        self.numbers()

    def numbers(self) -> list[int]:
        """The shots.

        Raises:
            UsageError: they are no whole numbers above 0.
        """
        parts = self.shots.split(",")
        if not all(part.strip().isdecimal() and int(part) >= 1 for part in parts):
            raise UsageError(f"`shots` {self.shots}: give whole numbers above 0, as 1,4,16")
        return sorted({int(part) for part in parts})


@dataclass(frozen=True)
class RetrievalParams:
    """Parameters of `pathtrain evaluate retrieval`.

    Attributes:
        k: neighbours that mean average precision looks at, at least 5.
        seed: of the random weights and of the bootstrap.
        baselines: see BaselineParams. how: see How.
    """

    k: Annotated[int, Setting("Neighbours that mean average precision looks at.")] = 10
    seed: Annotated[int, Setting(SEED)] = 0
    baselines: BaselineParams = field(default_factory=BaselineParams)
    how: KeptHow = field(default_factory=KeptHow)

    def __post_init__(self) -> None:
        check({"`seed` must not be negative": self.seed >= 0, "`k` must be at least 5": self.k >= 5})


@dataclass(frozen=True)
class InvarianceParams:
    """Parameters of `pathtrain evaluate invariance`.

    Attributes:
        number: of random tiles that are turned; of fewer, all.
        k: neighbours that vote for a tile's class, where tiles have labels.
        seed: of the draw, of the random weights and of the bootstrap.
        baselines: see BaselineParams. how: see How.
    """

    number: Annotated[
        int, Setting("Random tiles that are turned; each is encoded eight times.", name="tiles")
    ] = 1000
    k: Annotated[int, Setting("Neighbours that vote for a tile's class, where tiles have labels.")] = 20
    seed: Annotated[int, Setting(SEED)] = 0
    baselines: BaselineParams = field(default_factory=BaselineParams)
    how: How = field(default_factory=How)

    def __post_init__(self) -> None:
        check(
            {
                "`seed` must not be negative": self.seed >= 0,
                "`tiles` must be at least 2": self.number >= 2,
                "`k` must be above 0": self.k >= 1,
            }
        )
