"""Parameters of `pathtrain evaluate robustness`; quick to import, so that help is instant."""

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from pathprep.params.settings import Setting, check
from pathtrain.params.baselines import BaselineParams
from pathtrain.params.encoding import KeptHow

MEASURES = ("index", "margin", "drop", "clusters", "silhouette", "share", "column", "copies")
Design = Literal["all", "paired"]
Picture = Literal["tsne", "pca"]
INDEX, DROP, CLUSTERS, OUTPUT = "Tiles", "Expert", "Expert", "Output"


@dataclass(frozen=True)
class NeighbourParams:
    """Of the robustness index, the margins and the own share.

    Attributes:
        design: ``all`` tiles at once, or ``paired``: every two classes at every two values of the column,
            with as many tiles of each of the four, drawn by the seed; counts of all are added.
        k: neighbours; None: those at which neighbours tell the label best, as PathoROB chooses them.
        most_k: the largest that is tried then.
        share_k: neighbours of the own share, as `pathtrain evaluate collapse`; at most a tenth of the tiles.
    """

    design: Annotated[
        Design,
        Setting("all tiles at once, or paired: every 2 classes at every 2 values, as many of each.", INDEX),
    ] = "all"
    k: Annotated[
        int | None, Setting("Neighbours. Default: those at which they tell the label best.", INDEX)
    ] = None
    most_k: Annotated[int, Setting("The largest k that is tried.", INDEX)] = 600
    share_k: Annotated[int, Setting("Neighbours of the own share, at most a tenth of the tiles.", INDEX)] = 20

    def __post_init__(self) -> None:
        check(
            {
                "`design` must be all or paired": self.design in get_args(Design),
                "`k` must be above 0": self.k is None or self.k >= 1,
                "`most_k` must be above 0": self.most_k >= 1,
                "`share_k` must be above 0": self.share_k >= 1,
            }
        )


@dataclass(frozen=True)
class DropParams:
    """Of the average performance drop.

    Attributes:
        in_domain: values of the column that are trained on, between commas; the others are out of domain.
            None: all of two or three; of more, the half with the most tiles.
        steps: training sets, from none to full correlation of class and column.
        repeats: of the whole, each with other groups in training and test.
        tiles: of a class in a training set, at most.
    """

    in_domain: Annotated[
        str | None,
        Setting("Values of the column to train on, between commas. Default: all of 2 or 3, else half.", DROP),
    ] = None
    steps: Annotated[
        int, Setting("Training sets, from no to full correlation of class and column.", DROP, "drop_steps")
    ] = 8
    repeats: Annotated[int, Setting("Of the whole, with other groups in test.", DROP, "drop_repeats")] = 20
    tiles: Annotated[int, Setting("Of a class in a training set, at most.", DROP, "drop_tiles")] = 1000

    def __post_init__(self) -> None:
        check(
            {
                "`drop_steps` must be at least 2": self.steps >= 2,
                "`drop_repeats` must be above 0": self.repeats >= 1,
                "`drop_tiles` must be above 0": self.tiles >= 1,
            }
        )


@dataclass(frozen=True)
class ClusterParams:
    """Of the clustering score.

    Attributes:
        repeats: of k-means with the best number of clusters.
        most: clusters that are tried, from 2.
        tiles: of a class at a value of the column, at most.
    """

    repeats: Annotated[int, Setting("Of k-means, with other starts.", CLUSTERS, "cluster_repeats")] = 50
    most: Annotated[int, Setting("Clusters that are tried, from 2.", CLUSTERS, "most_clusters")] = 30
    tiles: Annotated[
        int, Setting("Of a class at a value of the column, at most.", CLUSTERS, "cluster_tiles")
    ] = 500

    def __post_init__(self) -> None:
        check(
            {
                "`cluster_repeats` must be above 0": self.repeats >= 1,
                "`most_clusters` must be at least 2": self.most >= 2,
                "`cluster_tiles` must be at least 2": self.tiles >= 2,
            }
        )


@dataclass(frozen=True)
class RobustnessParams:
    """Parameters of `pathtrain evaluate robustness`.

    Attributes:
        measures: some of MEASURES between commas; ``all``: those that the data allow.
        neighbours, drop, clusters: see there.
        picture: how the figure is made. picture_tiles: shown in it, at most.
        seed: of all that is drawn.
        baselines: see BaselineParams. how: see KeptHow.
    """

    measures: Annotated[
        str, Setting(f"Some of {','.join(MEASURES)}; or all that the data allow.", "Tiles")
    ] = "all"
    neighbours: NeighbourParams = field(default_factory=NeighbourParams)
    drop: DropParams = field(default_factory=DropParams)
    clusters: ClusterParams = field(default_factory=ClusterParams)
    picture: Annotated[Picture, Setting("tsne, or pca, which is quicker.", OUTPUT)] = "tsne"
    picture_tiles: Annotated[int, Setting("Tiles in the figure, at most.", OUTPUT)] = 2000
    seed: Annotated[int, Setting("Of all that is drawn, from 0.")] = 0
    baselines: BaselineParams = field(default_factory=BaselineParams)
    how: KeptHow = field(default_factory=KeptHow)

    def __post_init__(self) -> None:
        check(
            {
                f"`measures` {self.measures}: give some of {','.join(MEASURES)}, or all": (
                    self.measures == "all" or set(self.measures.split(",")) <= set(MEASURES)
                ),
                "`picture` must be tsne or pca": self.picture in get_args(Picture),
                "`picture_tiles` must be at least 4": self.picture_tiles >= 4,
                "`seed` must not be negative": self.seed >= 0,
            }
        )

    @property
    def asked(self) -> tuple[str, ...]:
        """The measures by name, in the order of MEASURES."""
        return tuple(name for name in MEASURES if self.measures == "all" or name in self.measures.split(","))
