"""DINO views per second: this project's loader against webdataset + torchvision + DataLoader.

Both read the same tiles and make the same ten views of each (2 of 224 px, 8 of 96 px; crop, flip, colour
jitter, greyscale, blur, solarise, normalise) with as many threads or worker processes. The other side is
written as its documentation suggests, twice: on PIL images, and on uint8 tensors, which torchvision says
is faster; the ratio is against the faster. Rounds are interleaved, and each round starts a loader, takes
more batches than it can have prepared ahead, and times the next ones.

Ours runs from indexed shards and from mixed ones (`pathprep mix`), with tiles as they are, normalised by
their stored fits (on a dataset made with `pathprep shard --stain fit`), and normalised by fits made on
loading; the other side, as is usual, with torchstain's numpy normaliser in the workers, which fits each tile
each time it is read. With --gpu ours decodes and works on the GPU; the other side stays on the CPU.

    python bench/bench_loader.py [DATASET ...] [--gpu] [--json [FILE]]

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

import pathprep
from pathprep.dataset.reader import Dataset
from pathprep.mixed.make import mix
from pathtrain.data import view_params
from pathtrain.data.loader import BatchOptions, Loader
from pathtrain.distributed.ranks import Ranks
from pathtrain.recipes.load import load
from pathtrain.recipes.recipe import Recipe

OURS = "pathtrain"
WARM = 5  # batches; DataLoader prepares 2 per worker ahead, ours 2


# stain -> the recipe's settings
STAINS = {
    "none": ["stain.mode=none", "stain.expect=any"],
    "stored fit": ["stain.mode=normalize"],
    "fit on loading": ["stain.mode=normalize", "stain.fit=load"],
}


def ours(folder: Path, recipe: Recipe, threads: int, device_id: int | None) -> Iterator[Any]:
    device = torch.device("cpu") if device_id is None else torch.device("cuda", device_id)
    loader = Loader(
        pathprep.open(folder), BatchOptions.of(recipe), ranks=Ranks(device=device), threads=threads
    )
    try:
        for batch in loader:
            if device_id is not None:  # what has been queued is not yet done
                torch.cuda.synchronize(device_id)
            yield batch
    finally:
        loader.close()


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
        self.transforms = [self._transform(recipe, view) for view in view_params.views(recipe.views)]

    def _transform(self, recipe: Recipe, view: view_params.View) -> v2.Compose:
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
        tiles, batch_size=recipe.batch, num_workers=threads, multiprocessing_context="spawn"
    )
    return iter(spawned)


def images_s(start: Callable[[], Iterator[Any]], batches: int, size: int) -> float:
    """Steady throughput of one freshly started loader."""
    running = start()
    for _ in range(WARM):
        next(running)
    since = time.perf_counter()
    for _ in range(batches):
        next(running)
    seconds = time.perf_counter() - since
    if hasattr(running, "close"):
        running.close()
    return size * batches / seconds


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


def measure(
    dataset: Path, shuffled: Path, options: argparse.Namespace
) -> tuple[dict[str, dict[str, list[float]]], dict[str, str]]:
    """Tiles/s of each round by stain and loader, and for each of ours with a stain the one that is compared.

    Args:
        shuffled: the dataset's mixed shards.
    """
    stains = dict(STAINS)
    if Dataset(dataset).params["stain"]["mode"] != "fit":
        del stains["stored fit"]
    device_id = 0 if options.gpu else None
    candidates: dict[tuple[str, str], Callable[[], Iterator[Any]]] = {}
    for stain, settings in stains.items():
        recipe = load("exaonepath1", [f"batch={options.batch}", *settings])
        for name, folder in (("indexed shards", dataset), ("mixed shards", shuffled)):
            candidates[stain, f"{OURS}, {name}"] = partial(ours, folder, recipe, options.threads, device_id)
        if stain == "stored fit":
            continue  # the other side has none: it is compared with that of fits on loading
        usual = " + torchstain" if stain != "none" else ""
        for kind, tensors in (("PIL", False), ("tensors", True)):
            name = f"webdataset + torchvision ({kind}){usual}"
            candidates[stain, name] = partial(theirs, dataset, recipe, options.threads, tensors)
    found: dict[str, dict[str, list[float]]] = {stain: {} for stain in stains}
    for _ in range(options.rounds):
        for (stain, name), start in candidates.items():
            rate = images_s(start, options.batches, options.batch)
            found[stain].setdefault(name, []).append(rate)
    return found, {stain: "none" if stain == "none" else "fit on loading" for stain in stains}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("datasets", nargs="*", type=Path)
    parser.add_argument("--threads", type=int, default=2, help="threads, and worker processes")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32, help="tiles")
    parser.add_argument("--batches", type=int, default=8, help="timed per round")
    parser.add_argument("--gpu", action="store_true", help="ours on the GPU")
    add_json(parser)
    options = parser.parse_args()
    # of the workers, which fill the cores already: torchstain's linear algebra would start threads in each
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for number, dataset in enumerate(options.datasets or synthetic(Path(folder))):
            shuffled = Path(folder) / f"mixed-{number}"
            mix([dataset], shuffled)
            found, compared = measure(dataset, shuffled, options)
            medians = {
                stain: {name: statistics.median(values) for name, values in rates.items()}
                for stain, rates in found.items()
            }
            for stain, rates in medians.items():
                others = medians[compared[stain]].items()
                fastest = max(rate for name, rate in others if not name.startswith(OURS))
                ratios = {name: rate / fastest for name, rate in rates.items() if name.startswith(OURS)}
                print(f"{dataset.name}, stain {stain}: 10 views a tile, {options.threads} threads or workers")
                for name, rate in rates.items():
                    ratio = f"{ratios[name]:6.2f} x the faster of the others" if name in ratios else ""
                    print(f"  {name:48s} {rate:8.1f} tiles/s {ratio}", flush=True)
                about = {"dataset": dataset.name, "stain": stain, "compared_with": compared[stain]}
                results.append({**about, "tiles_s": found[stain], "medians": rates, "ratios": ratios})
    names = ("threads", "batch", "rounds", "batches", "gpu")
    about = {name: getattr(options, name) for name in names}
    save(options.json, "bench_loader", {**about, "results": results})


if __name__ == "__main__":
    main()
