"""How tiles become features; quick to import, so that help is instant."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from pathprep.params.settings import Setting, check

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]
Format = Literal["hdf5", "parquet", "anndata", "zarr"]
Dtype = Literal["float32", "float16", "bfloat16"]
Level = Literal["tile", "region", "slide"]

PANEL, MODEL = "Running", "Encoder"


@dataclass(frozen=True)
class How:
    """How tiles become features.

    By default the whole tile is resized to a square, so that tiles that lie side by side on a slide leave no
    tissue out; ``short`` cuts the centre out instead, as linear evaluation does after its paper.

    Attributes:
        size: side of the images that the model sees, pixels, a multiple of its patch; None: its own.
        short: the shorter side is first resized to this, and the centre cropped to ``size``; None: no crop.
        batch: images per forward pass.
        threads: that decode and resize; None: as many as the process may use cores.
        weights: ``trained``; ``start``, what a run began with; ``random`` ones; or a file of the weights of a
            public encoder, for machines without internet.
        readout: which of the network's numbers are the features (pathtrain.models.readouts); None: the
            published one, or that of the run.
        any_mpp: take tiles of another MPP than the model was trained at.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        precision: of the networks: ``float32`` (on a card, products in TF32), or ``bfloat16`` autocast;
            features are float32 in any case.

    Raises:
        UsageError: one is outside its range.
    """

    size: Annotated[int | None, Setting("Side of images in pixels. Default: the model's.", "Tiles")] = None
    short: Annotated[
        int | None,
        Setting(
            "Shorter side before a central crop to `size`. Default: whole tiles; linear and table: 256/224.",
            "Tiles",
            "resize",
        ),
    ] = None
    weights: Annotated[
        str,
        Setting(
            "trained; start, what a run began with; random; or a FILE with a public encoder's weights.",
            MODEL,
            metavar="trained|start|random|FILE",
        ),
    ] = "trained"
    readout: Annotated[
        str | None,
        Setting(
            "cls, mean, cls+mean, blocks:N, patches or pooled. Default: the published one, or the run's.",
            MODEL,
        ),
    ] = None
    any_mpp: Annotated[bool, Setting("Take tiles of another MPP than the model was trained at.", MODEL)] = (
        False
    )
    batch: Annotated[int, Setting("Tiles per forward pass.", PANEL)] = 64
    threads: Annotated[int | None, Setting("Threads that decode tiles. Default: the cores.", PANEL)] = None
    device: Annotated[Device, Setting("auto: a GPU if there is one.", PANEL)] = "auto"
    precision: Annotated[Precision, Setting("Of the network; features are float32.", PANEL)] = "float32"

    def __post_init__(self) -> None:
        check(
            {
                "`batch` must be above 0": self.batch >= 1,
                "`threads` must be above 0": self.threads is None or self.threads >= 1,
                "`device` must be auto, cpu or cuda": self.device in get_args(Device),
                "`precision` must be float32 or bfloat16": self.precision in get_args(Precision),
            }
        )


@dataclass(frozen=True)
class KeptHow(How):
    """How tiles become features in an evaluation, which may keep them for the next one.

    Attributes:
        cache: folder of features by model and content (pathtrain.evaluate.cache); None keeps none.
    """

    cache: Annotated[
        Path | None,
        Setting("Folder that keeps features, by model and tiles, for other evaluations.", PANEL),
    ] = None
