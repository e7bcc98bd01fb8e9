"""Whether networks are compiled (torch.compile)."""

import logging
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Literal

import torch

log = logging.getLogger(__name__)

TRITON = (7, 0)  # compute capability that the compiler's language for cards begins with


def wanted(setting: Literal["auto"] | bool, device: torch.device) -> bool:
    """The recipe's ``compile`` on a device; ``auto``: on cards that torch's compiler writes for, if it has
    what it needs; what it has not is logged."""
    if setting != "auto":
        return setting
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < TRITON:
        return False
    lacking = _lacking()
    if lacking:
        log.warning("networks are not compiled, steps take longer: there is no %s", lacking)
    return not lacking


def _lacking() -> str:
    """What is not there of what Triton builds its launcher with (triton/runtime/build.py)."""
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        return "C compiler"
    header = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h")
    return "" if header.exists() else f"{header}, which comes with Python's headers"
