"""Training a decoder on kept tokens, as kaiko eva does.

AdamW, an lr that falls by (1 - epoch / steps)^.9: eva gives the number of steps to a schedule that is stepped
once an epoch, so it hardly falls. The order is a new permutation an epoch, whose last batch is smaller; there
is no augmentation. eva keeps the best epoch on what it calls validation, which are the test images of CoNSeP
and MoNuSAC; here that is ``select`` test, and not the default.
"""

import copy
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pathtrain.errors import TrainError
from pathtrain.evaluate.pixel_level.decoder import Decoder, dice_loss
from pathtrain.evaluate.pixel_level.tokens import Tokens
from pathtrain.evaluate.pixel_level.windows import Ints, Windows
from pathtrain.params.segmentation import DecoderParams
from pathtrain.runs.model import LoadedModel

log = logging.getLogger(__name__)
POWER = 0.9
MEASURED = 3  # steps after which the time that is left is estimated; the first is slower
FIRST = 1


@dataclass(frozen=True)
class Batches:
    """Windows and their tokens, as batches on a device.

    Attributes:
        windows: N. tokens: (N, P, D); None without. model: whose normalisation images have.
    """

    windows: Windows
    tokens: Tokens | None
    model: LoadedModel
    device: torch.device

    def take(self, rows: Ints) -> tuple[Tensor, Tensor | None]:
        """Images (B, 3, S, S), normalised, and tokens (B, P, D)."""
        pixels = torch.from_numpy(self.windows.pixels[rows]).to(self.device)
        images = self.model.normalised(
            pixels.permute(0, 3, 1, 2).float() / 255, self.model.channels(self.device)
        )
        if self.tokens is None:
            return images, None
        return images, torch.from_numpy(self.tokens[rows]).to(self.device).float()

    def classes(self, rows: Ints) -> Tensor:
        """(B, S, S) class numbers."""
        return torch.from_numpy(self.windows.classes[rows]).to(self.device)


def train_decoder(
    batches: Batches,
    classes: int,
    params: DecoderParams,
    seed: int,
    monitor: Callable[[Decoder], float] | None = None,
    told: Callable[[int, float], None] = lambda step, seconds: None,
) -> tuple[Decoder, int]:
    """A decoder, and the step whose weights it has.

    Args:
        batches: of the training windows.
        classes: C, with the background.
        seed: of first weights and order.
        monitor: scores a decoder after each epoch, the best is returned; None: the last.
        told: is given the step and the seconds that one takes.

    Raises:
        TrainError: the loss is not finite.
    """
    device = batches.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        decoder = Decoder(None if batches.tokens is None else batches.tokens.shape[2], classes)
    decoder.to(device)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=params.lr, weight_decay=params.weight_decay)
    best, best_score, best_step = None, -np.inf, params.steps
    begun = time.perf_counter()
    for step, (epoch, rows, ends) in enumerate(_order(batches.windows, params, seed), start=1):
        optimizer.param_groups[0]["lr"] = params.lr * (1 - epoch / params.steps) ** POWER
        decoder.train()
        images, tokens = batches.take(rows)
        loss = dice_loss(decoder(images, tokens), batches.classes(rows))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step == FIRST:
            begun = time.perf_counter()
        elif step >= MEASURED:
            told(step, (time.perf_counter() - begun) / (step - FIRST))
        if (ends or step == params.steps) and not bool(torch.isfinite(loss)):
            raise TrainError(f"the decoder's loss is not finite after {step} steps; lower `lr`")
        if monitor is not None and (ends or step == params.steps):
            score = monitor(decoder)
            if score > best_score:
                best, best_score, best_step = copy.deepcopy(decoder.state_dict()), score, step
    if best is not None:
        decoder.load_state_dict(best)
    return decoder.eval(), best_step


def _order(windows: Windows, params: DecoderParams, seed: int) -> Iterator[tuple[int, Ints, bool]]:
    """Epoch, rows, and whether the epoch ends, of each step; of random crops one of each image an epoch."""
    rng = np.random.default_rng(seed)
    starts = np.flatnonzero(np.diff(windows.image, prepend=-1))
    counts = np.diff(starts, append=len(windows))
    step = epoch = 0
    while True:
        rows = starts + rng.integers(counts) if windows.drawn else np.arange(len(windows))
        rows = rng.permutation(rows)
        for start in range(0, len(rows), params.batch):
            step += 1
            yield epoch, rows[start : start + params.batch], start + params.batch >= len(rows)
            if step == params.steps:
                return
        epoch += 1


@torch.inference_mode()
def logits_of(decoder: Decoder, batches: Batches, rows: Ints, batch: int) -> Iterator[tuple[Ints, Tensor]]:
    """Rows (B) and logits (B, C, S, S), in eval mode, a batch at a time."""
    decoder.eval()
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        yield part, decoder(*batches.take(part))
