"""Every parameter of a sharding run that shapes the pixels; their hash is the dataset's build id."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pathprep.errors import UsageError
from pathprep.params.quality import QcParams
from pathprep.params.settings import Setting, build, check, is_share
from pathprep.params.stain import StainParams
from pathprep.params.tissue import TissueParams

if TYPE_CHECKING:
    from pathprep.stain import Target

# Raised when the same parameters give other bytes than before, so that old slides are rebuilt
PIXELS_VERSION = 4

# Micrometres per pixel of a slide. The finest scanners are at 0.1, and above 10 there is no tissue structure
# left: beyond, it is a wrong tag
MPP_RANGE = (0.05, 10.0)
MPP = 0.5  # of tiles, unless another is asked for

Device = Literal["cpu", "cuda"]
Encoder = Literal["auto", "cpu", "gpu"]
Mode = Literal["native", "resize"]
ReaderName = Literal["auto", "tiff", "cucim", "openslide", "picture", "czi", "zarr"]
Subsampling = Literal["420", "444"]

GOES_IN, TILES, OUTPUT, EXPERT = "What goes in", "Tiles", "Output", "Expert"


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
        cross_check: a tile that differs grossly from the overview is an error (slides.cross_check).
        device: where tiles are made; the GPU's JPEGs are other bytes, of pixels that may differ by a level.
        encoder: with the GPU: what encodes; sharding.encoder resolves ``auto``, unresolved it is the GPU.
    """

    tile: Annotated[int, Setting("Side of a tile, in pixels at `mpp`.")] = 256
    mpp: Annotated[float, Setting("Micrometres per pixel of the tiles.")] = MPP
    more_mpps: tuple[float, ...] = ()
    mode: Annotated[
        Mode,
        Setting(
            "Keep level-0 pixels (512 at 0.25 MPP), or reduce to `tile` pixels a side.", TILES, flags=True
        ),
    ] = "native"
    overlap: Annotated[int, Setting("Overlap of neighbouring tiles, in pixels at `mpp`.", TILES)] = 0
    min_tissue: Annotated[
        float,
        Setting("Keep tiles with at least this share of tissue; one without any is never kept.", "Tissue"),
    ] = 0.4
    region: int = 4096
    whole_regions: bool = False
    stain: StainParams = field(default_factory=StainParams)
    tissue: TissueParams = field(default_factory=TissueParams)
    qc: QcParams = field(default_factory=QcParams)
    quality: Annotated[int, Setting("JPEG quality, 1 to 100.", OUTPUT)] = 90
    subsampling: Annotated[Subsampling, Setting("JPEG colour resolution.", OUTPUT)] = "420"
    max_tiles: Annotated[
        int | None,
        Setting("At most so many tiles a slide, at random, before the quality filters drop some.", TILES),
    ] = None
    seed: Annotated[int, Setting("Which tiles, where they are chosen at random.", TILES)] = 0
    default_mpp: Annotated[
        float | None, Setting("Micrometres per pixel of slides that do not state theirs.", GOES_IN)
    ] = None
    low_mpp: Annotated[float, Setting("A slide's MPP below this is an error.", GOES_IN, "min_mpp")] = (
        MPP_RANGE[0]
    )
    high_mpp: Annotated[float, Setting("A slide's MPP above this is an error.", GOES_IN, "max_mpp")] = (
        MPP_RANGE[1]
    )
    reader: Annotated[
        ReaderName,
        Setting(
            "auto: tiff for JPEG in TIFF and SVS, cucim for JPEG 2000 there, openslide for most others.",
            GOES_IN,
        ),
    ] = "auto"
    device: Device = "cpu"
    encoder: Annotated[
        Encoder,
        Setting(
            "With `gpus`: encode JPEGs on the cards or on the cores. auto: the faster, as measured when the "
            "dataset is begun.",
            OUTPUT,
        ),
    ] = "auto"
    cross_check: Annotated[
        bool,
        Setting("Fail slides whose tiles differ grossly from their overview: damaged files.", EXPERT),
    ] = True

    def __post_init__(self) -> None:
        # 0,5 is how half of the world writes 0.5
        strange = sorted(self.qc.shares().keys() - set(self.tissue.shares))
        point = "; fractions have a point, a comma parts resolutions" if self.more_mpps else ""
        check(
            {
                "`tile` must be 16 to 4096 pixels": 16 <= self.tile <= 4096,
                f"`mpp` must be above 0{point}": all(0 < mpp < math.inf for mpp in self.mpps),
                "`mpp` names a resolution twice": len(set(self.mpps)) == len(self.mpps),
                "several `mpp` need resized tiles (`mode` resize): native ones would have another size at "
                f"each{point}": self.mode == "resize" or not self.more_mpps,
                "`stain_beta` is an optical density: 0 to 6": 0 <= self.stain.beta < 6,
                "`tissue_threshold` must be 0 to 254": 0 <= self.tissue.level <= 254,
                "`min_piece` is an area in square micrometres: 0 or more": (
                    self.tissue.min_piece is None or 0 <= self.tissue.min_piece < math.inf
                ),
                f"`overlap` must be 0 to {self.tile - 1} pixels (less than `tile`)": (
                    0 <= self.overlap < self.tile
                ),
                "`min_tissue` is a share: 0 to 1": is_share(self.min_tissue),
                f"`region` {self.region} must be a multiple of `tile` {self.tile}, such as "
                f"{16 * self.tile}": self.region >= self.tile and self.region % max(1, self.tile) == 0,
                "`region` keeps regions whole, quality filters drop single tiles: leave one of them out": (
                    not (self.whole_regions and self.qc.as_dict())
                ),
                f"`max_share` names {', '.join(strange)}, of which the tissue model knows nothing "
                f"({', '.join(self.tissue.shares) or 'none is given: `tissue_model`'})": not strange,
                "`encoder` gpu needs `gpus`": self.encoder != "gpu" or self.device == "cuda",
                "`quality` must be 1 to 100": 1 <= self.quality <= 100,
                "`max_tiles` must be above 0": self.max_tiles is None or self.max_tiles > 0,
                "`seed` must be 0 or more": self.seed >= 0,
                "`default_mpp` must be above 0": self.default_mpp is None or self.default_mpp > 0,
                "`min_mpp` must be above 0 and below `max_mpp`": 0 < self.low_mpp < self.high_mpp,
            }
        )

    @classmethod
    def of(
        cls,
        *,
        mpp: float | Sequence[float] = MPP,
        region: int | None = None,
        target: "Target | None" = None,
        device: Device = "cpu",
        **settings: Any,
    ) -> Self:
        """Build the parameters from flat names, as the commands take them.

        Args:
            mpp: micrometres per pixel of the tiles; several to shard each slide at each.
            region: pixels at ``mpp``; keep regions of this side whole. None: single tiles.
            target: what tiles are normalised to; None for the field's reference.
            device: where tiles are made.
            settings: as in ``tile=256, stain="fit", stain_beta=0.2, min_focus=50``; see `settings.flat`.

        Raises:
            UsageError: no parameter of this name, or a value out of its range.
        """
        mpps = tuple(mpp) if isinstance(mpp, Sequence) else (mpp,)
        if not mpps or not all(isinstance(each, int | float) for each in mpps):
            raise UsageError(f"`mpp` is {mpp!r}; expected a number, or several")
        mpps = tuple(map(float, mpps))  # 1 and 1.0 are two values in a build id
        side = settings.get("tile")
        tile = side if isinstance(side, int) else cls.tile
        return build(
            cls,
            settings,
            mpp=mpps[0],
            more_mpps=mpps[1:],
            region=16 * tile if region is None else region,
            whole_regions=region is not None,
            stain={"target": target},
            device=device,
        )

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
        values["tissue"] = self.tissue.as_dict()
        if self.max_tiles is None:
            del values["seed"]
        values["qc"] = self.qc.as_dict()
        if not values["qc"]:
            del values["qc"]
        if self.device == "cpu":
            del values["device"]
        if self.device == "cpu" or self.encoder != "cpu":  # the bytes are those of the device
            del values["encoder"]
        if self.cross_check:
            del values["cross_check"]
        return {**values, "pixels_version": PIXELS_VERSION}
