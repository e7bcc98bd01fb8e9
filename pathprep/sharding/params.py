"""Every parameter of a sharding run that shapes the pixels; their hash is the dataset's build id."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Self

import numpy as np

from pathprep.errors import UsageError
from pathprep.slides.grid import Mode
from pathprep.slides.readers import ReaderName
from pathprep.slides.slide import MPP_RANGE
from pathprep.slides.tissue import TissueParams
from pathprep.stain import Target
from pathprep.tiles.qc import QcParams

# Raised when the same parameters give other bytes than before, so that old slides are rebuilt
PIXELS_VERSION = 3

StainMode = Literal["bake", "fit", "none"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class StainParams:
    """Macenko normalisation: ``bake`` stores normalised tiles, ``fit`` plain tiles and their fits.

    Attributes:
        keep: a pixel is tissue if ``all`` (canonical) or ``any`` of its channels reach ``beta``.
        alpha: percentile of the extreme angles. beta: optical density. io: transmitted light.
        target: what tiles are normalised to.
    """

    mode: StainMode = "bake"
    keep: Literal["all", "any"] = "all"
    alpha: float = 1.0
    beta: float = 0.15
    io: float = 240.0
    target: Target = field(default_factory=Target.default)

    def as_dict(self) -> dict[str, Any]:
        """What is written to dataset.json and hashed: only what shapes what is stored."""
        if self.mode == "none":
            return {"mode": "none"}
        values = {**asdict(self), "target": self.target.as_params()}
        if self.mode == "fit":
            # the target shapes no pixel that is stored
            del values["target"]
        return values


@dataclass(frozen=True)
class ShardParams:
    """Parameters of `pathprep shard`; the defaults are EXAONEPath 1.0's where it states them.

    Attributes:
        tile: side in pixels at ``mpp``. mpp: micrometres per pixel.
        more_mpps: further resolutions; each slide is sharded once for each.
        mode: ``native`` keeps level-0 pixels, ``resize`` stores ``tile`` pixels.
        overlap: pixels at ``mpp``.
        min_tissue: share of the tile inside the tissue mask (Midnight: 0.4).
        region: side of a region, pixels at ``mpp``; a whole number of tiles.
        whole_regions: keep all tiles of the regions that have ``min_tissue``, instead of single tiles.
        qc: quality filters, all of them off.
        quality, subsampling: of the stored JPEGs.
        max_tiles, seed: at most so many tiles a slide, chosen at random before the quality filters.
        default_mpp: for slides that do not state theirs. low_mpp, high_mpp: plausible range.
        cross_check: a tile that differs grossly from the overview is an error (pathprep.slides.cross_check).
        device: where tiles are made; the GPU's JPEGs are other bytes, of pixels that may differ by a level.
    """

    tile: int = 256
    mpp: float = 0.5
    more_mpps: tuple[float, ...] = ()
    mode: Mode = "native"
    overlap: int = 0
    min_tissue: float = 0.4
    region: int = 4096
    whole_regions: bool = False
    stain: StainParams = field(default_factory=StainParams)
    tissue: TissueParams = field(default_factory=TissueParams)
    qc: QcParams = field(default_factory=QcParams)
    quality: int = 90
    subsampling: Literal["420", "444"] = "420"
    max_tiles: int | None = None
    seed: int = 0
    default_mpp: float | None = None
    low_mpp: float = MPP_RANGE[0]
    high_mpp: float = MPP_RANGE[1]
    reader: ReaderName = "auto"
    device: Device = "cpu"
    cross_check: bool = True

    def __post_init__(self) -> None:
        rules = [
            (16 <= self.tile <= 4096, "--tile must be 16 to 4096 pixels"),
            (all(0 < mpp < math.inf for mpp in self.mpps), "--mpp must be above 0"),
            (len(set(self.mpps)) == len(self.mpps), "--mpp names a resolution twice"),
            (
                self.mode == "resize" or not self.more_mpps,
                "several --mpp need --resize: native tiles would have another size at each",
            ),
            (0 <= self.stain.beta < 6, "--stain-beta is an optical density: 0 to 6"),
            (0 <= self.tissue.threshold <= 254, "--tissue-threshold must be 0 to 254"),
            (
                0 <= self.overlap < self.tile,
                f"--overlap must be 0 to {self.tile - 1} pixels (less than --tile)",
            ),
            (0 <= self.min_tissue <= 1, "--min-tissue is a share: 0 to 1"),
            (
                self.region >= self.tile and self.region % max(1, self.tile) == 0,
                f"--region {self.region} must be a multiple of --tile {self.tile}, such as {16 * self.tile}",
            ),
            (
                not (self.whole_regions and self.qc.as_dict()),
                "--region keeps regions whole, quality filters drop single tiles: leave one of them out",
            ),
            (1 <= self.quality <= 100, "--quality must be 1 to 100"),
            (self.max_tiles is None or self.max_tiles > 0, "--max-tiles must be above 0"),
            (self.seed >= 0, "--seed must be 0 or more"),
            (self.default_mpp is None or self.default_mpp > 0, "--default-mpp must be above 0"),
            (0 < self.low_mpp < self.high_mpp, "--min-mpp must be above 0 and below --max-mpp"),
        ]
        for holds, message in rules:
            if not holds:
                raise UsageError(message)

    @property
    def mpps(self) -> tuple[float, ...]:
        """All resolutions that were asked for."""
        return (self.mpp, *self.more_mpps)

    def at(self, mpp: float) -> Self:
        """The parameters of one resolution."""
        return replace(self, mpp=mpp, more_mpps=())

    def as_dict(self) -> dict[str, Any]:
        """What is written to dataset.json and hashed; equal parameters give equal dictionaries."""
        values = asdict(self)
        # what they are does not shape a slide that was accepted; the default MPP is in its inputs
        for key in ("more_mpps", "default_mpp", "low_mpp", "high_mpp"):
            del values[key]
        if self.more_mpps:
            values["mpp"] = sorted(self.mpps)
        if not self.whole_regions:
            del values["whole_regions"]
        values["stain"] = self.stain.as_dict()
        if self.max_tiles is None:
            del values["seed"]
        values["qc"] = self.qc.as_dict()
        if not values["qc"]:
            del values["qc"]
        if self.device == "cpu":
            del values["device"]
        if self.cross_check:
            del values["cross_check"]
        return {**values, "pixels_version": PIXELS_VERSION}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What ``as_dict`` was made from, as far as it shapes the pixels.

        Raises:
            UsageError: they are another version's.
        """
        given = dict(values)
        try:
            version = given.pop("pixels_version")
            mpps = given.pop("mpp")
            first, *more = mpps if isinstance(mpps, list) else [mpps]
            stained = dict(given.pop("stain"))
            if "target" in stained:
                target = stained["target"]
                stained["target"] = Target(np.array(target["he"]), np.array(target["max_c"]), "dataset")
            made = cls(
                mpp=first,
                more_mpps=tuple(more),
                stain=StainParams(**stained),
                tissue=TissueParams(**given.pop("tissue")),
                qc=QcParams(**given.pop("qc", {})),
                **given,
            )
        except (KeyError, TypeError):
            version = None
        if version != PIXELS_VERSION or made.as_dict() != dict(values):
            raise UsageError(
                "the dataset was made by another version of pathprep, whose tiles this one cannot make "
                "again; make it anew with `pathprep shard` and --rebuild"
            )
        return made
