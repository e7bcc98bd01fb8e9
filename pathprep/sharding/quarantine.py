"""A slide that failed, and the marker that stands under its name: what the one means for the other."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from pathprep.dataset import marker as markers
from pathprep.sharding.pipeline import ShardTask


class Standing(Enum):
    """What there is under the name of a slide that failed."""

    NOTHING = "no marker"
    DONE = "the slide, made meanwhile by another run"
    GOOD = "the slide as it was before it was to be made again, with equal parameters"
    OTHER = "another slide, which has got the name meanwhile"
    OUTDATED = "the slide as it was with other parameters or another content"

    @property
    def stays(self) -> bool:
        """Whether the marker stays, and the quarantine file goes."""
        return self in (Standing.DONE, Standing.GOOD, Standing.OTHER)


def standing(
    marker: Mapping[str, Any] | None, task: ShardTask, failure: Mapping[str, Any], size: Callable[[str], int]
) -> Standing:
    """Judge a marker.

    Args:
        marker: under the slide's name, or None.
        task: what failed. failure: what is recorded of it.
        size: bytes of a file of the dataset, by its name; -1 if it is absent.
    """
    if marker is None:
        return Standing.NOTHING
    if not task.source.made(marker["source"]):
        return Standing.OTHER
    if marker["build_id"] != task.build_id:
        return Standing.OUTDATED
    if (
        task.rebuild
    ):  # its tiles are of a time when the slide could be read; `pathprep verify` tells of damage
        return Standing.GOOD
    # whoever read a slide that hangs would hang, too
    inputs = marker["inputs"] if failure["kind"] == "timeout" else task.source.inputs()
    whole = markers.vouches(marker, task.build_id, inputs, size)
    return Standing.DONE if whole else Standing.OUTDATED
