"""Where the images and masks of a folder lie.

table     index.csv, labels.csv, or a CSV itself: columns file, mask (or class_mask, xml, geojson, mat),
          perhaps inst, group (or patient), split
pannuke   images.npy (N, 256, 256, 3) and masks.npy (N, 256, 256, 6), perhaps types.npy, somewhere below
pairs     images and files of the same name beside them, or in folders beside theirs: masks, labels,
          annotations, ...; CoNSeP, MoNuSAC and MoNuSeg are so
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pathprep.errors import DatasetError, UsageError
from pathprep.storage import cells, tables
from pathprep.storage.tables import Columns
from pathprep.words import counted
from pathtrain.data.segmented import mask_files, shapes

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".svs")
TABLES = ("index.csv", "labels.csv")
TRUTH = (
    *("class_mask", "mask", "masks", "mask_file", "mask_path", "label_mask", "classmask", "type_map"),
    *("xml", "geojson", "mat", "annotation", "annotations", "truth", "segmentation"),
)
OBJECTS = ("inst", "instances", "instance", "instance_mask", "inst_mask", "inst_map")
# Folders beside that of the images, in small letters: of classes, and of objects alone
MASKS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "class", "classes", "gt"),
    *("ground truth", "groundtruth", "segmentation", "geojson", "xml", "mat", "truth"),
)
INSTANCES = ("inst", "instances", "instance")
SUFFIXES = re.compile(
    r"[-_ ](mask|masks|label|labels|gt|seg|segmentation|annotation|class|inst)$", re.IGNORECASE
)
SPLITS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation", "tune"), "val"
)
NAMED = 3


@dataclass(frozen=True)
class Place:
    """An image and where its truth lies.

    Attributes:
        name: what messages and results call it.
        image: its file; of PanNuke images.npy.
        masks: files of classes or outlines; several if each is of one image's part.
        objects: file of objects; None if the other one has them, or none are given.
        group: none on both sides; ``split``: train, val, test or "".
        row: of arrays of several images.
        kind: tissue, where it is told.
    """

    name: str
    image: Path
    mask: Path | None
    objects: Path | None
    group: str
    split: str
    row: int | None = None
    kind: str = ""


def places(path: Path) -> tuple[str, list[Place], bool, int]:
    """The images of a folder or CSV.

    Returns:
        Its layout; the images; whether it names groups; and how many rows of a table had no image or mask.

    Raises:
        UsageError, DatasetError: nothing that is known lies there, or an image has no mask.
    """
    if not path.exists():
        raise UsageError(f"{path}: no such folder")
    table = (
        path if path.is_file() else next((path / name for name in TABLES if (path / name).is_file()), None)
    )
    if table is not None:
        return _of_table(table)
    arrays = sorted(path.rglob("images.npy"))
    if arrays:
        return "pannuke", [each for array in arrays for each in _of_arrays(array, path)], False, 0
    return "pairs", *_of_pairs(path)


def _of_table(path: Path) -> tuple[str, list[Place], bool, int]:
    table = tables.read(path)
    files = table.columns[table.first("file")]
    if "image" in table.columns and "field" in table.columns:
        files = table.columns["image"]
    by_plain = {tables.plain(name): cell for name, cell in reversed(list(table.columns.items()))}

    def column(names: tuple[str, ...]) -> list[str] | None:
        return next((by_plain[tables.plain(name)] for name in names if tables.plain(name) in by_plain), None)

    masks, objects = column(TRUTH), column(OBJECTS)
    if masks is None and objects is None:
        raise UsageError(
            f"{path}: no column of masks; call it mask, class_mask, xml, geojson, mat or inst; {table.has()}"
        )
    groups, splits = table.pick("group", Columns()), table.pick("split", Columns())
    found, bare = [], 0
    for row, file in enumerate(files):
        mask, inst = (cells.known(column[row]) if column else "" for column in (masks, objects))
        if not cells.known(file) or not (mask or inst):
            bare += 1
            continue
        for name in (file, mask, inst):
            if name and not (path.parent / name).is_file():
                raise DatasetError(f"{table.at(row)}: {path.parent / name} is not there")
        group = cells.known(groups[row]) if groups else ""
        split = cells.known(splits[row]).lower() if splits else ""
        found.append(
            Place(
                file,
                path.parent / file,
                path.parent / mask if mask else None,
                path.parent / inst if inst else None,
                group or file,
                SPLITS.get(split, split),
            )
        )
    if not found:
        raise DatasetError(f"{path}: no row has both an image and a mask")
    if len({place.name for place in found}) < len(found):
        raise UsageError(f"{path}: a file is listed twice; keep one row per file")
    return "table", found, groups is not None, bare


def _of_arrays(images: Path, root: Path) -> Iterator[Place]:
    from pathtrain.data.segmented.pannuke import check

    relative = images.relative_to(root)
    nearby = [images.with_name("masks.npy"), *sorted(root.rglob("masks.npy"))]
    # as published: Fold 1/images/fold1/images.npy and Fold 1/masks/fold1/masks.npy
    same = [each for each in nearby if each.is_file() and each.parent.name == images.parent.name]
    mask = next(iter(same or [each for each in nearby if each.is_file()]), None)
    if mask is None:
        raise DatasetError(f"{images}: no masks.npy beside it, nor below {root}")
    kinds = check(images, mask)
    for row, kind in enumerate(kinds):
        name = f"{relative.parent}/{row}" if str(relative.parent) != "." else str(row)
        yield Place(name, images, mask, None, f"{images.resolve().parent.name}/{row}", "", row, kind)


def _of_pairs(path: Path) -> tuple[list[Place], bool, int]:
    files = [each for each in path.rglob("*") if each.is_file() and not each.name.startswith(".")]
    files.sort(key=lambda each: (each.parent, each.stem, each.suffix.lower() == ".svs", each.suffix))
    truths: dict[tuple[Path, str], list[Path]] = defaultdict(list)
    for each in files:
        if _stem(each) and each.name.lower().endswith((*mask_files.ENDINGS, *shapes.ENDINGS)):
            truths[each.parent, _stem(each)].append(each)
    found, bare, taken = [], [], set[tuple[Path, str]]()
    for image in files:
        key = (image.parent, image.stem)
        if image.suffix.lower() not in PICTURES or not _is_image(image) or key in taken:
            continue  # a .svs of the same name as a .tif is the same picture: the first in order counts
        mask, objects = _beside(image, truths, MASKS, True), _beside(image, truths, INSTANCES, False)
        if mask is None and objects is None:
            bare.append(image)
            continue
        taken.add(key)
        parts = image.relative_to(path).parts
        group = image.parent.name if _of_patient(image) else str(image.relative_to(path).with_suffix(""))
        found.append(Place("/".join(parts), image, mask, objects, group, _split(parts[:-1])))
    bare = [image for image in bare if (image.parent, image.stem) not in taken]
    if not found:
        raise UsageError(
            f"{path}: no images with masks: neither a CSV ({' or '.join(TABLES)}), nor images.npy and "
            "masks.npy, nor images and masks of the same name beside them or in a folder masks"
        )
    if bare:
        names = ", ".join(str(image) for image in bare[:NAMED])
        raise DatasetError(
            f"{names}: {counted(len(bare), 'image')} without a mask, of {len(found) + len(bare)}; put the "
            "masks there (an empty one for an image without objects), or move the images away"
        )
    return found, any(place.group != place.name.rpartition(".")[0] for place in found), 0


def _stem(path: Path) -> str:
    """The name that it shares with its image."""
    name = path.name
    for ending in (".xml.gz", ".geojson.gz"):
        if name.lower().endswith(ending):
            return name[: -len(ending)]
    return path.stem


def _is_image(path: Path) -> bool:
    """Whether it is no mask by its folder or ending."""
    return path.parent.name.lower() not in (*MASKS, *INSTANCES, "overlay") and not SUFFIXES.search(path.stem)


def _beside(
    image: Path, truths: dict[tuple[Path, str], list[Path]], folders: tuple[str, ...], same: bool
) -> Path | None:
    """The mask of an image: in its own folder, or in one beside it or above."""
    candidates = []
    if same:
        own = [each for each in truths.get((image.parent, image.stem), []) if each != image]
        candidates += [each for each in own if not mask_like_picture(each)]
        candidates += [
            each
            for (folder, stem), several in truths.items()
            if folder == image.parent and SUFFIXES.sub("", stem) == image.stem and stem != image.stem
            for each in several
            if not stem.lower().endswith("inst")
        ]
    parent = image.parent.parent
    for (folder, stem), several in truths.items():
        if folder.parent == parent and folder.name.lower() in folders and _like(stem, image.stem):
            candidates += several
    return next(iter(candidates), None)


def _like(stem: str, image: str) -> bool:
    return image in (stem, SUFFIXES.sub("", stem))


def mask_like_picture(path: Path) -> bool:
    """Whether it may as well be an image, as it lies in the images' folder."""
    return path.suffix.lower() in PICTURES


def _of_patient(image: Path) -> bool:
    """MoNuSAC: a folder a patient, whose images are called as it is."""
    return image.stem.startswith(image.parent.name + "_")


def _split(parts: tuple[str, ...]) -> str:
    """The split that folders are named after, the innermost first."""
    for part in reversed(parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLITS:
                return SPLITS[word]
    return ""
