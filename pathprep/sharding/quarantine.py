"""The folder failed/: shards that failed, beside what stands under their names, and images left out."""

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from pathprep.dataset.failed import FailedShard, write_failed
from pathprep.dataset.marker import Marker, TileSetMarker, is_displaced, vouches
from pathprep.errors import SlideError
from pathprep.sharding.task import DatasetTask
from pathprep.storage.confined import inside
from pathprep.words import counted

NAMED = 20  # damaged images that a quarantine's one-line error does not leave to the list below it


def list_images(root: Path, marker: Marker) -> None:
    """List a tile set's damaged images where failures are looked for; done again by every run."""
    if not isinstance(marker, TileSetMarker) or not marker.damaged:
        return
    damaged = marker.damaged
    first = "; ".join(f"{each.image}: {each.error}" for each in damaged[:NAMED])
    more = f"; and {len(damaged) - NAMED} more" if len(damaged) > NAMED else ""
    listed = FailedShard(
        stage="tiles",
        kind="images",
        error=f"{len(damaged):,} of {counted(len(damaged) + marker.tiles, 'image')} left out: {first}{more}",
        attempts=1,
        slide=marker.slide,
        source=marker.source,
        build_id=marker.build_id,
        set=marker.set,
        split=marker.split,
        images=damaged,
    )
    # the marker is a file's content, and its name a path
    write_failed(inside(root / "failed", f"{marker.slide}.json"), listed)


class Standing(Enum):
    """What there is under the name of a slide that failed."""

    NOTHING = "no marker"
    DONE = "the slide, made meanwhile by another run"
    GOOD = "the slide as it was before it was to be made again, with equal parameters"
    OTHER = "another slide, which has got the name meanwhile"
    UNSEEN = "the slide as it was when it could be read; whether it has changed cannot be told"
    OUTDATED = "the slide as it was with other parameters or another content"

    @property
    def stays(self) -> bool:
        """Whether the marker stays, and the quarantine file goes."""
        return self in (Standing.DONE, Standing.GOOD, Standing.OTHER)


def standing(
    marker: Marker | None,
    task: DatasetTask[Any, Any],
    failure: FailedShard,
    size: Callable[[str], int],
) -> Standing:
    """Judge a marker.

    Args:
        marker: under the slide's name, or None.
        task: what failed. failure: what is recorded of it.
        size: bytes of a file of the dataset, by its name; -1 if it is absent.
    """
    if marker is None or is_displaced(marker):  # that stays, for `pathprep repair`
        return Standing.NOTHING
    if not task.source.made(marker.source.path, marker.source.size):
        return Standing.OTHER
    if marker.build_id != task.build_id:
        return Standing.OUTDATED
    if (
        task.rebuild
    ):  # its tiles are of a time when the slide could be read; `pathprep verify` tells of damage
        return Standing.GOOD
    # whoever read a slide that hangs would hang, too
    try:
        inputs = marker.inputs if failure.kind == "timeout" else task.source.inputs()
    except SlideError:
        return Standing.UNSEEN
    if inputs.get("ends_sha256", "") is None:
        return Standing.UNSEEN
    whole = vouches(marker, task.build_id, inputs, size)
    return Standing.DONE if whole else Standing.OUTDATED
