"""DINO views per second: this project's loader against webdataset + torchvision + DataLoader.

Both read the same tiles and make the same ten views of each (2 of 224 px, 8 of 96 px; crop, flip, colour
jitter, greyscale, blur, solarise, normalise) with as many threads or worker processes. The other side is
written as its documentation suggests, twice: on PIL images, and on uint8 tensors, which torchvision says
is faster; the ratio is against the faster. Rounds are interleaved, and each round starts a loader, takes
more batches than it can have prepared ahead, and times the next ones.

On a dataset with stain fits (`pathprep shard --stain fit`) the same is measured with every tile
normalised first: here by its stored fit; there as is usual, with torchstain's numpy normaliser in the
workers, which fits each tile each time it is read.

    python bench/bench_loader.py [DATASET ...] [--json [FILE]]

Without a dataset it makes two from a synthetic slide, of 256 and 512 px tiles, with fits.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import webdataset as wds
from machine import add_json, save
from PIL import Image, ImageFilter
from torchstain.numpy.normalizers import NumpyMacenkoNormalizer
from torchvision.transforms import v2

from pathprep.shards import Dataset
from pathtrain.data import params
from pathtrain.data.loader import Loader
from pathtrain.recipes.load import load
from pathtrain.recipes.schema import Recipe

BATCH = 32
WARM = 5  # batches; DataLoader prepares 2 per worker ahead, ours 2


def ours(dataset: Path, recipe: Recipe, threads: int) -> Iterator[Any]:
    return iter(Loader(Dataset(dataset), recipe, threads=threads))


class PilBlur:
    """The original DINO code's Gaussian blur, about five times faster than torchvision's on PIL images."""

    def __init__(self, sigma: tuple[float, float]) -> None:
        self.sigma = sigma

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*self.sigma)))


class Views:
    """The recipe's views with torchvision's transforms; a class, so that workers can receive it."""

    def __init__(self, recipe: Recipe, tensors: bool) -> None:
        self.tensors = tensors
        self.normaliser = NumpyMacenkoNormalizer() if recipe.stain.mode == "normalize" else None
        self.transforms = [self._transform(recipe, view) for view in params.views(recipe.views)]

    def _transform(self, recipe: Recipe, view: params.View) -> v2.Compose:
        config, jitter = recipe.views, recipe.views.jitter
        strength = (jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
        bicubic = v2.InterpolationMode.BICUBIC
        # 13 pixels are 3 sigma of the largest one; torchvision wants one size
        blur = v2.GaussianBlur(13, config.blur_sigma) if self.tensors else PilBlur(config.blur_sigma)
        return v2.Compose(
            [
                v2.RandomResizedCrop(view.size, view.scale, config.ratio, bicubic, antialias=True),
                v2.RandomHorizontalFlip(config.flip),
                v2.RandomApply([v2.ColorJitter(*strength)], jitter.p),
                v2.RandomGrayscale(config.greyscale),
                v2.RandomApply([blur], view.blur),
                v2.RandomSolarize(128, view.solarise),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(recipe.model.mean, recipe.model.std),
            ]
        )

    def _normalised(self, image: Image.Image) -> Image.Image:
        """Tiles that cannot be fitted stay as they are, as in EXAONEPath's code."""
        try:
            pixels, _, _ = self.normaliser.normalize(np.asarray(image), stains=False)
        except np.linalg.LinAlgError:
            return image
        return Image.fromarray(pixels)

    def __call__(self, image: Any) -> list[torch.Tensor]:
        if self.normaliser is not None:
            image = self._normalised(image)
        if self.tensors:
            image = v2.functional.pil_to_tensor(image)
        return [transform(image) for transform in self.transforms]


def first(sample: tuple[Any, ...]) -> Any:
    return sample[0]


