"""Opening a trained backbone: from a run's newest intact checkpoint, or from an exported folder.

A run and its export give the same weights, hence the same fingerprint and the same features.
"""

import hashlib
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import nn

from pathprep.errors import UsageError
from pathprep.stain import Target
from pathtrain.errors import CheckpointError, ModelError, NoModelError
from pathtrain.models import first_weights
from pathtrain.models.backbone import build
from pathtrain.models.folder import (
    AGAIN,
    CONFIG_FILE,
    CREATOR,
    WEIGHTS_FILE,
    is_model,
    read_config,
    read_weights,
)
from pathtrain.models.positions import KEEP_GRID, as_dino, own_side
from pathtrain.recipes.model import IMAGENET_MEAN, IMAGENET_STD, RUN, ModelConfig, is_public
from pathtrain.recipes.names_only import short_init
from pathtrain.runs import checkpoint, warm_start
from pathtrain.runs.described import INFO_FILE, SHA_KEY, STEP_KEY, info_of, recipe_of
from pathtrain.stain.target import ModelTarget, of_run

Pixels = npt.NDArray[np.uint8]
log = logging.getLogger(__name__)

# What backbone.build sets itself; an export writes it for timm, and it is taken out again here
BUILT_IN = {"num_classes": 0, "dynamic_img_size": True}


@dataclass(frozen=True)
class Start:
    """What a run began with: the recipe's ``model.init``, of another run with the step; its seed, which
    random weights are drawn by; and the SHA-256 of the other run's checkpoint or of the file, if it is known.
    """

    init: str
    seed: int
    sha256: str | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A backbone ready for inference; called with tiles, it gives their features.

        model = pathtrain.load("runs/smoke")
        features = model.to("cuda")(tiles)  # (N, H, W, 3) uint8 -> (N, D) float32

    Attributes:
        module: images (B, 3, H, W) float32, normalised -> features (B, D); in eval mode, on the CPU.
        config: architecture, arguments, mean and std.
        size: side of the square images that it takes by default, pixels.
        patch: sides must be a multiple of it.
        name: what tables call it: the folder's name.
        fingerprint: 16 hex digits, a hash of architecture, normalisation, weights and target.
        target: stains that tiles must be normalised to before anything else; None: as they are.
        run: the run folder it came from, if any.
        step: finished optimiser steps, if that is known.
        slides: that it was trained on, if that is known.
        start: what its training began with, if that is known.
        averaged: steps whose encoders it is the mean of; none for the encoder of a step.
    """

    module: nn.Module
    config: ModelConfig
    size: int
    patch: int
    name: str
    fingerprint: str
    target: ModelTarget | None = None
    run: Path | None = None
    step: int | None = None
    slides: int | None = None
    start: Start | None = None
    averaged: tuple[int, ...] = ()

    @property
    def dim(self) -> int:
        """D, the length of a feature vector."""
        return int(self.module.num_features)  # type: ignore[arg-type]

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.module.parameters()).device

    def to(self, device: str | torch.device) -> Self:
        """Move the weights, as ``"cuda"`` or ``"cuda:1"``; returns the model itself."""
        self.module.to(device)
        return self

    def __call__(self, tiles: Pixels | torch.Tensor) -> npt.NDArray[np.float32]:
        """Features of tiles, computed in float32 where the weights are; equal to those that ``embed`` writes.

        Args:
            tiles: (N, H, W, 3) uint8 RGB, 0 to 255, an array or a tensor on any device; H and W are multiples
                of ``patch``, best ``size``. Tiles are not resized. A model with a ``target`` was trained on
                normalised tiles: give such tiles (`pathprep shard --stain bake`, or pathprep.stain), or let
                ``embed`` normalise them.

        Returns:
            (N, D) float32, finite.

        Raises:
            UsageError: another shape or type.
            ModelError: a feature is not finite.
        """
        pixels = torch.as_tensor(tiles)
        if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
            shape = tuple(pixels.shape)
            raise UsageError(f"`tiles` are {pixels.dtype} {shape}; give uint8 of shape (N, height, width, 3)")
        if pixels.shape[1] % self.patch or pixels.shape[2] % self.patch:
            raise UsageError(f"`tiles` of {tuple(pixels.shape[1:3])}: give multiples of {self.patch}")
        with torch.inference_mode():
            images = pixels.to(self.device).permute(0, 3, 1, 2).float() / 255
            features: npt.NDArray[np.float32] = self.module(self.normalised(images)).float().cpu().numpy()
        return finite(features)

    def channels(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and std, (3, 1, 1) each, on a device; a card is waited for."""
        mean, std = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (self.config.mean, self.config.std)
        )
        return mean, std

    def normalised(
        self, images: torch.Tensor, channels: tuple[torch.Tensor, torch.Tensor] | None = None
    ) -> torch.Tensor:
        """Images (N, 3, H, W) from 0 to 1 as the network takes them: less the mean, by the std.

        Args:
            images: on any device.
            channels: ``channels`` of that device, where many batches follow each other.
        """
        mean, std = channels or self.channels(images.device)
        return ((images - mean) / std).contiguous()


