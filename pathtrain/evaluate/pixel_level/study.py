"""Segmentation: the published decoder on a frozen encoder's patch tokens, beside its baselines.

The protocol is kaiko eva's, by which the Midnight paper's CoNSeP and MoNuSAC columns are made: windows of the
images at the encoder's size, patch tokens of its last layer, the decoder of
pathtrain.evaluate.pixel_level.decoder, and the training of pathtrain.evaluate.pixel_level.training.

    model, start, random   decoders on their tokens; all see the normalised RGB besides, as published
    colour                 the same decoder without tokens: what the RGB branch alone makes of 5 x 5 pixels

Other than published: tokens are those after the last norm (eva takes timm's before it, DINOv2's after it);
they are kept in float16; and the best epoch on the test images is taken only if that is asked for.
"""

import logging
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pathprep.errors import UsageError
from pathprep.params.settings import build
from pathprep.storage.workspace import scratch_folder, workspace
from pathprep.words import counted, size_in_words
from pathtrain.data.segmented.images import Images, check_apart, open_images
from pathtrain.data.segmented.numbering import numbered, preset_of
from pathtrain.data.segmented.presets import Preset
from pathtrain.distributed.workers import pick_device
from pathtrain.evaluate.baselines import COLOUR, Beside
from pathtrain.evaluate.pixel_level import windows
from pathtrain.evaluate.pixel_level.tokens import Tokens, tokens_of
from pathtrain.evaluate.pixel_level.trials import Kinds, Trials
from pathtrain.evaluate.pixel_level.windows import Box, Windows
from pathtrain.evaluate.statistics import describe
from pathtrain.evaluate.units import Scored
from pathtrain.features.encode import check_size, resampled, tensor_cores
from pathtrain.features.progress import TileProgress
from pathtrain.params.segmentation import SegmentationParams
from pathtrain.runs.model import LoadedModel, Model
from pathtrain.runs.opening import opened
from pathtrain.stain.normaliser import normaliser

log = logging.getLogger(__name__)

TRAIN, VAL, TEST = "train", "val", "test"
WINDOW = 256  # pixels, where no data set says another


