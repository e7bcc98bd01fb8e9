"""Parameters of an import; their hash is the dataset's build id."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Self

from pathprep.errors import UsageError
from pathprep.params.running import TILES_PER_SHARD
from pathprep.params.settings import Setting, build, check, is_positive
from pathprep.params.shard import Subsampling
from pathprep.params.stain import StainParams

if TYPE_CHECKING:
    from pathprep.stain import Target

# Raised when the same parameters give other bytes than before, so that old shards are rebuilt
PIXELS_VERSION = 2


@dataclass(frozen=True)
class TileParams:
    """Parameters of `pathprep import-tiles` that shape what is stored.

    Attributes:
        stain: as of `pathprep shard`, but ``none`` by default: such sets are compared as published.
        quality, subsampling: of tiles that are encoded; a plain JPEG that keeps its pixels keeps its bytes.
        tiles_per_shard: at most so many. mpp: micrometres per pixel of the whole set; None if not known.
        crop: of an image that is not square its central square; without it such images are left out.
        keep_metadata: JPEGs that keep their picture keep what else is in them too: Exif, XMP, comments,
            profiles.

    Raises:
        UsageError: one is outside its range.
    """

    stain: StainParams = field(default_factory=lambda: StainParams("none"))
    quality: Annotated[int, Setting("Of JPEGs that are encoded.", "Output")] = 95
    subsampling: Annotated[Subsampling, Setting("444 keeps the colour resolution.", "Output")] = "444"
    tiles_per_shard: Annotated[int, Setting("At most so many tiles in a tar.", "Output")] = TILES_PER_SHARD
    mpp: Annotated[float | None, Setting("Micrometres per pixel of the tiles, if known.")] = None
    crop: Annotated[
        bool, Setting("Of images that are not square: their central square; else they are left out.")
    ] = False
    keep_metadata: Annotated[
        bool, Setting("Of JPEGs: Exif, XMP, comments, profiles, which may name people.", "Output")
    ] = False

    def __post_init__(self) -> None:
        check(
            {
                "`quality` must be 1 to 100": 1 <= self.quality <= 100,
                "`tiles_per_shard` must be above 0": self.tiles_per_shard >= 1,
                "`mpp` must be above 0": self.mpp is None or is_positive(self.mpp),
                "`stain_beta` is an optical density: 0 to 6": 0 <= self.stain.beta < 6,
                "`keep_metadata`: `stain` bake codes every tile anew; leave one of them out": not (
                    self.keep_metadata and self.stain.mode == "bake"
                ),
            }
        )

    @classmethod
    def of(cls, *, target: "Target | None" = None, **settings: Any) -> Self:
        """Build the parameters from flat names, as in ``stain="bake", tiles_per_shard=1000``.

        Args:
            target: what tiles are normalised to, if ``stain`` is ``bake``; None for the field's reference.

        Raises:
            UsageError: no parameter of this name, a value out of its range, or a target without ``bake``.
        """
        made = build(cls, settings, stain={"target": target})
        if target is not None and made.stain.mode != "bake":
            raise UsageError("`target`: only `stain` bake normalises; give both or neither")
        return made

    def as_dict(self) -> dict[str, Any]:
        """What is written to dataset.json and hashed."""
        values = {
            "kind": "tiles",
            "stain": self.stain.as_dict(),
            "quality": self.quality,
            "subsampling": self.subsampling,
            "tiles_per_shard": self.tiles_per_shard,
            "mpp": self.mpp,
            "pixels_version": PIXELS_VERSION,
        }
        # only where they are asked for: the build id of other sets stays as it was
        asked = {name: True for name in ("crop", "keep_metadata") if getattr(self, name)}
        return {**values, **asked}
