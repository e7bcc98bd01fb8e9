"""Model FLOP utilisation: how much of a card's arithmetic a training step uses.

MFU = operations that the step's formula needs / (seconds x peak of the card), as PaLM (Chowdhery et al.
2022, appendix B) defines it: what activation checkpointing computes twice counts once. Peaks are the
vendors' dense bfloat16 figures, so there is no MFU of a float32 run or on a device that is not listed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pathtrain.distributed.ranks import Ranks
from pathtrain.methods.base import Method

# Dense bfloat16 FLOP/s by what torch calls the device; the first that is part of the name
PEAKS = {
    "GB200": 2.5e15,
    "B200": 2.25e15,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "GH200": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H100": 989e12,
    "H800": 989e12,
    "H20": 148e12,
    "A100": 312e12,
    "A800": 312e12,
    "A40": 149.7e12,
    "A30": 165e12,
    "A10G": 70e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 4090": 165.2e12,
    "RTX 3090": 71e12,
    "MI300X": 1307e12,
}


def peak(device: torch.device, precision: str) -> float | None:
    """FLOP/s that the device could do; None where that is not known."""
    if device.type != "cuda" or precision != "bfloat16":
        return None
    return peak_of(torch.cuda.get_device_name(device))


def peak_of(name: str) -> float | None:
    """Dense bfloat16 FLOP/s of a device by its name."""
    words = name.replace("-", " ").split()
    for card, flops in PEAKS.items():
        parts = card.split()
        if any(words[i : i + len(parts)] == parts for i in range(len(words))):
            return flops
    return None


def count(method: Method, part: Any, precision: str, device: torch.device, step: int = 0) -> int:
    """Operations of one forward and backward pass; gradients are left behind, for ``zero_grad``.

    All ranks must call it where the networks are sharded. A multiplication and an addition are two.

    Args:
        part: what ``Method.split`` gives.
    """
    alone = Ranks(device=device)
    with (
        _keeping_activations(method),
        torch.compiler.set_stance("force_eager"),
        FlopCounterMode(display=False) as counter,
    ):
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            (part,) = method.prepare([part], step, alone)
            loss = method.loss(part, step).loss
        loss.backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


@contextmanager
def _keeping_activations(method: Method) -> Iterator[None]:
    """Without activation checkpointing."""
    found: list[nn.Module] = [
        module
        for network in method.networks()
        for module in network.modules()
        if getattr(module, "grad_checkpointing", False) is True
    ]
    for module in found:
        module.grad_checkpointing = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in found:
            module.grad_checkpointing = True  # type: ignore[assignment]
