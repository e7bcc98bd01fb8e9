"""Whether a probe's tiles are of slides that are trained on: then it shows fit, not only generality."""

import numpy as np

from pathtrain.data.whole_tiles import DatasetTiles, FolderTiles, Ints
from pathtrain.training.probes.base import Setting

NAMED = 3


def trained_on(tiles: DatasetTiles | FolderTiles, group: Ints, setting: Setting) -> str:
    """How many of the slides (or groups) of a probe's tiles are trained on, in words; empty for none.

    Slides are told by their names, and of mixed shards, which keep none, by the datasets that they are of.

    Args:
        group: (M,) of the tiles, numbers into ``tiles.groups``.
    """
    names = {tiles.groups[number] for number in np.unique(group)}
    if isinstance(tiles, FolderTiles) and not tiles.grouped:
        return ""  # its groups are files, which may have one name and yet differ
    shared = setting.data.trained(tiles.path, names) - set(setting.held_out)
    if not shared:
        return ""
    some = sorted(shared)[:NAMED]
    more = ", ..." if len(shared) > NAMED else ""
    return (
        f"{len(shared)} of the {len(names)} {tiles.kind}s of {tiles.path} are trained on "
        f"({', '.join(some)}{more})"
    )
