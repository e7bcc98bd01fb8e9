"""The encoder of a folder that `pathtrain export` wrote; of others see pathtrain.runs.meant."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from pathtrain.errors import ModelError
from pathtrain.models.any_network import any_network
from pathtrain.models.folder import AGAIN, CONFIG_FILE, WEIGHTS_FILE, read_config, read_weights
from pathtrain.models.positions import KEEP_GRID
from pathtrain.models.weight_files import first_line
from pathtrain.recipes.model import IMAGENET_MEAN, IMAGENET_STD, ModelConfig
from pathtrain.runs.finishing import finished
from pathtrain.runs.model import LoadedModel, Start
from pathtrain.stain.target import ModelTarget

# What backbone.build sets itself; an export writes it for timm, and it is taken out again here
BUILT_IN = {"num_classes": 0, "dynamic_img_size": True}


def read(path: Path) -> LoadedModel:
    """The encoder of a folder; raises as ``pathtrain.runs.opening.load``."""
    info = read_config(path)
    if "architecture" not in info:
        raise ModelError(f"{path / CONFIG_FILE}: not a timm model configuration; export the model again")
    try:
        config, target, start = _described(path, info)
        weights = read_weights(path, info)
        _check_shapes(config, weights)
        module = any_network(config)
        module.load_state_dict(weights)
        found = finished(module, config, path.resolve().name, target)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ModelError(f"{path / CONFIG_FILE}: {said}") from None
    except ModelError as error:  # of timm, of what config.json asks for
        if str(path) in str(error):
            raise
        raise ModelError(f"{path / CONFIG_FILE}: {error}; {AGAIN}") from None
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        raise ModelError(
            f"{path}: its weights or configuration are damaged ({first_line(error)}); {AGAIN}"
        ) from None
    if info.get("fingerprint", found.fingerprint) != found.fingerprint:
        raise ModelError(
            f"{path}: damaged (its fingerprint was {info['fingerprint']}, is {found.fingerprint}); {AGAIN}"
        )
    size = found.size if config.positions not in KEEP_GRID else _trained_at(path, info, found.patch)
    averaged = tuple(info.get("averaged", ()))
    return replace(
        found,
        size=size,
        step=info.get("step"),
        slides=info.get("slides"),
        start=start,
        averaged=averaged,
        origin=str(path),
    )


def _trained_at(path: Path, info: dict[str, Any], patch: int) -> int:
    """The side of images that an export is for, where that is not its grid's."""
    try:
        size = int(info["pretrained_cfg"]["input_size"][1])
    except (LookupError, TypeError, ValueError):
        size = 0
    if size < patch or size % patch:
        raise ModelError(
            f"{path / CONFIG_FILE}: pretrained_cfg.input_size is no multiple of {patch}; {AGAIN}"
        )
    return size


def _described(path: Path, info: dict[str, Any]) -> tuple[ModelConfig, ModelTarget | None, Start | None]:
    """What an export's config.json says of the model, its target and its start."""
    shown = info.get("pretrained_cfg", {})
    arguments = info["kwargs"] if "kwargs" in info else info.get("model_args", {})
    config = ModelConfig(
        name=info["architecture"],
        kwargs={key: value for key, value in arguments.items() if key not in BUILT_IN},
        init=str(path / WEIGHTS_FILE),
        mean=shown.get("mean", IMAGENET_MEAN),
        std=shown.get("std", IMAGENET_STD),
        positions=info.get("positions", "once"),
    )
    target = ModelTarget.model_validate(info["target"]) if "target" in info else None
    return config, target, Start(**info["start"]) if "start" in info else None


def _check_shapes(config: ModelConfig, weights: Mapping[str, torch.Tensor]) -> None:
    """Compare with the architecture before memory is taken for it: a file may name any size.

    Raises:
        RuntimeError: they do not fit.
    """
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        own = any_network(config).state_dict()
    for name in sorted(own.keys() | weights.keys()):
        one, two = (tuple(state[name].shape) if name in state else "none" for state in (own, weights))
        if one != two:
            raise RuntimeError(f"{name} is {two}, {config.name} with these arguments has {one}")
