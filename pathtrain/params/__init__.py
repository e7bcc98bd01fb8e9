"""Parameters of embedding and of evaluations: their defaults and words stand here, once. Quick to import."""

from pathtrain.params.encoding import How
from pathtrain.params.evaluation import CollapseParams, KnnParams, LinearParams
from pathtrain.params.layers import LayerParams
from pathtrain.params.slide_level import SlidesConfig, TrainConfig

__all__ = ["CollapseParams", "How", "KnnParams", "LayerParams", "LinearParams", "SlidesConfig", "TrainConfig"]
