"""Shards that a set no longer fills: what is removed of them, and what is never touched.

Markers lie in a folder that others may write to. So nothing is removed because a marker names it:
``read_sealed`` takes none that names other files than a shard of its name has, and what is removed must lie
in the dataset, not behind a link out of it. Quarantine files name nothing that is removed.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from pathprep.dataset.failed import FailedShard, read_failed
from pathprep.dataset.marker import TileSetMarker, read_sealed
from pathprep.errors import OutsideError
from pathprep.storage.confined import inside
from pathprep.tilesets.items import TileSet
from pathprep.tilesets.shard import Part

log = logging.getLogger(__name__)


def is_elsewhere(shard: TileSetMarker | FailedShard, source: TileSet | Part) -> bool:
    """Whether a shard is of another folder; one that is gone was moved: its shards are judged by images.

    Whether a pseudonymised folder is gone cannot be seen: another one counts as another set.
    """
    old = shard.source.path  # out of a file: it may be anything
    if not isinstance(old, str) or old == source.recorded:
        return False
    return source.alias is not None or Path(old).exists()


def remove_stale(root: Path, parts: Sequence[Part]) -> None:
    """Shards that the set no longer fills would give its images twice. The marker goes first.

    So go those of another folder's set, which this one is to replace.
    """
    title, source = parts[0].set, parts[0]
    names, splits = {part.name for part in parts}, list({part.split for part in parts})

    def is_stale(name: str, shard: TileSetMarker | FailedShard) -> bool:
        ours = shard.set == title and shard.split in splits
        return ours and (name not in names or is_elsewhere(shard, source))

    for path in sorted((root / "slides").glob("*.json")):
        marker = read_sealed(path)
        if isinstance(marker, TileSetMarker) and is_stale(path.stem, marker):
            _remove(root, f"slides/{path.name}")
            for name in marker.files:
                _remove(root, name)
    for path in sorted((root / "failed").glob("*.json")):
        failed = read_failed(path)
        if failed is not None and is_stale(path.stem, failed):
            _remove(root, f"failed/{path.name}")


def _remove(root: Path, name: str) -> None:
    """Remove a file, or a link of its name; nothing in a folder that is a link out of the dataset."""
    try:
        folder = inside(root, name.rpartition("/")[0])
    except OutsideError as error:
        log.warning("%s; %s stays", error, name)
        return
    (folder / name.rpartition("/")[2]).unlink(missing_ok=True)
