"""Any architecture of timm's, or of pathtrain.models.networks, for features; not for training."""

from typing import Any, cast

import timm
from torch import nn

from pathtrain.errors import ModelError
from pathtrain.models.networks import NETWORKS
from pathtrain.models.weight_files import first_line
from pathtrain.recipes.model import ModelConfig


def any_network(model: ModelConfig) -> nn.Module:
    """The architecture with random weights and no classifier; what can takes images of several sizes.

    Where it can not, its ``fixed_size`` is true.

    Raises:
        ModelError: timm does not know it or refuses an argument.
    """
    try:
        if model.name in NETWORKS:
            return NETWORKS[model.name](**model.kwargs)
        return _of_timm(model)
    except (RuntimeError, TypeError, ValueError, AssertionError, ArithmeticError, LookupError) as error:
        raise ModelError(f"timm cannot make {model.name}: {first_line(error)[:200]}") from None


def _of_timm(model: ModelConfig) -> nn.Module:
    given: dict[str, Any] = {"num_classes": 0, **model.kwargs}
    try:
        return cast(
            nn.Module, timm.create_model(model.name, pretrained=False, dynamic_img_size=True, **given)
        )
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
    network = cast(nn.Module, timm.create_model(model.name, pretrained=False, **given))
    if hasattr(network, "patch_embed"):  # of a grid, and of that alone
        network.fixed_size = True  # type: ignore[assignment]
    return network
