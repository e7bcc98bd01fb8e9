"""Tiles straight from slides as others draw them: wsistream, with the sampler and the filter that its page on
Midnight suggests, and its Otsu detector of tissue.

Neither it nor opencv, which its detector and filter need beside it, is an entry of the extra `test`: it is
compared here alone. Classes, so that a DataLoader's workers receive them.
"""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image

WSISTREAM = "pip install 'wsistream[openslide]' opencv-python-headless"


def is_there() -> bool:
    """Whether wsistream can be compared."""
    return find_spec("wsistream") is not None and find_spec("cv2") is not None


class Wsistream(torch.utils.data.IterableDataset[Any]):
    """Tiles of 256 px at some MPPs with Midnight's rules, and their views.

    Args:
        slides: files. mpps: micrometres per pixel, drawn alike. hsv: share of pixels in Midnight's HSV box.
        views: called with a PIL image; None gives the tiles themselves.
    """

    def __init__(self, slides: list[Path], mpps: list[float], hsv: float, views: Any = None) -> None:
        self.slides, self.mpps, self.hsv, self.views = [str(path) for path in slides], mpps, hsv, views

    def __iter__(self) -> Iterator[Any]:
        from wsistream.backends import OpenSlideBackend
        from wsistream.filters import HSVPatchFilter
        from wsistream.pipeline import PatchPipeline
        from wsistream.sampling import MultiMagnificationSampler
        from wsistream.tissue import OtsuTissueDetector

        worker = torch.utils.data.get_worker_info()
        number, of = (0, 1) if worker is None else (worker.id, worker.num_workers)
        pipeline = PatchPipeline(
            slide_paths=self.slides[number::of],
            backend=OpenSlideBackend(),
            tissue_detector=OtsuTissueDetector(),
            sampler=MultiMagnificationSampler(target_mpps=self.mpps, patch_size=256, tissue_threshold=0.4),
            patch_filter=HSVPatchFilter(min_pixel_fraction=self.hsv) if self.hsv else None,
            pool_size=8,
            patches_per_slide=100,
            cycle=True,
            seed=number,
        )
        for found in pipeline:
            yield found.image if self.views is None else self.views(Image.fromarray(found.image))
