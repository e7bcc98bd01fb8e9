"""Parameters of an import; their hash is the dataset's build id."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from pathprep.errors import UsageError
from pathprep.sharding.params import StainParams

# Raised when the same parameters give other bytes than before, so that old shards are rebuilt
PIXELS_VERSION = 1

Subsampling = Literal["420", "444"]


@dataclass(frozen=True)
class TileParams:
    """Parameters of `pathprep import-tiles` that shape what is stored.

    Attributes:
        stain: as of `pathprep shard`, but ``none`` by default: such sets are compared as published.
        quality, subsampling: of tiles that are encoded; a plain JPEG that keeps its pixels keeps its bytes.
        tiles_per_shard: at most so many. mpp: micrometres per pixel of the whole set; None if not known.

    Raises:
        UsageError: one is outside its range.
    """

    stain: StainParams = field(default_factory=lambda: StainParams("none"))
    quality: int = 95
    subsampling: Subsampling = "444"
    tiles_per_shard: int = 10_000
    mpp: float | None = None

    def __post_init__(self) -> None:
        rules = [
            (1 <= self.quality <= 100, "--quality must be 1 to 100"),
            (self.tiles_per_shard >= 1, "--tiles-per-shard must be above 0"),
            (self.mpp is None or 0 < self.mpp < math.inf, "--mpp must be above 0"),
            (0 <= self.stain.beta < 6, "--stain-beta is an optical density: 0 to 6"),
        ]
        for holds, message in rules:
            if not holds:
                raise UsageError(message)

    def as_dict(self) -> dict[str, Any]:
        """What is written to dataset.json and hashed."""
        return {
            "kind": "tiles",
            "stain": self.stain.as_dict(),
            "quality": self.quality,
            "subsampling": self.subsampling,
            "tiles_per_shard": self.tiles_per_shard,
            "mpp": self.mpp,
            "pixels_version": PIXELS_VERSION,
        }
