"""Figures of a decoder's classes, image by image, as sums and counts of each group.

dice        as published (kaiko eva, MONAI's DiceMetric): of a window at the size that the network sees,
            the mean over the classes that it holds, without background; then the mean over windows.
            Pixels to be ignored count as background
dice_image  of an image in its own pixels, windows put together, each class that it holds; the mean over
            images of each class, then over classes. Pixels to be ignored count nowhere, nor below
iou         of all pixels of the test set together, the mean over classes
objects     see pathtrain.evaluate.pixel_level.objects
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pathtrain.data.segmented.truth import IGNORED, Classes, Truth
from pathtrain.evaluate.pixel_level import objects
from pathtrain.evaluate.pixel_level.decoder import Decoder
from pathtrain.evaluate.pixel_level.objects import Doubles
from pathtrain.evaluate.pixel_level.training import Batches, logits_of
from pathtrain.evaluate.pixel_level.windows import Box
from pathtrain.evaluate.units import Units
from pathtrain.params.segmentation import ObjectParams

Sums = dict[str, tuple[Doubles, Doubles]]
OF_TISSUES = ("pq", "bpq")  # whose columns are tissues, where these are told
OF_OBJECTS = ("pq", "bpq", "dq", "sq", "aji", "f1", "f1_iou")


def window_dice(guess: Classes, true: Classes, classes: int) -> float:
    """The published Dice of a window; NaN if it holds no class.

    Args:
        guess, true: (S, S). classes: C, with the background.
    """
    every = np.arange(1, classes)
    sizes = np.bincount(true.ravel(), minlength=256)[every]
    guessed = np.bincount(guess.ravel(), minlength=256)[every]
    both = np.bincount(true[guess == true].ravel(), minlength=256)[every]
    held = sizes > 0
    return float((2 * both[held] / (sizes + guessed)[held]).mean()) if held.any() else float("nan")


@torch.inference_mode()
def published_dice(decoder: Decoder, batches: Batches, classes: int, batch: int) -> float:
    """The mean of ``window_dice`` over windows that hold a class: what eva picks an epoch by."""
    values = []
    for rows, logits in logits_of(decoder, batches, np.arange(len(batches.windows)), batch):
        guess = logits.argmax(dim=1).to(torch.uint8).cpu().numpy()
        values += [
            window_dice(each, batches.windows.classes[row], classes)
            for each, row in zip(guess, rows, strict=True)
        ]
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0


@dataclass(frozen=True)
class Guess:
    """A decoder's classes of an image.

    Attributes:
        area: the part of the image that windows cover. classes: (H, W) of it. dice: of the windows.
    """

    area: Box
    classes: Classes
    dice: list[float]


def guess_of(decoder: Decoder, batches: Batches, number: int, classes: int, batch: int) -> Guess:
    """What a decoder says of an image: shares of its windows, resized to the image's pixels and averaged."""
    windows = batches.windows
    rows = np.flatnonzero(windows.image == number)
    area = windows.area(number)
    shares = np.zeros((classes, area.height, area.width), np.float32)
    dice = []
    for part, logits in logits_of(decoder, batches, rows, batch):
        guess = logits.argmax(dim=1).to(torch.uint8).cpu().numpy()
        for place, row in enumerate(part):
            dice.append(window_dice(guess[place], windows.classes[row], classes))
            box = windows.boxes[row]
            top, left = box.top - area.top, box.left - area.left
            # windows that overlap are added: the highest share of the sum is that of the mean
            shares[:, top : top + box.height, left : left + box.width] += _resized(logits[place], box)
    return Guess(area, shares.argmax(axis=0).astype(np.uint8), dice)


def _resized(logits: Tensor, box: Box) -> Doubles:
    shares = logits.float().softmax(dim=0)[None]
    if shares.shape[-2:] != (box.height, box.width):
        shares = functional.interpolate(shares, (box.height, box.width), mode="bilinear")
    found: Doubles = shares[0].cpu().numpy()
    return found


def image_sums(guess: Guess, whole: Truth, classes: int, params: ObjectParams, with_objects: bool) -> Sums:
    """Sums and counts of every figure of an image."""
    truth = whole.part(*guess.area)
    counts = truth.classes != IGNORED
    true, said = truth.classes[counts], guess.classes[counts]
    every = np.arange(1, classes)
    sizes, guessed, both = (
        np.bincount(values, minlength=classes)[every].astype(np.float64)
        for values in (true, said, true[true == said])
    )
    held = (sizes > 0).astype(np.float64)
    windows = np.array(guess.dice)
    known = np.isfinite(windows)
    found: Sums = {
        "dice": (np.array([windows[known].sum()]), np.array([float(known.sum())])),
        "dice_image": (np.divide(2 * both, sizes + guessed, out=np.zeros_like(both), where=held > 0), held),
        "iou": (both, sizes + guessed - both),
    }
    if with_objects and truth.instances is not None:
        seen = np.where(counts, guess.classes, 0).astype(np.uint8)
        own = objects.classed(np.where(counts, truth.instances, 0).astype(np.int32), truth.classes)
        found |= objects.compare(own, objects.found(seen, params), classes, params)
    return found


def as_units(images: Sequence[Sums], groups: Sequence[str], kinds: Sequence[str]) -> dict[str, Units]:
    """Images' sums and counts added up by group.

    Args:
        groups, kinds: of each image: its group, and its tissue or "".
    """
    names, group = np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)
    tissues, tissue = np.unique(np.array(kinds, dtype=object).astype(str), return_inverse=True)
    found = {}
    for key in images[0]:
        sums, counts = (np.array([image[key][side] for image in images]) for side in (0, 1))
        if key in OF_TISSUES and len(tissues) > 1:
            placed = np.zeros((2, len(images), len(tissues)))
            placed[:, np.arange(len(images)), tissue] = sums[:, 0], counts[:, 0]
            sums, counts = placed
        total = np.zeros((2, len(names), sums.shape[1]))
        np.add.at(total[0], group, sums)
        np.add.at(total[1], group, counts)
        found[key] = Units(tuple(names.tolist()), total[0], total[1])
    return found


def together(several: Sequence[dict[str, Units]]) -> dict[str, Units]:
    """The mean of several decoders' sums, of seeds and of random networks."""
    first = several[0]
    return {
        key: Units(
            units.groups,
            np.mean([each[key].sums for each in several], axis=0),
            np.mean([each[key].counts for each in several], axis=0),
        )
        for key, units in first.items()
    }
