"""Parameters of evaluations of tiles; quick to import, so that help is instant."""

from dataclasses import dataclass, field
from typing import Annotated

from pathprep.params.settings import Setting, check
from pathtrain.params.baselines import BaselineParams
from pathtrain.params.encoding import How, KeptHow
from pathtrain.params.layers import TRAINING, LayerOptions, LayerParams, Protocol


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
class LinearParams:
    """Parameters of `pathtrain evaluate linear` and of `pathtrain evaluate table`.

    Attributes:
        protocol: whose way of training it is; see pathtrain.params.layers.
        target: what tiles are normalised to: ``model``, what it was trained on (plain tiles stay plain);
            ``reference``; or a file of `pathprep target`.
        seed: of the split, the first seed of the layers, of the random weights and of the bootstrap.
        whole: with a test set, train on all of the training set; otherwise on 80 % of it, as EXAONEPath's
            paper; eva's protocol always trains on all.
        options: what of the protocol is set otherwise.
        baselines: see BaselineParams.
        how: ``size`` is the crop; ``short`` by default in the paper's ratio to it.
    """

    protocol: Annotated[
        Protocol,
        Setting("exaonepath: SGD, the last weights; eva: AdamW, the best of the validations.", TRAINING),
    ] = "exaonepath"
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
            "With a test set: train on all of the training set, not on EXAONEPath's 80 % of it.", TRAINING
        ),
    ] = False
    options: LayerOptions = field(default_factory=LayerOptions)
    seed: Annotated[int, Setting("Of the split, the layers and the bootstrap, from 0.", TRAINING)] = 0
    baselines: BaselineParams = field(default_factory=BaselineParams)
    how: KeptHow = field(default_factory=KeptHow)

    def __post_init__(self) -> None:
        check({"`seed` must not be negative": self.seed >= 0})
        self.options.over(self.protocol)

    @property
    def layer(self) -> LayerParams:
        """How layers are trained."""
        return self.options.over(self.protocol)
