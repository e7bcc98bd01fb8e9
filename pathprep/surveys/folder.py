"""The folder of a survey, which training draws tiles from as it reads them from the slides.

    survey.json             FORMAT, its version, the parameters, and their hash (the build id); sealed
    slides/<slide>.json     a slide (record)
    failed/<slide>.json     a slide that could not be surveyed, and why

A slide counts if its file is whole and of this build; everything else is surveyed again.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any

from pathprep.dataset.schema import build_id
from pathprep.errors import DatasetError, UsageError
from pathprep.storage import atomic
from pathprep.storage.json_files import read_json
from pathprep.storage.place import storage_at
from pathprep.storage.seals import Seal, seal_of, write_sealed
from pathprep.surveys import record
from pathprep.surveys.record import Surveyed
from pathprep.words import command

NAME, FORMAT, VERSION = "survey.json", "pathprep-survey", 1
FOLDERS = ("slides", "failed")
READERS = 8  # small files wait more than they work
KEYS = {"format", "version", "build_id", "params", "seal"}


def is_survey(root: PurePath | str) -> bool:
    """Whether a folder holds a survey."""
    storage = storage_at(root)
    return isinstance(storage.root, Path) and storage.exists(NAME)


def made(params: Mapping[str, Any]) -> dict[str, Any]:
    """What survey.json says for these parameters, but for the seal."""
    return {"format": FORMAT, "version": VERSION, "build_id": build_id(params), "params": dict(params)}


def is_whole(values: Mapping[str, Any]) -> bool:
    """Whether the JSON of a survey.json is as it was written."""
    right = seal_of(values) is Seal.WHOLE and values.get("format") == FORMAT and values.keys() == KEYS
    return right and isinstance(values["params"], dict) and build_id(values["params"]) == values["build_id"]


def info_of(root: Path) -> dict[str, Any]:
    """What survey.json says.

    Raises:
        DatasetError: it is absent, damaged, or of another version; says what to do.
    """
    values = read_json(root / NAME)
    again = command("pathprep survey SLIDES --out", root)
    if values is None and not (root / NAME).exists():
        raise DatasetError(f"{root}: not a survey (no {NAME}); make one with {again}")
    if values is not None and is_whole(values):
        if values["version"] != VERSION:
            raise DatasetError(
                f"{root}: a survey of version {values.get('version')}, this pathprep reads version {VERSION}"
                f"; survey the slides again: {again} --rebuild"
            )
        return values
    raise DatasetError(
        f"{root / NAME}: damaged; {again}, with the options that it was made with, writes it anew and keeps "
        "every slide"
    )


def names(root: Path) -> list[str]:
    """Slides that have a file, sorted."""
    found = (root / "slides").glob("*.json")
    return sorted(path.stem for path in found if not path.name.startswith(atomic.PREFIX))


def write_info(root: Path, params: Mapping[str, Any]) -> None:
    """Write survey.json, atomically."""
    write_sealed(root / NAME, made(params))


class Survey:
    """The slides of a survey, in the order of their names, without their masks' pixels (``record.light``).

    Args:
        root: the folder.

    Attributes:
        info: what survey.json says. slides: name -> slide.
        contents: name -> hash of what decides which tiles the slide gives.

    Raises:
        DatasetError: it is no survey, a file of it is damaged, or it has no slide.
        UsageError: a URL.
    """

    def __init__(self, root: PurePath | str) -> None:
        storage = storage_at(root)
        if not isinstance(storage.root, Path):
            raise UsageError(f"{root}: a survey lies in a local folder; copy it here")
        self.root = storage.root
        self.info = info_of(self.root)
        with ThreadPoolExecutor(READERS) as pool:
            read = list(pool.map(self._read, names(self.root)))
        ours = [each for each in read if each[0].build_id == self.info["build_id"]]
        self.slides = {slide.slide: slide for slide, _ in ours}
        self.contents = {slide.slide: content for slide, content in ours}
        if not self.slides:
            failed = any((self.root / "failed").glob("*.json"))
            why = "; its failed/ says why" if failed else ""
            again = command("pathprep survey SLIDES --out", self.root)
            raise DatasetError(f"{self.root}: an empty survey, with no slide to be used{why}; see {again}")

    def _read(self, name: str) -> tuple[Surveyed, str]:
        found = self.slide(name)
        return found.light, found.content()

    def slide(self, name: str) -> Surveyed:
        """A slide with its mask.

        Raises:
            DatasetError: its file is damaged or gone.
        """
        found = record.read(self.root / "slides" / f"{name}.json")
        if found is None:
            again = command("pathprep survey SLIDES --out", self.root)
            raise DatasetError(
                f"{self.root}/slides/{name}.json: damaged or gone; {again} surveys the slide again"
            )
        return found
