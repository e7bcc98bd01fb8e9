"""Whether a small network of our own finds tissue better than the threshold finder, on real slides held out.

    python bench/studies/tissue_model.py --data FOLDER [--onnx OUT.onnx] [--json]

A U-Net of 66,000 parameters at 16 um/px is trained on drawn slides, then, once for each fold, on them and
the real slides of the other folds (bench/tissue_masks). Folds are of whole groups: slides of one lab, stain
and picture series are held out together, so that none is known by its neighbours. With --onnx, one that has
seen all slides is written as `pathprep shard --tissue-model` takes it.
"""

import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench_tissue import ours, scores, tiles
from machine import add_json, save
from tissue_cases import Case, drawn, real

MPP, SIDE, BATCH, FOLDS = 16.0, 128, 4, 4
DESCRIPTION = (
    f"mpp: {MPP:g}\nsize: 256\noverlap: 32\nclasses: [background, tissue]\noutput: logits\n"
    "mean: [0.5, 0.5, 0.5]\nsd: [0.25, 0.25, 0.25]\n"
)
Sample = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # picture, truth, where it is counted


class Tiny(nn.Module):
    """Three scales, two convolutions each; logits of tissue, (n, 1, h, w)."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([_pair(3, 12), _pair(12, 24), _pair(24, 48)])
        self.up = nn.ModuleList([_pair(72, 24), _pair(36, 12)])
        self.out = nn.Conv2d(12, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = self.down[0](x)
        second = self.down[1](functional.max_pool2d(first, 2))
        y = self.down[2](functional.max_pool2d(second, 2))
        y = self.up[0](torch.cat([functional.interpolate(y, scale_factor=2.0), second], 1))
        y = self.up[1](torch.cat([functional.interpolate(y, scale_factor=2.0), first], 1))
        return self.out(y)


def _pair(inside: int, outside: int) -> nn.Module:
    layers: list[nn.Module] = []
    for channels in (inside, outside):
        layers += [nn.Conv2d(channels, outside, 3, padding=1), nn.BatchNorm2d(outside), nn.ReLU()]
    return nn.Sequential(*layers)


def sample(case: Case) -> Sample:
    """A case at MPP, at least SIDE a side: what is beyond is not counted."""
    by = max(1.0, MPP / case.mpp)
    size = (max(1, round(case.pixels.shape[1] / by)), max(1, round(case.pixels.shape[0] / by)))
    picture = np.asarray(Image.fromarray(case.pixels).resize(size, Image.Resampling.BOX))

    def plane(mask: np.ndarray) -> np.ndarray:
        return (
            np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) >= 128
        )

    pad = [(0, max(0, SIDE - size[1])), (0, max(0, SIDE - size[0]))]
    picture = np.pad(picture, [*pad, (0, 0)], mode="edge")
    truth, counted = np.pad(plane(case.truth), pad), np.pad(plane(case.counted), pad)
    tensors = (picture.transpose(2, 0, 1).astype(np.float32) / 255, truth.astype(np.float32)[None])
    return torch.from_numpy(tensors[0]), torch.from_numpy(tensors[1]), torch.from_numpy(counted[None])


def batch(samples: list[Sample], weights: np.ndarray, rng: np.random.Generator) -> list[torch.Tensor]:
    """Crops at random, turned, under other lamps and stained more or less."""
    made: list[list[torch.Tensor]] = [[], [], []]
    for number in rng.choice(len(samples), BATCH, p=weights / weights.sum()):
        planes = samples[number]
        top, left = (int(rng.integers(0, n - SIDE + 1)) for n in planes[0].shape[1:])
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        light = torch.from_numpy(rng.uniform(0.78, 1.02, 3).astype(np.float32))[:, None, None]
        for kind, plane in enumerate(planes):
            part = torch.rot90(plane[:, top : top + SIDE, left : left + SIDE], turns, (1, 2))
            part = part.flip(2) if flip else part
            if kind == 0:
                part = (part.clamp_min(1e-3) ** float(rng.uniform(0.6, 1.5)) * light).clamp(0, 1)
                part = (
                    part + 0.006 * torch.from_numpy(rng.standard_normal(part.shape, np.float32)) - 0.5
                ) / 0.25
            made[kind].append(part)
    return [torch.stack(each) for each in made]


def train(
    model: Tiny, samples: list[Sample], weights: np.ndarray, steps: int, rate: float, seed: int
) -> None:
    """AdamW with a cosine, cross entropy and Dice over what is counted."""
    rng, model = np.random.default_rng(seed), model.train()
    optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for _ in range(steps):
        pictures, truth, counted = batch(samples, weights, rng)
        logits = model(pictures)
        wrong = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        found, there = logits.sigmoid()[counted], truth[counted]
        dice = 1 - 2 * (found * there).sum() / (found.sum() + there.sum() + 1)
        loss = wrong[counted].mean() + 0.5 * dice
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


@torch.no_grad()
def predicted(model: Tiny, case: Case) -> np.ndarray:
    """(h, w) bool of a case."""
    picture, *_ = sample(case)
    by = max(1.0, MPP / case.mpp)
    height, width = (max(1, round(n / by)) for n in case.truth.shape)
    down, across = (-n % 4 for n in picture.shape[1:])
    padded = functional.pad((picture - 0.5) / 0.25, (0, across, 0, down), mode="replicate")
    found = model(padded[None])[0, 0, :height, :width].numpy() > 0
    size = (case.truth.shape[1], case.truth.shape[0])
    return np.asarray(Image.fromarray(found.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)) > 0


def figures(mask: np.ndarray, case: Case) -> dict[str, float]:
    """IoU of pixels and of tiles."""
    seen, truth = mask & case.counted, case.truth & case.counted
    return {
        "iou": round(float(scores(seen, truth)[0]), 4),
        "tile_iou": round(float(scores(tiles(seen, case), tiles(truth, case))[0]), 4),
    }


def main() -> None:
    """Train, compare, say which is better."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--steps", type=int, default=200, help="on drawn slides; half of it more for each fold"
    )
    parser.add_argument("--onnx", type=Path, help="write one that has seen all slides")
    add_json(parser)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    start = time.process_time()
    drawings, slides = list(drawn(101)), list(real(arguments.data))
    print(f"{len(drawings)} drawn, {len(slides)} real; {time.process_time() - start:.0f} CPU s", flush=True)
    groups = list(dict.fromkeys(case.group for case in slides))
    fold_of = {group: number % FOLDS for number, group in enumerate(groups)}
    samples = [sample(case) for case in drawings]
    start_model, finder = Tiny(), ours("stained")
    train(start_model, samples, np.ones(len(samples)), arguments.steps, 3e-3, 0)
    print(f"drawn: {time.process_time() - start:.0f} CPU s", flush=True)
    found: dict[str, Any] = {}

    def tuned(held: set[str]) -> Tiny:
        known = [case for case in slides if case.group not in held]
        sizes = {g: sum(case.group == g for case in known) for g in groups}
        both = [*samples, *(sample(case) for case in known)]
        shares = [0.4 / len(samples)] * len(samples)
        kinds = len({case.group for case in known})
        shares += [0.6 / kinds / sizes[case.group] for case in known]
        model = Tiny()
        model.load_state_dict(start_model.state_dict())
        train(model, both, np.array(shares), arguments.steps // 2, 2e-3, 1)
        return model

    for fold in range(FOLDS):
        held = {group for group in groups if fold_of[group] == fold}
        model = tuned(held)
        for case in (case for case in slides if case.group in held):
            found[case.name] = {
                "fold": fold,
                "network": figures(predicted(model, case), case),
                "drawn alone": figures(predicted(start_model, case), case),
                "finder": figures(finder(case.pixels, case.mpp), case),
            }
        print(f"fold {fold}: {sorted(held)}; {time.process_time() - start:.0f} CPU s", flush=True)
    names = ("network", "drawn alone", "finder")
    means = {
        name: {
            key: round(float(np.mean([each[name][key] for each in found.values()])), 4)
            for key in ("iou", "tile_iou")
        }
        for name in names
    }
    parameters = sum(each.numel() for each in start_model.parameters())
    seconds = round(time.process_time() - start)
    results = {"parameters": parameters, "cpu_seconds": seconds, "means": means, "slides": found}
    save(arguments.json, "tissue-model-study", results)
    print(
        f"{parameters:,} parameters, {seconds} CPU s\n\n| held out | network | drawn alone | finder |\n| --- "
        + "| --- " * 3
        + "|"
    )
    for name, each in found.items():
        print(f"| {name} | " + " | ".join(f"{each[kind]['tile_iou']:.2f}" for kind in names) + " |")
    print("| mean tile IoU | " + " | ".join(f"{means[kind]['tile_iou']:.3f}" for kind in names) + " |")
    print("| mean pixel IoU | " + " | ".join(f"{means[kind]['iou']:.3f}" for kind in names) + " |")
    if arguments.onnx is not None:
        export(tuned(set()), arguments.onnx)


def export(model: Tiny, path: Path) -> None:
    """Write a model and its description."""
    side = torch.zeros(1, 3, 256, 256)
    torch.onnx.export(model, (side,), str(path), input_names=["rgb"], output_names=["logits"], dynamo=False)
    path.with_suffix(".yaml").write_text(DESCRIPTION)


if __name__ == "__main__":
    main()
