"""A training step of the segmentation decoder, against the same layers one after another.

    python bench/bench_decoder.py [--batch 8] [--rounds 3] [--device cpu] [--json [FILE]]

``plain`` enlarges the grid and convolves pixels, as kaiko eva does; ``ours`` convolves the grid (see
pathtrain/evaluate/pixel_level/decoder.py). Forward, loss and backward; rounds in turn, the median. On a CPU
CPU seconds, on a card seconds.
"""

import argparse
import statistics
import time
from typing import Any

import torch
from machine import add_json, describe, save
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from pathtrain.evaluate.pixel_level.decoder import Decoder, dice_loss

CASES = ((224, 16), (224, 14), (392, 14))  # side, patch
DIM, CLASSES = 384, 5


class Plain(Decoder):
    """The decoder as it is published."""

    def forward(self, images: Tensor, tokens: Tensor | None = None) -> Tensor:
        assert tokens is not None
        assert self.tokens is not None
        side = round(tokens.shape[1] ** 0.5)
        grid = self.tokens(tokens.transpose(1, 2).reshape(len(tokens), -1, side, side))
        enlarged = functional.interpolate(grid, images.shape[-2:], mode="bilinear")
        found: Tensor = self.classes(self.image(torch.cat([enlarged, images], dim=1)))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    add_json(parser)
    options = parser.parse_args()
    machine = describe()
    rows: list[dict[str, Any]] = []
    for size, patch in CASES:
        row = measured(size, patch, options.batch, options.rounds, torch.device(options.device))
        rows.append({"size": size, "patch": patch, **row})
        save(options.json, "bench_decoder", {"batch": options.batch, "rounds": options.rounds, "rows": rows})
    table = Table(title=f"Decoder, {machine['cpu']}, {machine['cores']} cores, {machine['date']}")
    for heading in ("px", "patch", "plain, ms an image", "ours", "ratio"):
        table.add_column(heading, justify="right")
    for row in rows:
        times = [f"{1000 * row[name]:.1f}" for name in ("plain", "ours")]
        table.add_row(str(row["size"]), str(row["patch"]), *times, f"{row['plain'] / row['ours']:.2f}")
    Console(width=100).print(table)


def measured(size: int, patch: int, batch: int, rounds: int, device: torch.device) -> dict[str, float]:
    """Seconds an image of each, and the largest difference of their answers."""
    torch.manual_seed(0)
    networks = {"plain": Plain(DIM, CLASSES).to(device), "ours": Decoder(DIM, CLASSES).to(device)}
    networks["ours"].load_state_dict(networks["plain"].state_dict())
    images = torch.randn(batch, 3, size, size, device=device)
    tokens = torch.randn(batch, (size // patch) ** 2, DIM, device=device)
    classes = torch.randint(0, CLASSES, (batch, size, size), dtype=torch.uint8, device=device)
    times: dict[str, list[float]] = {name: [] for name in networks}
    answers = {}
    for number in range(rounds + 1):  # the first warms up
        for name, network in networks.items():
            begun = _now(device)
            answers[name] = network(images, tokens)
            dice_loss(answers[name], classes).backward()
            if number:
                times[name].append((_now(device) - begun) / batch)
    apart = float((answers["plain"] - answers["ours"]).detach().abs().max())
    return {name: statistics.median(each) for name, each in times.items()} | {"apart": apart}


def _now(device: torch.device) -> float:
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    main()
