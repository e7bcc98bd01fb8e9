"""Images with masks, whatever wrote them: pixels, classes by one numbering, and objects."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from pathprep.errors import DatasetError, UsageError
from pathprep.images import limits
from pathprep.storage import regular
from pathprep.words import counted
from pathtrain.data.segmented import layouts, mask_files, pannuke, shapes
from pathtrain.data.segmented.layouts import NAMED, Place
from pathtrain.data.segmented.truth import Said, Truth
from pathtrain.images import Pixels, decode

log = logging.getLogger(__name__)

MOST_VALUE = 1 << 24


@dataclass(frozen=True)
class Account:
    """What the masks of a set hold, counted when it is opened.

    Attributes:
        names: what files call classes, each with the first image that has it.
        empty: images without an object. covered: without background.
        instances: whether objects are given, of every image.
        sides: (N, 2) height and width.
    """

    names: dict[str, str]
    empty: int
    covered: int
    instances: bool
    sides: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Images:
    """The images of one side: of training, validation or test.

    Attributes:
        path: where they lie. layout: how.
        places: the images. grouped: whether their groups are named; else each image is its own.
        account: what their masks hold.
        bare: rows of a table that have no image or mask.
        numbers: what files call classes -> class number, set by ``numbered``.
    """

    path: Path
    layout: str
    places: list[Place]
    grouped: bool
    account: Account
    bare: int
    numbers: dict[str, int]

    def __len__(self) -> int:
        return len(self.places)

    def pixels(self, number: int) -> Pixels:
        """(H, W, 3) of an image."""
        return picture(self.places[number])

    def truth(self, number: int) -> Truth:
        """Of an image."""
        place = self.places[number]
        found = said(place)
        values = found.values
        if values is None:
            assert found.instances is not None
            values, names = (found.instances > 0).astype(np.int32), {1: shapes.OBJECT}
        else:
            names = found.names
        if values.max() >= MOST_VALUE:  # colours are below
            raise DatasetError(
                f"{place.mask}: has the value {values.max():,}; less than {MOST_VALUE:,} are read"
            )
        table = np.zeros(int(values.max()) + 1, np.uint8)
        table[0] = self.numbers.get(found.zero, 0)  # background, unless it is given another name
        for value, name in names.items():
            if value < len(table):  # a class that others cover whole has no pixel, and maybe no number
                table[value] = self.numbers.get(name.lower(), 0)
        return Truth(table[values], found.instances)


def open_images(path: Path, side: str) -> Images:
    """The images of a folder for a side: those of its split, where the folder has splits with that name.

    Args:
        side: train, val or test.

    Raises:
        UsageError, DatasetError: as layouts.places; or an image or a mask is damaged, or they do not fit.
    """
    layout, places, grouped, bare = layouts.places(path)
    chosen = [place for place in places if place.split == side]
    if not chosen:
        others = sorted({place.split for place in places} - {""})
        if len(others) > 1:
            raise UsageError(f"{path}: has the splits {', '.join(others)}, none called {side}")
        # a split alone is a folder that was given for this side, whatever it is called
        chosen = [place for place in places if not place.split] or places
    if bare:
        log.info("%s: left out: %s without an image or a mask", path, counted(bare, "row"))
    return Images(path, layout, chosen, grouped, _account(chosen), bare, {})


def _account(places: Sequence[Place]) -> Account:
    names: dict[str, str] = {}
    sides, empty, covered, objects = [], 0, 0, Counter[bool]()
    for place in places:
        found = said(place)
        height, width = picture(place).shape[:2]
        for array in (found.values, found.instances):
            if array is not None and array.shape != (height, width):
                turned = "; it looks transposed" if array.shape == (width, height) else ""
                raise DatasetError(
                    f"{place.mask or place.objects}: a mask of {array.shape[1]}x{array.shape[0]} px for "
                    f"{place.image} of {width}x{height} px{turned}: save it at the image's size"
                )
        sides.append((height, width))
        objects[found.instances is not None] += 1
        there = {1: shapes.OBJECT} if found.values is None else found.names
        used = found.instances if found.values is None else found.values
        assert used is not None
        empty += not used.any()
        covered += bool(used.all())
        for value, name in there.items():
            # objects without a class are numbered by themselves
            if name not in names and (used.any() if found.values is None else (used == value).any()):
                names[name] = place.name
    if len(objects) > 1:
        log.info("objects are given for %d of %d images, so none are looked at", objects[True], len(places))
    return Account(names, empty, covered, objects[False] == 0, np.array(sides, np.int64))


def picture(place: Place) -> Pixels:
    """The pixels (H, W, 3) of an image.

    Raises:
        DatasetError: it is damaged.
    """
    if place.row is not None:
        return pannuke.pixels(place.image, place.row)
    try:
        data = regular.read(place.image, limits.MOST_BYTES)
    except OSError as error:
        raise DatasetError(f"{place.image}: {limits.reason(error)}") from None
    if place.image.suffix.lower() == ".svs":
        return _first_page(place.image)
    return decode(data, str(place.image))


def _first_page(path: Path) -> Pixels:
    """A small slide whole: MoNuSAC has its fields as SVS too."""
    try:
        with tifffile.TiffFile(path) as file:
            limits.check(file.pages[0].shape[1], file.pages[0].shape[0])
            found: npt.NDArray[Any] = np.asarray(file.pages[0].asarray())
    except Exception as error:
        raise DatasetError(f"{path}: cannot be read ({limits.reason(error)})") from None
    if found.dtype != np.uint8 or found.ndim != 3 or found.shape[2] not in (3, 4):
        raise DatasetError(f"{path}: {found.dtype} of {found.shape}; expected 8-bit RGB")
    return np.ascontiguousarray(found[..., :3])


def said(place: Place) -> Said:
    """What an image's files say.

    Raises:
        DatasetError: they are damaged, or do not fit each other.
    """
    if place.row is not None:
        assert place.mask is not None
        return pannuke.said(place.mask, place.row)
    objects = None if place.objects is None else mask_files.read_instances(place.objects)
    if place.mask is None:
        return Said(None, {}, objects)
    if place.mask.name.lower().endswith(shapes.ENDINGS):
        height, width = picture(place).shape[:2]
        found = shapes.as_said(place.mask, height, width)
    else:
        found = mask_files.read_classes(place.mask)
    return found if objects is None else replace(found, instances=objects)


def check_apart(sets: Sequence[Images]) -> None:
    """Refuse a group, or a file, that is on two sides.

    Raises:
        UsageError: one is.
    """
    for place, first in enumerate(sets):
        for other in sets[place + 1 :]:
            files = {(each.image.resolve(), each.row) for each in first.places}
            twice = [each for each in other.places if (each.image.resolve(), each.row) in files]
            if twice:
                raise UsageError(
                    f"{other.path}: {twice[0].name} is in {first.path} too, {counted(len(twice), 'image')} "
                    "in all; give other folders, or a CSV with a column split"
                )
            if first.grouped and other.grouped:
                shared = sorted({each.group for each in first.places} & {each.group for each in other.places})
                if shared:
                    raise UsageError(
                        f"{other.path}: shares the groups {', '.join(shared[:NAMED])} with {first.path} "
                        f"({len(shared)} in all); images of one patient are alike, so none may be on both "
                        "sides: split by patient"
                    )