def theirs(dataset: Path, recipe: Recipe, threads: int, tensors: bool) -> Iterator[Any]:
    tars = sorted(str(path) for path in (dataset / "shards").glob("*.tar"))
    tiles = (
        wds.WebDataset(tars, resampled=True, shardshuffle=False)
        .shuffle(1000)
        .decode("pil")
        .to_tuple("jpg")
        .map_tuple(Views(recipe, tensors))
        .map(first)
    )
    # forked workers would inherit the locks of the DALI threads of earlier rounds, and hang
    spawned = torch.utils.data.DataLoader(
        tiles, batch_size=BATCH, num_workers=threads, multiprocessing_context="spawn"
    )
    return iter(spawned)


def images_s(start: Callable[[], Iterator[Any]], batches: int) -> float:
    """Steady throughput of one freshly started loader."""
    running = start()
    for _ in range(WARM):
        next(running)
    since = time.perf_counter()
    for _ in range(batches):
        next(running)
    return BATCH * batches / (time.perf_counter() - since)


def synthetic(folder: Path) -> list[Path]:
    """Datasets of 256 and 512 px tiles from one synthetic slide of 8192 px at 0.5 MPP."""
    pathprep = [Path(sys.executable).with_name("pathprep")]
    run = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([*pathprep, "synth", folder / "slides", "--slides", "1", "--size", "8192"], **run)
    made = []
    for mpp, side in ((0.5, 256), (1.0, 512)):
        made.append(folder / f"{side} px")
        shard = [*pathprep, "shard", folder / "slides", "--out", made[-1], "--mpp", str(mpp)]
        subprocess.run([*shard, "--stain", "fit"], **run)
    return made


def measure(dataset: Path, threads: int, rounds: int, batches: int) -> dict[str, dict[str, list[float]]]:
    """Tiles/s of each round, by case ("plain", "normalised") and loader; ours first."""
    modes = {"plain": "none", "normalised": "normalize"}
    if Dataset(dataset).params["stain"]["mode"] != "fit":
        del modes["normalised"]
    candidates: dict[tuple[str, str], Callable[[], Iterator[Any]]] = {}
    for case, mode in modes.items():
        recipe = load("exaonepath1", [f"batch={BATCH}", f"stain.mode={mode}"])
        candidates[case, "pathtrain"] = partial(ours, dataset, recipe, threads)
        stain = " + torchstain" if mode == "normalize" else ""
        for kind, tensors in (("PIL", False), ("tensors", True)):
            name = f"webdataset + torchvision ({kind}){stain}"
            candidates[case, name] = partial(theirs, dataset, recipe, threads, tensors)
    found: dict[str, dict[str, list[float]]] = {case: {} for case in modes}
    for _ in range(rounds):
        for (case, name), start in candidates.items():
            found[case].setdefault(name, []).append(images_s(start, batches))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("datasets", nargs="*", type=Path)
    parser.add_argument("--threads", type=int, default=2, help="threads, and worker processes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, default=8, help=f"timed per round, of {BATCH} tiles")
    add_json(parser)
    options = parser.parse_args()
    # of the workers, which fill the cores already: torchstain's linear algebra would start threads in each
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for dataset in options.datasets or synthetic(Path(folder)):
            found = measure(dataset, options.threads, options.rounds, options.batches)
            for case, rates in found.items():
                medians = {name: statistics.median(values) for name, values in rates.items()}
                mine, *others = medians.values()
                ratio = mine / max(others)
                print(f"{dataset.name}, {case}: 10 views a tile, {options.threads} threads or workers")
                for name, median in medians.items():
                    print(f"  {name:48s} {median:7.1f} tiles/s")
                print(f"  {'ratio to the faster of the others':48s} {ratio:7.2f}", flush=True)
                about = {"dataset": dataset.name, "stain": case}
                results.append({**about, "tiles_s": rates, "medians": medians, "ratio": ratio})
    about = {"threads": options.threads, "batch": BATCH, "rounds": options.rounds, "batches": options.batches}
    save(options.json, "bench_loader", {**about, "results": results})


if __name__ == "__main__":
    main()
