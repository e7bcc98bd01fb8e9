"""Embedding: tiles of a dataset to features, against the script that one would otherwise write.

`pathtrain embed`'s function on a dataset folder, JPEG to feature, in float32 (on a card with TF32) and in
bfloat16. The other side is torch's DataLoader with worker processes that decode with Pillow and resize,
pinned memory, and the same network in the same precision, as published code has it. "decoding alone" is ours
without a network, "network alone" the network on images that lie on the device: the slower of them is what
`embed` can do. Random weights: it is speed that is measured.

    python bench/bench_embed.py [DATASET] [--model vit_base_patch16_224] [--json [FILE]]

Without a dataset one is drawn: 256 px tiles of a slide.
"""

import argparse
import io
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from bench_train import synthetic
from machine import add_json, interleave, saved
from PIL import Image
from torch import Tensor, nn

from pathtrain.data.tile_batches import batches
from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles, open_tiles
from pathtrain.distributed.workers import cores
from pathtrain.features.encode import encode, tensor_cores
from pathtrain.params.encoding import How
from pathtrain.recipes.model import ModelConfig
from pathtrain.runs.model import LoadedModel
from pathtrain.runs.variants import untrained

CARD = torch.cuda.is_available()
PRECISIONS = ("float32", "bfloat16")


def network(name: str, size: int) -> LoadedModel:
    """A model of random weights, on the CPU."""
    config = ModelConfig(name=name, kwargs={"img_size": size}, init="random")
    blank = LoadedModel(nn.Identity(), config, size, patch=16, name="bench", fingerprint="")
    return untrained(blank)


class Jpegs(torch.utils.data.Dataset[Tensor]):
    """What a script reads: an image of each tile, decoded with Pillow and resized."""

    def __init__(self, dataset: Path, order: npt.NDArray[np.int64], size: int) -> None:
        self.dataset, self.order, self.size = dataset, order, size
        self.tiles: DatasetTiles | None = None  # each worker opens its own

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, number: int) -> Tensor:
        if self.tiles is None:
            self.tiles = DatasetTiles(self.dataset)
        image = Image.open(io.BytesIO(self.tiles.read(int(self.order[number])))).convert("RGB")
        return torch.from_numpy(np.array(image.resize((self.size, self.size), Image.Resampling.BICUBIC)))


class Peer:
    """The script's loop; its workers live as long as it does."""

    def __init__(self, dataset: Path, model: LoadedModel, order: npt.NDArray[np.int64], how: How) -> None:
        self.model, self.how = model, how
        self.loader = torch.utils.data.DataLoader(
            Jpegs(dataset, order, model.size),
            batch_size=how.batch,
            num_workers=len(os.sched_getaffinity(0)),
            multiprocessing_context="spawn",
            persistent_workers=True,
            pin_memory=CARD,
        )

    def __call__(self) -> None:
        found, device = [], self.model.device
        with (
            torch.inference_mode(),
            tensor_cores(device),
            torch.autocast(device.type, torch.bfloat16, enabled=self.how.precision == "bfloat16"),
        ):
            for pixels in self.loader:
                images = pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
                found.append(self.model.module(self.model.normalised(images)).float().cpu())
        torch.cat(found)


def alone(model: LoadedModel, how: How, tiles: int) -> Callable[[], None]:
    """The network on images that are ready."""
    device = model.device
    images = torch.randn(how.batch, 3, model.size, model.size, device=device)

    @torch.inference_mode()
    def run() -> None:
        reduced = how.precision == "bfloat16"
        with tensor_cores(device), torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            for _ in range(-(-tiles // how.batch)):
                model.module(images)
        if CARD:
            torch.cuda.synchronize()

    return run


def decoded(tiles: DatasetTiles | FolderTiles, order: npt.NDArray[np.int64], size: int, batch: int) -> None:
    """What `embed` does before its network."""
    for _ in batches(tiles, order, size=size, batch=batch, threads=cores(), pinned=CARD):
        pass


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("dataset", nargs="?", type=Path)
    parser.add_argument("--model", default="vit_base_patch16_224" if CARD else "vit_tiny_patch16_224")
    parser.add_argument("--size", type=int, default=224 if CARD else 64, help="of the network's images")
    parser.add_argument("--tiles", type=int, default=10_000 if CARD else 128, help="a round and case")
    parser.add_argument("--batch", type=int, default=256 if CARD else 64)
    parser.add_argument("--rounds", type=int, default=2)
    add_json(parser)
    options = parser.parse_args()
    results: dict[str, Any] = {k: v for k, v in vars(options).items() if k not in ("json", "dataset")}
    results |= {"device": torch.cuda.get_device_name() if CARD else "cpu", "medians": {}}
    with saved(options.json, "bench_embed", results), tempfile.TemporaryDirectory() as folder:
        dataset = options.dataset or synthetic(Path(folder))
        tiles = open_tiles(dataset)
        order = np.resize(np.arange(len(tiles)), options.tiles)
        model = network(options.model, options.size)
        model.to("cuda" if CARD else "cpu")
        for precision in PRECISIONS:
            how = How(batch=options.batch, precision=precision)  # type: ignore[arg-type]
            cases: dict[str, Callable[[], object]] = {
                "pathtrain embed": partial(encode, [model], tiles, order, how),
                "DataLoader, Pillow": Peer(dataset, model, order, how),
                "decoding alone": partial(decoded, tiles, order, model.size, how.batch),
                "network alone": alone(model, how, options.tiles),
            }
            interleave(cases, 1)
            seconds = interleave(cases, options.rounds)
            medians = {case: options.tiles / statistics.median(taken) for case, taken in seconds.items()}
            results["medians"][precision] = medians
            print(f"{options.model}, {options.size} px, {precision}, {results['device']}")
            for case, rate in medians.items():
                print(f"  {case:20s} {rate:9.1f} tiles/s  {rate / medians['DataLoader, Pillow']:5.2f} x")


if __name__ == "__main__":
    main()
