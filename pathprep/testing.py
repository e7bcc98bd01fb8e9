"""Slides and datasets small enough for tests, for those who build on pathprep.

    root = small_dataset(tmp_path)                      # drawn and sharded in seconds
    dataset = pathprep.open(root)

What is drawn depends on the arguments alone: equal arguments give equal bytes.
"""

from pathlib import Path

from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainMode, StainParams
from pathprep.sharding import run
from pathprep.slides import find
from pathprep.synth.archive import MIN_SIZE, synthesize


def small_slides(folder: Path, slides: int = 2, *, size: int = 2 * MIN_SIZE, seed: int = 0) -> list[Path]:
    """Draw slides that look like H&E (pathprep.synth): tiled JPEG pyramids at 0.5 MPP, with their truth.

    Args:
        folder: made if absent.
        slides: how many.
        size: side in level-0 pixels, at least 512.
        seed: of the drawing; each slide has a scene and a stain of its own.

    Returns:
        Their files, ``synth-000.tif`` and so on.
    """
    return synthesize(folder, slides, size, seed)


def small_dataset(
    folder: Path,
    slides: int = 2,
    *,
    size: int = 2 * MIN_SIZE,
    tile: int = 64,
    stain: StainMode = "fit",
    seed: int = 0,
) -> Path:
    """Draw slides and shard them, as `pathprep shard` does.

    Args:
        folder: gets ``slides/`` and ``dataset/``; made if absent.
        slides: how many; named ``synth-000`` and so on.
        size: side of a slide in level-0 pixels, at least 512.
        tile: side of a tile in pixels, at 0.5 MPP.
        stain: what is stored: plain tiles with their fits, normalised ones (``bake``), or plain ones
            (``none``).
        seed: of the drawing.

    Returns:
        The dataset's folder.
    """
    small_slides(folder / "slides", slides, size=size, seed=seed)
    params = ShardParams(tile=tile, region=16 * tile, stain=StainParams(stain))
    run.shard(find.find([folder / "slides"]), folder / "dataset", params, workers=1)
    return folder / "dataset"
