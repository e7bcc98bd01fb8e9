"""From a network to a model: what it is told by, and the same weights for other tiles or another read-out."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from pathprep.stain import Target
from pathtrain.models import readouts
from pathtrain.models.patches import stride
from pathtrain.models.positions import as_dino
from pathtrain.recipes.model import ModelConfig
from pathtrain.runs.model import LoadedModel
from pathtrain.stain.target import ModelTarget

USUAL = 224  # pixels a side, where nothing says one
STRIDE = 32  # pixels: what networks of convolutions, or of stages, halve five times


def finished(
    module: nn.Module,
    config: ModelConfig,
    name: str,
    target: ModelTarget | None,
    epsilon: float | None = None,
) -> LoadedModel:
    """A model of a network with its weights; the size is that of its grid, the read-out its own.

    Args:
        epsilon: of its norms, where its weights want a certain one.
    """
    module.eval().requires_grad_(False)
    as_dino(module, scheme=config.positions)
    epsilon = _set_norms(module, epsilon)
    own, fixed = readouts.own(module), bool(getattr(module, "fixed_size", False))
    return LoadedModel(
        module=module,
        config=config,
        size=_side(module, "img_size") or USUAL,
        # of one size alone every size that it takes is a multiple
        patch=stride(module) or (1 if fixed else STRIDE),
        name=name,
        fingerprint=fingerprint_of(module, config, target, own, epsilon),
        target=target,
        readout=own,
        fixed=fixed,
        epsilon=epsilon,
    )


def _side(module: nn.Module, name: str) -> int | None:
    """What a network's patches say of a side, pixels; some of timm's have several kinds, or do not say."""
    value: Any = getattr(getattr(module, "patch_embed", None), name, None)
    return None if value is None else int(value if isinstance(value, int) else value[0])


def _set_norms(module: nn.Module, epsilon: float | None) -> float | None:
    """Give all layer norms an epsilon; None if they have it, or none is wanted."""
    norms = [each for each in module.modules() if isinstance(each, nn.LayerNorm) and each.eps != epsilon]
    if epsilon is None or not norms:
        return None
    for each in norms:
        each.eps = epsilon
    return epsilon


def with_target(model: LoadedModel, target: ModelTarget | None) -> LoadedModel:
    """The same weights, for tiles that are normalised to another target, or taken as they are."""
    fingerprint = fingerprint_of(model.module, model.config, target, model.readout, model.epsilon)
    return replace(model, target=target, fingerprint=fingerprint)


def aimed(model: LoadedModel, target: str) -> LoadedModel:
    """The model for tiles that are normalised to a named target.

    Args:
        target: ``model``, the one it was trained on; ``reference``; or a file of `pathprep target`.

    Raises:
        StainError: the file cannot be read.
    """
    if target == "model":
        return model
    goal = Target.default() if target == "reference" else Target.load(Path(target))
    return with_target(model, ModelTarget.model_validate({"name": goal.name, **goal.as_params()}))


def with_readout(model: LoadedModel, readout: str) -> LoadedModel:
    """The same weights, read out in another way.

    Raises:
        UsageError: the network has not what it names.
    """
    readouts.fits(model.module, readout, model.name)
    if readout == model.readout:
        return model
    fingerprint = fingerprint_of(model.module, model.config, model.target, readout, model.epsilon)
    return replace(model, readout=readout, fingerprint=fingerprint)


def fingerprint_of(
    module: nn.Module, config: ModelConfig, target: ModelTarget | None, readout: str, epsilon: float | None
) -> str:
    """16 hex digits: of architecture, normalisation, weights, target, and a read-out or an epsilon of norms
    that is not its own.
    """
    shape: list[Any] = [config.name, config.kwargs, list(config.mean), list(config.std)]
    if target is not None:
        shape.append(target.changes())
    if readout != readouts.own(module):
        shape.append(readout)
    if epsilon is not None:
        shape.append({"epsilon": epsilon})
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
