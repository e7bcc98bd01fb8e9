"""Parameters of evaluations of tiles; quick to import, so that help is instant."""

from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from pathprep.params.settings import Setting, check
from pathtrain.params.baselines import BaselineParams
from pathtrain.params.encoding import How, KeptHow

Schedule = Literal["cosine", "constant"]
TRAINING = "Training"


@dataclass(frozen=True)
class KnnParams:
    """Parameters of `pathtrain evaluate knn`.

    Attributes:
        k: neighbours that vote.
        seed: of the random weights and of the bootstrap.
        baselines: see BaselineParams.
        how: see How.
    """

    k: Annotated[int, Setting("Neighbours that vote.")] = 20
    seed: Annotated[int, Setting("Of random weights and bootstrap, from 0.")] = 0
    baselines: BaselineParams = field(default_factory=BaselineParams)
    how: KeptHow = field(default_factory=KeptHow)

    def __post_init__(self) -> None:
        check({"`seed` must not be negative": self.seed >= 0})


@dataclass(frozen=True)
class CollapseParams:
    """Parameters of `pathtrain evaluate collapse`.

    Attributes:
        slides: so many random ones, those with enough tiles first; None: all, or 10 for the three panels.
        tiles_per_slide: sampled without replacement; slides with fewer give all they have.
        k: neighbours that are looked at.
        seed: of the sample and of the bootstrap.
        tsne_tiles: tiles of each slide in the figure.
        how: see How.
    """

    slides: Annotated[
        int | None, Setting("Random slides, those with enough tiles first. Default: all; 10 for panels.")
    ] = None
    tiles_per_slide: Annotated[int, Setting("Random tiles of each slide.")] = 1000
    k: Annotated[int, Setting("Neighbours that are looked at.")] = 20
    seed: Annotated[int, Setting("Of sampling, random weights and bootstrap, from 0.")] = 0
    tsne_tiles: Annotated[
        int, Setting("Tiles of each slide in the figure; 300 of 10 slides take about 20 s.", "Output")
    ] = 300
    how: How = field(default_factory=How)

    def __post_init__(self) -> None:
        check(
            {
                "`slides` must be at least 2": self.slides is None or self.slides >= 2,
                # a tile alone has no neighbour of its slide
                "`tiles_per_slide` must be at least 2": self.tiles_per_slide >= 2,
                "`tsne_tiles` must be above 0": self.tsne_tiles >= 1,
                "`seed` must not be negative": self.seed >= 0,
            }
        )


@dataclass(frozen=True)
class LayerParams:
    """How a linear layer is trained; the defaults are the paper's, which does not state a schedule.

    Attributes:
        lr, momentum, weight_decay: of SGD.
        batch: tiles per iteration. iterations: steps of SGD.
        schedule: ``cosine`` to 0, or ``constant``.
        seeds: layers that are trained, each with its own first weights and order.
    """

    lr: Annotated[float, Setting("Of SGD.", TRAINING)] = 0.1
    momentum: Annotated[float, Setting("Of SGD.", TRAINING)] = 0.9
    weight_decay: Annotated[float, Setting("Of SGD.", TRAINING)] = 0.0
    batch: Annotated[int, Setting("Tiles per step of SGD.", TRAINING, "sgd_batch")] = 128
    iterations: Annotated[int, Setting("Steps of SGD.", TRAINING)] = 12_500
    schedule: Annotated[
        Schedule, Setting("Of the lr: cosine (to 0) or constant; the paper does not say.", TRAINING)
    ] = "cosine"
    seeds: Annotated[int, Setting("Layers that are trained, from `seed` on.", TRAINING)] = 5

    def __post_init__(self) -> None:
        check(
            {
                "`lr` must be above 0": self.lr > 0,
                "`momentum` must be 0 to below 1": 0 <= self.momentum < 1,
                "`weight_decay` must not be negative": self.weight_decay >= 0,
                "`sgd_batch` must be above 0": self.batch >= 1,
                "`iterations` must be above 0": self.iterations >= 1,
                "`schedule` must be cosine or constant": self.schedule in get_args(Schedule),
                "`seeds` must be above 0": self.seeds >= 1,
            }
        )


@dataclass(frozen=True)
class LinearParams:
    """Parameters of `pathtrain evaluate linear` and of `pathtrain evaluate table`.

    Attributes:
        target: what tiles are normalised to: ``model``, what it was trained on (plain tiles stay plain);
            ``reference``; or a file of `pathprep target`.
        seed: of the split, the first seed of the layers, of the random weights and of the bootstrap.
        whole: with a test set, train on all of the training set; otherwise on 80 % of it, as the paper.
        layer: see LayerParams.
        baselines: see BaselineParams.
        how: ``size`` is the crop; ``short`` by default in the paper's ratio to it.
    """

    target: Annotated[
        str,
        Setting(
            "What tiles are normalised to: model, what it was trained on (plain tiles stay plain); "
            "reference; or a file of `pathprep target`.",
            "Tiles",
        ),
    ] = "model"
    whole: Annotated[
        bool,
        Setting(
            "With a test set: train on all of the training set, not on the paper's 80 % of it.", TRAINING
        ),
    ] = False
    layer: LayerParams = field(default_factory=LayerParams)
    seed: Annotated[int, Setting("Of the split, the layers and the bootstrap, from 0.", TRAINING)] = 0
    baselines: BaselineParams = field(default_factory=BaselineParams)
    how: KeptHow = field(default_factory=KeptHow)

    def __post_init__(self) -> None:
        check({"`seed` must not be negative": self.seed >= 0})
