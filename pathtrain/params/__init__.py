"""Parameters of embedding and of evaluations: their defaults and words stand here, once. Quick to import."""

from pathtrain.params.encoding import How
from pathtrain.params.evaluation import CollapseParams, KnnParams, LinearParams
from pathtrain.params.expression import HestParams
from pathtrain.params.layers import LayerParams
from pathtrain.params.perturbation import PerturbationParams
from pathtrain.params.slide_level import SlidesConfig, TrainConfig

__all__ = [
    "CollapseParams",
    "HestParams",
    "How",
    "KnnParams",
    "LayerParams",
    "LinearParams",
    "PerturbationParams",
    "SlidesConfig",
    "TrainConfig",
]
