"""What functions and commands take besides parameters of pixels: paths, and how a run is to go."""

import math
from collections.abc import Iterable
from pathlib import Path, PurePath

from pathprep.params.settings import check

AnyPath = str | PurePath  # where URLs may be given too, a path may be one whose slashes it has folded
SLIDE_TIMEOUT_S = 7200.0
MIN_FREE_GB = 2.0
TILES_PER_SHARD = 10_000  # at most, where tiles of many slides share shards
MIX_MEMORY_GB = 4.0


def listed(given: AnyPath | Iterable[AnyPath]) -> list[AnyPath]:
    """One path or several, as a list."""
    return [given] if isinstance(given, str | PurePath) else list(given)


def path(given: AnyPath | None) -> Path | None:
    """A path that may be left out."""
    return None if given is None else Path(given)


def check_run(
    *,
    workers: int | None = None,
    slide_timeout: float = SLIDE_TIMEOUT_S,
    min_free: float = 0.0,
    part: tuple[int, int] | None = None,
) -> None:
    """Refuse what no run can be asked for.

    Raises:
        UsageError: naming the argument.
    """
    check(
        {
            "`workers` must be at least 1": workers is None or workers >= 1,
            "`slide_timeout` is a number of seconds above 0": slide_timeout > 0,
            "`min_free` is a number of gigabytes: 0 or more": 0 <= min_free < math.inf,
            "`part` is (k, n) with k from 1 to n, such as (1, 8)": part is None or 1 <= part[0] <= part[1],
        }
    )
