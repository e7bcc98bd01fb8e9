"""A model that is open: its network, and what is known of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from pathprep.errors import UsageError
from pathtrain.errors import ModelError
from pathtrain.models import readouts
from pathtrain.recipes.model import ModelConfig
from pathtrain.stain.target import ModelTarget

Pixels = npt.NDArray[np.uint8]


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
        module: images (B, 3, H, W) float32, normalised -> what it gives by itself; in eval mode, on the CPU.
        config: architecture, arguments, mean and std.
        size: side of the square images that it takes by default, pixels.
        patch: sides must be a multiple of it.
        name: what tables call it: the folder's name.
        fingerprint: 16 hex digits, a hash of architecture, normalisation, weights, target and read-out.
        target: stains that tiles must be normalised to before anything else; None: as they are.
        run: the run folder it came from, if any.
        step: finished optimiser steps, if that is known.
        slides: that it was trained on, if that is known.
        start: what its training began with, if that is known.
        averaged: steps whose encoders it is the mean of; none for the encoder of a step.
        readout: which of its numbers are the features (pathtrain.models.readouts).
        mpps: micrometres a pixel that it was trained at, the usual one first; none where that is not known.
        licence: of its weights, where it is known: a short name, and whose.
        origin: where it came from: a name of the registry, ``hf-hub:...``, ``timm:...``, or a folder.
        fixed: whether it takes images of ``size`` alone.
        epsilon: of all its norms, where its weights want another than the architecture has.
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
    readout: str = "cls"
    mpps: tuple[float, ...] = ()
    licence: str | None = None
    origin: str = ""
    fixed: bool = False
    epsilon: float | None = None

    @property
    def dim(self) -> int:
        """D, the length of a feature vector; of the read-out ``patches`` that of each patch."""
        return readouts.width(self.module, self.readout)

    @property
    def mpp(self) -> float | None:
        """What it was trained at, or mostly; None where that is not known."""
        return self.mpps[0] if self.mpps else None

    @property
    def encoder(self) -> str:
        """What files call it: ``origin``, of a folder its name alone: files are given away."""
        return self.name if not self.origin or Path(self.origin).is_dir() else self.origin

    def shape(self, size: int) -> tuple[int, ...]:
        """Of an image's features: (D,); of ``patches`` (P, D).

        Args:
            size: the image's side.
        """
        if self.readout != "patches":
            return (self.dim,)
        with torch.inference_mode():
            blank = torch.zeros(1, 3, size, size, device=self.device)
            return tuple(self.features(blank).shape[1:])

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Features (B, D), or (B, P, D) of ``patches``, of normalised images (B, 3, H, W), where they are."""
        return readouts.features(self.module, images, self.readout)

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
                of ``patch``, best ``size``; ``size`` alone where it is ``fixed``. Tiles are not resized. A
                model with a ``target`` was trained on normalised tiles: give such tiles (`pathprep shard
                --stain bake`, or pathprep.stain), or let ``embed`` normalise them.

        Returns:
            (N, D) float32, finite; (N, P, D) of the read-out ``patches``.

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
        if self.fixed and tuple(pixels.shape[1:3]) != (self.size, self.size):
            raise UsageError(f"`tiles` of {tuple(pixels.shape[1:3])}: {self.name} takes {self.size} px alone")
        with torch.inference_mode():
            images = pixels.to(self.device).permute(0, 3, 1, 2).float() / 255
            features: npt.NDArray[np.float32] = self.features(self.normalised(images)).float().cpu().numpy()
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


# What embed and evaluations take: a model; or a run, an exported folder, a name: see pathtrain.runs.opening
Model = LoadedModel | str | Path


def finite(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The features.

    Raises:
        ModelError: one is not finite.
    """
    if not np.isfinite(features).all():
        raise ModelError("the model's features are not finite: its training has diverged")
    return features
