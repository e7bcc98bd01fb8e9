"""Whether networks are compiled (torch.compile)."""

from typing import Literal

import torch

TRITON = (7, 0)  # compute capability that the compiler's language for cards begins with


def wanted(setting: Literal["auto"] | bool, device: torch.device) -> bool:
    """The recipe's ``compile`` on a device; ``auto``: on cards that torch's compiler writes for."""
    if setting != "auto":
        return setting
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= TRITON
