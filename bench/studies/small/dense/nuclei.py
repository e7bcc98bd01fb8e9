"""CoNSeP's nuclei by a decoder on frozen patch tokens: `pathtrain evaluate segmentation` for many encoders.

27 fields train the decoder and others test it; a field is a group, which is drawn whole. The figure is the
Dice of images, each of the four classes over the tiles that hold it, then their mean. The decoder is the
published one and sees the RGB beside the tokens; it is trained for fewer steps than published, alike for all.
Beside the encoders stands the same decoder without tokens, at each size that an encoder sees: ``colour
decoder``. Of a convolutional network the cells of the last map are the tokens, at 32 px each: a grid coarser
than that of a ViT.

Trained decoders are kept by weights, size and settings, so that what is scored once is not scored again.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from pathprep.errors import UsageError
from pathprep.storage import atomic
from pathtrain.evaluate.pixel_level.study import segmentation_scored
from pathtrain.evaluate.units import Units
from pathtrain.recipes.strict import Strict
from pathtrain.runs.model import LoadedModel
from small.core import paired
from small.core.config import Study
from small.core.encoders import Encoder
from small.core.tiles import check_side

TASK = "CoNSeP segmentation, Dice"
CLASSES = "other,inflammatory,epithelial,spindle"
COLOUR_DECODER = "colour decoder"
FIGURE = "dice_image"


class Segmentation(Strict):
    """How decoders are trained.

    Attributes:
        tiles: of each field at most, of 16 tiles of 256 px; the same for all encoders.
        window: side in pixels of what an encoder sees of a tile at once.
        size: that windows are resized to; none: each encoder's own.
        steps, batch, lr: of AdamW.
    """

    tiles: Annotated[int, Field(ge=1)] = 8
    window: Annotated[int, Field(ge=32, le=256)] = 256
    size: Annotated[int, Field(ge=32)] | None = None
    steps: Annotated[int, Field(ge=1)] = 120
    batch: Annotated[int, Field(ge=2)] = 8
    lr: Annotated[float, Field(gt=0)] = 0.004


def segmentation(
    study: Study,
    encoders: Sequence[Encoder],
    settings: Segmentation,
    against: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Score encoders.

    Args:
        against: encoder -> those that it is compared with, as paired.rows takes it; ``colour_at`` names the
            decoder without tokens of a size.

    Returns:
        ``rows``, see paired.rows; ``classes``: encoder -> class -> Dice; ``fields`` and ``tiles`` that are
        tested;
        ``missing``: encoder -> why it has no row.

    Raises:
        TestGroups: before the choice is made. UsageError: none of them has a row.
    """
    check_side(study, "test")
    table = index(study, settings.tiles)
    units: dict[str, list[Units]] = {}
    missing: dict[str, str] = {}
    for encoder in encoders:
        size = settings.size or encoder.size
        colour = colour_at(size)
        try:
            found = [
                units_of(study, table, model, size, settings, seed, seed == 0 and colour not in units)
                for seed, model in enumerate(encoder.models)
            ]
        except UsageError as error:  # no grid of patches, or not at this size
            missing[encoder.name] = str(error)
            continue
        units[encoder.name] = [each["model"] for each in found]
        if "colour" in found[0]:
            units.setdefault(colour, [found[0]["colour"]])
    if not units:
        raise UsageError(f"no encoder can segment: {'; '.join(map(': '.join, missing.items()))}")
    groups = next(iter(units.values()))[0].groups
    if any(each.groups != groups for several in units.values() for each in several):
        raise UsageError(f"{study.work / 'dense'}: kept scores are of other fields; remove the folder")
    own = {name: [each.figure for each in several] for name, several in units.items()}
    return {
        "rows": paired.rows(TASK, own, len(groups), against),
        "classes": {name: _by_class(several) for name, several in units.items()},
        "fields": len(groups),
        "tiles": settings.tiles * len(groups),
        "missing": missing,
    }


def colour_at(size: int) -> str:
    """What the decoder without tokens is called at a size in pixels."""
    return f"{COLOUR_DECODER}, {size} px"


def index(study: Study, tiles: int) -> Path:
    """A table of so many tiles of each field, evenly over it, with their masks of classes; made once.

    Masks of objects are left out: what a watershed makes of a decoder's classes is not compared here, and is
    slow.
    """
    where = study.work / "dense" / f"consep-{tiles}.csv"
    if not where.is_file():
        source = study.data / "consep"
        with (source / "index.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        fields: dict[str, list[dict[str, str]]] = {}
        for row in rows:
            fields.setdefault(row["group"], []).append(row)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["file", "class_mask", "group", "split"])
        for own in fields.values():
            for place in np.linspace(0, len(own) - 1, min(tiles, len(own))).round().astype(int):
                row = own[place]
                paths = [(source / row[key]).resolve() for key in ("file", "class_mask")]
                writer.writerow([*map(str, paths), row["group"], row["split"]])
        where.parent.mkdir(parents=True, exist_ok=True)
        atomic.write_bytes(where, text.getvalue().encode())
    return where


def units_of(
    study: Study,
    table: Path,
    model: LoadedModel,
    size: int,
    settings: Segmentation,
    seed: int,
    colour: bool,
) -> dict[str, Units]:
    """The units of a model's Dice, a column per class, and those of the decoder without tokens if asked for.

    Args:
        seed: of the decoder's first weights and order.
    """
    said = [model.fingerprint, size, settings.model_dump(), seed, table.name]
    name = hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]
    where = study.work / "dense" / f"{name}.json"
    if where.is_file():
        found = {kind: _read(each) for kind, each in json.loads(where.read_text()).items()}
        if not colour or "colour" in found:
            return found
    every = segmentation_scored(
        model,
        table,
        classes=CLASSES,
        window=settings.window,
        size=size,
        steps=settings.steps,
        decoder_batch=settings.batch,
        lr=settings.lr,
        seed=seed,
        seeds=1,
        baselines="colour" if colour else "none",
        threads=study.common.threads,
        scratch=where.parent,
    ).units
    found = {kind: every[kind, FIGURE] for kind in ("model", "colour") if (kind, FIGURE) in every}
    atomic.write_json(where, {kind: _plain(each) for kind, each in found.items()})
    return found


def _plain(units: Units) -> dict[str, Any]:
    return {"groups": units.groups, "sums": units.sums.tolist(), "counts": units.counts.tolist()}


def _read(value: Mapping[str, Any]) -> Units:
    return Units(tuple(value["groups"]), np.array(value["sums"]), np.array(value["counts"]))


def _by_class(several: Sequence[Units]) -> dict[str, float]:
    """Dice of each class, the mean over seeds."""
    found = np.mean([each.sums.sum(axis=0) / each.counts.sum(axis=0) for each in several], axis=0)
    return dict(zip(CLASSES.split(","), map(float, found), strict=True))


def markdown(result: Mapping[str, Any]) -> str:
    """The result as tables."""
    classes = CLASSES.split(",")
    lines = [paired.table(result["rows"]), "", f"| encoder | {' | '.join(classes)} |", "| --- " * 5 + "|"]
    for name, found in result["classes"].items():
        lines.append(f"| {name} | {' | '.join(f'{found[each]:.3f}' for each in classes)} |")
    lines += [
        "",
        f"{result['tiles']} tiles of {result['fields']} fields are tested; intervals are over fields.",
    ]
    lines += [f"{name} has no row: {why}" for name, why in result["missing"].items()]
    return "\n".join(lines)
