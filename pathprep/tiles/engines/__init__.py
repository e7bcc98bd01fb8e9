"""Where the steps on pixels run: an engine for the CPU and one for NVIDIA GPUs, with the same members."""

from functools import cache

from pathprep.params.shard import Device
from pathprep.tiles.engines.base import Engine as Engine
from pathprep.tiles.engines.base import Tiles as Tiles
from pathprep.tiles.engines.cpu import CpuEngine


@cache
def of(device: Device) -> Engine:
    """This process's engine for a device; ``cuda`` is the first card that the process sees.

    Nothing of CUDA is imported before ``cuda`` is asked for.
    """
    if device == "cpu":
        return CpuEngine()
    from pathprep.tiles.engines.cuda import Card, CudaEngine

    return CudaEngine(Card())
