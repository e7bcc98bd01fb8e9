"""Architectures of public encoders that timm has not, by their names in the registry."""

from collections.abc import Callable

from torch import nn

from pathtrain.models.networks.conch import Conch
from pathtrain.models.networks.ctranspath import ctranspath
from pathtrain.models.networks.musk import Musk

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "conch_vit_base_patch16_448": Conch,
    "ctranspath": ctranspath,
    "musk_beit3_large_patch16_384": Musk,
}