# What evaluations take: a model, or its run or exported folder
Model = LoadedModel | str | Path


def finite(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The features.

    Raises:
        ModelError: one is not finite.
    """
    if not np.isfinite(features).all():
        raise ModelError("the model's features are not finite: its training has diverged")
    return features


def opened(model: Model) -> LoadedModel:
    """A model, loaded if it is a folder; raises as ``load``."""
    return model if isinstance(model, LoadedModel) else load(model)


def load(path: str | Path) -> LoadedModel:
    """Open a run folder (the teacher's backbone) or an exported folder; the weights are on the CPU.

    Raises:
        ModelError: it is neither, or its weights or target are damaged or do not fit.
        CheckpointError: the run has no intact checkpoint.
        RecipeError: the run's recipe cannot be read.
    """
    path = Path(path)
    if is_model(path):
        return _from_export(path)
    if (path / "recipe.yaml").is_file():
        return _from_run(path)
    raise NoModelError(
        f"{path}: neither a run (recipe.yaml and checkpoints/, from `pathtrain pretrain`) "
        f"nor an exported model ({CONFIG_FILE} and {WEIGHTS_FILE}, from `pathtrain export`)"
    )


def untrained(model: LoadedModel, seed: int = 0) -> LoadedModel:
    """The same architecture with random weights: what a trained one must beat."""
    return _anew(model, "random weights", Start("random", seed))


def started(model: LoadedModel) -> LoadedModel:
    """The weights that the model's training began with: what training has to add something to.

    Raises:
        ModelError, CheckpointError: they are not known, or cannot be had.
    """
    if model.start is None:
        raise ModelError(f"{model.name} does not say what its training began with; export it again")
    init = model.start.init
    if model.run is not None or is_public(init) or init != short_init(init):  # older exports have its path
        return _anew(model, "start", model.start)
    lost = f"{model.name}: its training began with {init}, of which an exported model has the name only"
    if not init.startswith(RUN) or model.start.sha256 is None:  # another file here may have that name
        raise ModelError(f"{lost}; give the run that it was exported from")
    try:
        return _anew(model, "start", model.start)
    except ModelError:
        raise ModelError(
            f"{lost}; give the run that it was exported from, or start this in the folder that holds "
            f"{init.removeprefix(RUN).partition('@')[0]}"
        ) from None


def _anew(model: LoadedModel, name: str, start: Start) -> LoadedModel:
    config = model.config.model_copy(update={"init": start.init})
    found = warm_start.find(config, None, None)
    if found is not None and start.sha256 not in (None, found.sha256):
        raise CheckpointError(
            f"{found.run}: its checkpoint of step {found.step} is not that which {model.name} began with"
        )
    if found is None and start.sha256 not in (None, first_weights.digest(config)):
        raise ModelError(
            f"{start.init}: not the weights that {model.name} began with, or no more; fetch them again"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(start.seed)  # as training does before it makes its networks
        module = warm_start.encoder(config, found)
    return replace(_finish(module, config, name, model.target), size=model.size)


def with_target(model: LoadedModel, target: ModelTarget | None) -> LoadedModel:
    """The same weights, for tiles that are normalised to another target, or taken as they are."""
    return replace(model, target=target, fingerprint=_fingerprint(model.module, model.config, target))


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


def of_weights(
    config: ModelConfig,
    weights: Mapping[str, torch.Tensor],
    name: str,
    target: ModelTarget | None,
    run: Path,
    step: int,
) -> LoadedModel:
    """A run's backbone with the weights of a step; torch's random state is left alone.

    Raises:
        RuntimeError: they do not fit the architecture.
    """
    with torch.random.fork_rng(devices=[]):
        module = build(config)
    module.load_state_dict(weights)
    info = info_of(run)
    identity = info.get("identity", {})
    taken, sha256 = (identity.get(key) for key in (STEP_KEY, SHA_KEY))
    init = config.init if taken is None else warm_start.at_step(config.init, taken)
    recipe = recipe_of(run)
    made = _finish(module, config, name, target)
    return replace(
        made,
        size=own_side(module, config.positions, recipe.views.globals.size),
        run=run,
        step=step,
        slides=info.get("slides"),
        start=Start(init, recipe.seed, sha256),
    )


def _from_run(path: Path) -> LoadedModel:
    recipe = recipe_of(path)
    if not info_of(path):
        log.warning(
            "%s is gone: whether the run's tiles were normalised, and what it began with, is not known; copy "
            "all of a run",
            path / INFO_FILE,
        )
    value = checkpoint.load(path)
    name, target = path.resolve().name, of_run(path, recipe)
    try:
        weights = value["teacher"]["backbone"]
        return of_weights(recipe.model, weights, name, target, path, int(value["step"]))
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: its checkpoint does not fit recipe.yaml ({_line(error)})") from None


def _from_export(path: Path) -> LoadedModel:
    info = read_config(path)
    if "architecture" not in info:
        raise ModelError(f"{path / CONFIG_FILE}: not a timm model configuration; export the model again")
    try:
        config, target, start = _described(path, info)
        weights = read_weights(path, info)
        _check_shapes(config, weights)
        module = build(config)
        module.load_state_dict(weights)
        found = _finish(module, config, path.resolve().name, target)
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ModelError(f"{path / CONFIG_FILE}: {said}") from None
    except ModelError as error:  # of timm, of what config.json asks for
        if str(path) in str(error):
            raise
        raise ModelError(f"{path / CONFIG_FILE}: {error}; {AGAIN}") from None
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
        raise ModelError(
            f"{path}: its weights or configuration are damaged ({_line(error)}); {AGAIN}"
        ) from None
    if info.get("creator") == CREATOR and info.get("fingerprint", found.fingerprint) != found.fingerprint:
        raise ModelError(
            f"{path}: damaged (its fingerprint was {info['fingerprint']}, is {found.fingerprint}); {AGAIN}"
        )
    size = found.size if config.positions not in KEEP_GRID else _trained_at(path, info, found.patch)
    averaged = tuple(info.get("averaged", ()))
    return replace(
        found, size=size, step=info.get("step"), slides=info.get("slides"), start=start, averaged=averaged
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
    ours = info.get("creator") == CREATOR
    arguments = info["kwargs"] if ours and "kwargs" in info else info.get("model_args", {})
    config = ModelConfig(
        name=info["architecture"],
        kwargs={key: value for key, value in arguments.items() if key not in BUILT_IN},
        init=str(path / WEIGHTS_FILE),
        mean=shown.get("mean", IMAGENET_MEAN),
        std=shown.get("std", IMAGENET_STD),
        # what timm wrote is resampled as timm does
        positions=info.get("positions", "once") if ours else "registers",
    )
    target = ModelTarget.model_validate(info["target"]) if "target" in info else None
    return config, target, Start(**info["start"]) if "start" in info else None


def _check_shapes(config: ModelConfig, weights: Mapping[str, torch.Tensor]) -> None:
    """Compare with the architecture before memory is taken for it: a file may name any size.

    Raises:
        RuntimeError: they do not fit.
    """
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        own = build(config).state_dict()
    for name in sorted(own.keys() | weights.keys()):
        one, two = (tuple(state[name].shape) if name in state else "none" for state in (own, weights))
        if one != two:
            raise RuntimeError(f"{name} is {two}, {config.name} with these arguments has {one}")


def _finish(module: nn.Module, config: ModelConfig, name: str, target: ModelTarget | None) -> LoadedModel:
    module.eval().requires_grad_(False)
    as_dino(module, scheme=config.positions)
    embed: Any = module.patch_embed
    return LoadedModel(
        module=module,
        config=config,
        size=int(embed.img_size[0]),
        patch=int(embed.patch_size[0]),
        name=name,
        fingerprint=_fingerprint(module, config, target),
        target=target,
    )


def _fingerprint(module: nn.Module, config: ModelConfig, target: ModelTarget | None) -> str:
    shape: list[Any] = [config.name, config.kwargs, list(config.mean), list(config.std)]
    if target is not None:
        shape.append(target.changes())
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
