"""One of everything that the project writes, made by its own commands, small."""

import os
import shutil
from pathlib import Path

import numpy as np
from helpers.tilesets import folders, tile

import pathprep
import pathtrain
from pathprep.dataset import index_cache
from pathprep.dataset.reader import Dataset
from pathprep.mixed.make import MixSummary
from pathprep.params.quality import QcParams
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.params.tile_set import TileParams
from pathprep.sharding import run as sharding
from pathprep.slides import find
from pathprep.stain import Target
from pathprep.synth.archive import MIN_SIZE
from pathprep.testing import small_slides
from pathprep.tilesets import find as set_find
from pathprep.tilesets import run as importing
from pathtrain.testing import small_run

# Columns that the loader maps, and the tables of regions
MAPPED = ("x", "y", "region", "offset", "length", "stored", "crc32", "he", "max_c", "stain_status")
PER_SHARD = 20  # tiles of a mixed shard
OLD_S = 3600.0


def make(root: Path) -> Path:
    """Fill a folder with one of everything; its subfolders are what can be damaged apart from the others.

    Returns:
        The folder itself.
    """
    small_slides(root / "slides", 2, size=MIN_SIZE)
    (root / "slides" / "broken.tif").write_bytes(b"no slide")
    params = ShardParams(tile=64, region=256, qc=QcParams(min_focus=60.0), stain=StainParams("fit"))
    sharding.shard(find.find([root / "slides"]), root / "dataset", params, workers=1)
    _settle(root / "dataset")
    shutil.copytree(root / "dataset", root / "mapped")
    map_index(root / "mapped")
    _imported(root)
    pathprep.mix([root / "dataset"], root / "mixed", tiles_per_shard=PER_SHARD)
    pathprep.mix([root / "imported"], root / "mixed-labels", tiles_per_shard=PER_SHARD)
    _half_a_mix(root)
    goal = Target(np.array([[0.6, 0.1], [0.7, 0.9], [0.3, 0.3]]), np.array([1.5, 1.1]), "other")
    (root / "target").mkdir()
    goal.save(root / "target" / "target.json")
    _trained(root)
    return root


def _imported(root: Path) -> None:
    """Labelled tiles, one of which is no image."""
    names = [f"{label}/{number}.png" for label in ("grade one", "grade two") for number in range(6)]
    folders(root / "tiles", {name: tile(number) for number, name in enumerate(names)})
    (root / "tiles" / "grade one" / "7.png").write_bytes(b"no image")
    params = TileParams(tiles_per_shard=6, stain=StainParams("fit"))
    importing.import_tiles(set_find.find(root / "tiles"), root / "imported", params, workers=1)
    _settle(root / "imported")


def _half_a_mix(root: Path) -> None:
    """A mix that was interrupted after its first shard."""

    def stop(summary: MixSummary) -> None:
        if summary.written:
            raise KeyboardInterrupt

    size = max(path.stat().st_size for path in (root / "mixed" / "shards").glob("*.tar"))
    half = root / "half-mixed"
    done = pathprep.mix(
        [root / "dataset"], half, tiles_per_shard=PER_SHARD, memory=1.5 * size / 1e9, watch=stop
    )
    assert done.interrupted, "a half mix was wanted"


def mix_on(root: Path) -> None:
    """Go on with the half mix, as the same command does."""
    pathprep.mix([root.parent / "dataset"], root, tiles_per_shard=PER_SHARD)


def _trained(root: Path) -> None:
    """A run with two checkpoints and an encoder that stays, its export, and features of both formats."""
    settings = ["checkpoint.every=2", "checkpoint.keep=2", "checkpoint.milestones=2", "log_every=1"]
    stain = ["stain.mode=normalize", f"stain.target={root / 'target' / 'target.json'}"]
    small_run(root / "dataset", root / "run", 4, *settings, *stain)
    pathtrain.export(root / "run", root / "model")
    for format in ("hdf5", "parquet"):
        pathtrain.embed(root / "model", root / "dataset", root / f"features-{format}", format=format)


def map_index(root: Path) -> None:
    """Bring a dataset's tables together as for many slides, though it has few."""
    before, index_cache.MAPPED_FROM = index_cache.MAPPED_FROM, 1
    try:
        Dataset(root).tiles(MAPPED)
    finally:
        index_cache.MAPPED_FROM = before


def _settle(root: Path) -> None:
    """As if the files had been written a while ago: the mapped index trusts only such listings."""
    for path in root.rglob("*"):
        state = path.stat()
        os.utime(path, (state.st_atime - OLD_S, state.st_mtime - OLD_S))