def segmentation(
    model: Model,
    train: str | Path,
    test: str | Path | None = None,
    val: str | Path | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Score a model by a decoder on its patch tokens; see the module's text.

    Args:
        model: the encoder, or its run or exported folder.
        train: a folder of images and masks, or a CSV; see pathtrain.data.segmented.layouts.
        test: another; None: the images of ``train`` whose split is test.
        val: another, by which the weights are chosen.
        out: folder for pictures of test images; None: none are drawn.
        settings: of SegmentationParams, by their flat names: ``size=392, steps=500, seeds=1``.

    Returns:
        JSON-able: what was done, counts, ``baselines``, and ``results``: per kind of features the figures of
        pathtrain.evaluate.pixel_level.scoring with their intervals over groups, values of each seed, each
        class's figures, and the model's lead over them.

    Raises:
        UsageError, DatasetError: images and masks that do not fit, a group on both sides, or a setting.
        TrainError: a decoder's training diverges.
        ModelError, CheckpointError: the model cannot be read, or gives no grid of patches.
    """
    return segmentation_scored(model, train, test, val, out, **settings).result


def segmentation_scored(
    model: Model,
    train: str | Path,
    test: str | Path | None = None,
    val: str | Path | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> Scored:
    """``segmentation`` with the units of its figures; raises as it."""
    params = build(SegmentationParams, settings)
    found = opened(model, params.how.weights, "patches")
    paths = {TRAIN: Path(train), TEST: Path(train if test is None else test)}
    if val is not None:
        paths[VAL] = Path(val)
    if params.decoder.select == VAL and val is None:
        raise UsageError("`select` val: give the images to select by, `val`")
    sets = [open_images(path, side) for side, path in paths.items()]
    check_apart(sets)
    preset = preset_of(params.layout, sets)
    sets, classes = numbered(sets, preset, params.classes)
    sides = dict(zip(paths, sets, strict=True))
    study = Study(found, sides, classes, preset, params, None if out is None else Path(out))
    return study.scored()


@dataclass(frozen=True)
class Study:
    """A model, images with masks, and how it is scored on them.

    Attributes:
        model: with the read-out patches. sides: train, test and perhaps val. classes: background first.
        preset: of a published data set. out: folder of pictures.
    """

    model: LoadedModel
    sides: dict[str, Images]
    classes: list[str]
    preset: Preset | None
    params: SegmentationParams
    out: Path | None

    @property
    def crops(self) -> bool:
        """Whether windows are random crops and central squares."""
        cut = self.params.cut
        return cut == "crops" or (cut == "auto" and self.preset is not None and self.preset.crops)

    @property
    def window(self) -> int:
        """Side of windows, pixels of the images."""
        preset = None if self.preset is None else self.preset.window
        return self.params.window or preset or WINDOW

    @property
    def select(self) -> str:
        """Which weights are scored."""
        chosen = self.params.decoder.select
        return chosen if chosen != "auto" else VAL if VAL in self.sides else "last"

    def scored(self) -> Scored:
        """Encode, train, score."""
        model, params = self.model, self.params
        size = check_size(model, params.how.size)
        how = replace(params.how, size=size)
        if self.window <= params.overlap and not self.crops:
            raise UsageError(f"`overlap` {params.overlap}: must be below `window`, {self.window}")
        shape = model.shape(size)
        if round(shape[0] ** 0.5) ** 2 != shape[0]:
            raise UsageError(
                f"{model.name}: its {shape[0]} patches are no square grid, which the decoder needs"
            )
        beside = Beside.of(model, params.baselines, params.seed)
        networks = [network for each in beside.networks.values() for network in each]
        boxes = {side: self._boxes(side, images) for side, images in self.sides.items()}
        for side, images in self.sides.items():
            log.info(
                "%s: %s, %s, %d without an object",
                side,
                counted(len(images), "image"),
                counted(sum(map(len, boxes[side])), "window"),
                images.account.empty,
            )
        scratch = scratch_folder(f"segmentation {model.fingerprint}", params.scratch)
        with workspace(scratch, "segmentation") as folder:
            self._room(folder, boxes, shape, size, len(networks))
            cut: dict[str, Windows] = {}
            tokens: dict[str, list[Tokens]] = {}
            progress = TileProgress(sum(len(own) for every in boxes.values() for own in every), "encode")
            for side, images in self.sides.items():
                cut[side] = windows.cut(
                    images, boxes[side], size, folder / side, normaliser(model.target, None),
                    self.crops and side == TRAIN,
                )  # fmt: skip
                tokens[side] = tokens_of(
                    networks, cut[side], how, params.kept, folder / side, how.cache, progress.advance
                )
                progress.line(f"{side}: {counted(len(cut[side]), 'window')}")
            with tensor_cores(pick_device(how.device)):
                trials = Trials(model, cut, self.classes, params, self.select, self.out)
                rows, units = trials.run(self._kinds(beside, tokens))
            return Scored(self._result(beside, cut, rows, size, trials.ceiling()), units)

    def _boxes(self, side: str, images: Images) -> list[list[Box]]:
        rng = np.random.default_rng(self.params.seed)
        found = []
        for height, width in images.account.sides.tolist():
            if self.crops and side == TRAIN:
                found.append(windows.random_crops(height, width, self.params.crops, rng))
            elif self.crops:
                found.append(windows.centre(height, width))
            else:
                overlap = self.params.overlap if side == TEST else 0
                found.append(windows.side_by_side(height, width, self.window, overlap))
        return found

    def _room(
        self,
        folder: Path,
        boxes: dict[str, list[list[Box]]],
        shape: tuple[int, ...],
        size: int,
        networks: int,
    ) -> None:
        """Refuse to begin what the disk cannot hold.

        Raises:
            UsageError: it cannot.
        """
        each = 4 * size * size + networks * int(np.prod(shape)) * np.dtype(self.params.kept).itemsize
        needed = each * sum(len(own) for every in boxes.values() for own in every)
        free = shutil.disk_usage(folder).free
        log.info("windows and tokens: %s in %s", size_in_words(needed), folder)
        if needed > free:
            raise UsageError(
                f"{folder}: {size_in_words(free)} free, windows and tokens take {size_in_words(needed)}; "
                "give another folder with `scratch`, fewer `crops`, or fewer `baselines`"
            )

    def _kinds(self, beside: Beside, tokens: dict[str, list[Tokens]]) -> Kinds:
        """Tokens by kind of features, network and side."""
        kinds: dict[str, list[dict[str, Tokens | None]]] = {}
        place = 0
        for name, several in beside.networks.items():
            kinds[name] = [
                {side: own[place + n] for side, own in tokens.items()} for n in range(len(several))
            ]
            place += len(several)
        if COLOUR in self.params.baselines:
            kinds[COLOUR] = [dict.fromkeys(tokens)]
        return kinds

    def _result(
        self,
        beside: Beside,
        cut: dict[str, Windows],
        rows: list[dict[str, Any]],
        size: int,
        ceiling: dict[str, float | None],
    ) -> dict[str, Any]:
        params, test = self.params, self.sides[TEST]
        selected = {"last": "the last weights", VAL: "the best epoch on val"}.get(
            self.select, "the best epoch on the test images, as published: optimistic"
        )
        how = "random crops, tested on central squares" if self.crops else f"windows of {self.window} px"
        return {
            "task": "segmentation",
            "protocol": f"kaiko eva's decoder with image, {how} at {size} px, {selected}",
            "model": describe(self.model),
            "layout": params.layout if params.layout != "auto" else test.layout,
            "preset": None if self.preset is None else self.preset.source,
            **{side: str(images.path) for side, images in self.sides.items()},
            "size": size,
            "cut": "crops" if self.crops else "windows",
            "window": None if self.crops else self.window,
            "overlap": params.overlap,
            "crops": params.crops if self.crops else None,
            **resampled(self.model, size),
            "tokens": {"of": "the last layer, after the last norm", "kept": params.kept},
            "decoder": {
                **asdict(params.decoder),
                "select": self.select,
                "power": 0.9,
                "stepped": "per epoch",
            },
            "precision": params.how.precision,
            "seed": params.seed,
            "classes": self.classes,
            "images": {side: len(images) for side, images in self.sides.items()},
            "windows": {side: len(each) for side, each in cut.items()},
            "empty_images": {side: images.account.empty for side, images in self.sides.items()},
            "left_out_rows": {side: images.bare for side, images in self.sides.items()},
            "groups": len({place.group for place in test.places}),
            "group_kind": "group" if test.grouped else "image",
            "stain": {side: each.normaliser.statuses for side, each in cut.items() if each.normaliser},
            "objects": {
                "given": test.account.instances,
                "made_by": "a watershed of the decoder's classes by distance to background: it is semantic",
                **asdict(params.objects),
                "of_true_classes": ceiling or None,
            },
            "baselines": beside.about | self._colour(),
            "results": rows,
        }

    def _colour(self) -> dict[str, dict[str, Any]]:
        if COLOUR not in self.params.baselines:
            return {}
        return {COLOUR: {"is": "the same decoder without tokens: normalised RGB of 5 x 5 pixels"}}
