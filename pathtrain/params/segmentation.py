"""Parameters of `pathtrain evaluate segmentation`; quick to import, so that help is instant."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, get_args

from pathprep.params.settings import Setting, check
from pathtrain.params.baselines import BaselineParams
from pathtrain.params.encoding import KeptHow

Layout = Literal["auto", "consep", "monusac", "monuseg", "pannuke", "folder"]
Cut = Literal["auto", "windows", "crops"]
Kept = Literal["float16", "float32"]
Select = Literal["auto", "last", "val", "test"]

DECODER, IMAGES, OBJECTS = "Training", "What goes in", "Expert"


@dataclass(frozen=True)
class DenseBaselines(BaselineParams):
    """What a model is compared with; see BaselineParams. Local binary patterns have no tokens.

    Attributes:
        chosen: of ``start``, ``random`` and ``colour``, between commas; or ``none``.
        seeds: random networks; each costs a training of the decoder.
    """

    chosen: Annotated[
        str,
        Setting(
            "Some of start,random,colour; or none. colour: the same decoder without tokens. Each costs a "
            "training of the decoder.",
            "Running",
            "baselines",
        ),
    ] = "start,random,colour"
    seeds: Annotated[int, Setting("Random networks.", "Running", "random_seeds")] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check({"`baselines` lbp: has no tokens to segment by; give start, random, colour": "lbp" not in self})


@dataclass(frozen=True)
class DecoderParams:
    """How the decoder is trained; the defaults are kaiko eva's, which the published figures are made with.

    Attributes:
        steps, batch: of AdamW, and windows in each.
        lr, weight_decay: of AdamW.
        seeds: decoders that are trained, each with its own first weights and order.
        select: which weights are scored: ``last``; the best epoch on ``val``, or on the ``test`` images
            themselves, as the published figures are; ``auto``: val if there is one, else last.
    """

    steps: Annotated[int, Setting("Steps of AdamW.", DECODER)] = 2000
    batch: Annotated[int, Setting("Windows per step.", DECODER, "decoder_batch")] = 64
    lr: Annotated[float, Setting("Of AdamW; falls by (1 - epoch / `steps`)^.9.", DECODER)] = 2e-3
    weight_decay: Annotated[float, Setting("Of AdamW.", DECODER)] = 0.01
    seeds: Annotated[int, Setting("Decoders that are trained, from `seed` on.", DECODER)] = 5
    select: Annotated[
        Select,
        Setting(
            "Weights that are scored: last; the best epoch on val, or on the test images themselves, as "
            "published figures are. auto: val if given, else last.",
            DECODER,
        ),
    ] = "auto"

    def __post_init__(self) -> None:
        check(
            {
                "`steps` must be above 0": self.steps >= 1,
                "`decoder_batch` must be at least 2": self.batch >= 2,  # batch norm
                "`lr` must be above 0": self.lr > 0,
                "`weight_decay` must not be negative": self.weight_decay >= 0,
                "`seeds` must be above 0": self.seeds >= 1,
                "`select` must be auto, last, val or test": self.select in get_args(Select),
            }
        )


@dataclass(frozen=True)
class ObjectParams:
    """How objects are made of classes, and met.

    Attributes:
        radius: pixels of the image, within which two centres are one object; 12 at 40x (HoVer-Net).
        distance: least distance of two objects' centres, pixels; smallest: pixels of an object.
    """

    radius: Annotated[float, Setting("Centres within so many pixels are one object; 12 at 40x.", OBJECTS)] = (
        12.0
    )
    distance: Annotated[
        int, Setting("Least pixels between the centres of two found objects.", OBJECTS, "peak_distance")
    ] = 6
    smallest: Annotated[int, Setting("Pixels that a found object has at least.", OBJECTS)] = 20

    def __post_init__(self) -> None:
        check(
            {
                "`radius` must be above 0": self.radius > 0,
                "`peak_distance` must be above 0": self.distance >= 1,
                "`smallest` must be above 0": self.smallest >= 1,
            }
        )


@dataclass(frozen=True)
class SegmentationParams:
    """Parameters of `pathtrain evaluate segmentation`.

    Attributes:
        layout: of the folders; see pathtrain.data.segmented.layouts.
        classes: names of the classes: ``epithelial,lymphocyte`` of the values 1, 2; or value, colour or name
            in the file = name: ``3=epithelial,4=epithelial,#00ff00=stroma,5=ignored``.
        cut: ``windows`` of one size beside each other, or ``crops`` as MoNuSAC is published: random ones to
            train on, the central square to test on.
        window: side of a window in the images' pixels; None: 250 of CoNSeP, else 256.
        overlap: of neighbouring windows of test images, pixels; where they overlap they are averaged.
        crops: of each training image, with ``cut`` crops.
        kept: what tokens are kept as.
        scratch: folder for tokens, which go at the end unless ``how`` has a ``cache``; None: the system's.
        pictures: test images that are drawn.
        seed: of decoders, crops, random weights and bootstrap.
        decoder, objects, baselines, how: see there.
    """

    layout: Annotated[Layout, Setting("Of the folders. auto: found by what is in them.", IMAGES)] = "auto"
    classes: Annotated[
        str | None,
        Setting(
            "Names: of the values 1, 2, ... as in tumour,stroma; or of values, colours or names in files, "
            "as in 3=tumour,#00ff00=stroma,5=ignored. Default: as the files have them.",
            IMAGES,
        ),
    ] = None
    cut: Annotated[
        Cut, Setting("windows, or crops as published for MoNuSAC. auto: by the data set.", IMAGES)
    ] = "auto"
    window: Annotated[
        int | None, Setting("Side of windows in pixels of the images. Default: 256; CoNSeP 250.", IMAGES)
    ] = None
    overlap: Annotated[
        int, Setting("Pixels that windows of test images overlap by; they are averaged.", IMAGES)
    ] = 0
    crops: Annotated[
        int, Setting("Random crops of each training image that are kept, with `cut` crops.", IMAGES)
    ] = 32
    kept: Annotated[Kept, Setting("What tokens are kept as.", "Running", "tokens")] = "float16"
    scratch: Annotated[
        Path | None, Setting("Folder for tokens that go. Default: the system's.", "Running")
    ] = None
    pictures: Annotated[int, Setting("Test images that are drawn, with an output folder.", "Output")] = 4
    seed: Annotated[int, Setting("Of decoders, crops, random weights and bootstrap, from 0.", DECODER)] = 0
    decoder: DecoderParams = field(default_factory=DecoderParams)
    objects: ObjectParams = field(default_factory=ObjectParams)
    baselines: DenseBaselines = field(default_factory=DenseBaselines)
    how: KeptHow = field(default_factory=KeptHow)

    def __post_init__(self) -> None:
        check(
            {
                "`layout` must be one of " + ", ".join(get_args(Layout)): self.layout in get_args(Layout),
                "`cut` must be auto, windows or crops": self.cut in get_args(Cut),
                "`window` must be at least 16": self.window is None or self.window >= 16,
                "`overlap` must not be negative": self.overlap >= 0,
                "`crops` must be above 0": self.crops >= 1,
                "`tokens` must be float16 or float32": self.kept in get_args(Kept),
                "`pictures` must not be negative": self.pictures >= 0,
                "`seed` must not be negative": self.seed >= 0,
                "`readout`: segmentation takes the patch tokens; leave it out": self.how.readout
                in (None, "patches"),
                "`resize`: windows are cut by `window`; leave it out": self.how.short is None,
            }
        )
