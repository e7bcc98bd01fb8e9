"""What is given to ``embed``: a dataset, an image folder, or slides."""

from collections.abc import Sequence
from pathlib import Path

from pathprep.errors import UsageError
from pathprep.folders import is_mixed
from pathprep.params.running import AnyPath
from pathprep.storage import tables
from pathprep.storage.place import storage_at
from pathprep.surveys import folder as survey
from pathprep.words import command
from pathtrain.data.whole_tiles import LABELS_FILE


def are_slides(sources: Sequence[AnyPath]) -> bool:
    """Whether these are slides: files, folders of slides, CSVs, several of them; else they are one dataset,
    or one folder of images.

    Raises:
        UsageError: nothing is given, what is not there, a survey, or a dataset or image folder beside others.
    """
    if not sources:
        raise UsageError("nothing is given: a dataset, a folder of images with a labels.csv, or slides")
    stored = {}
    for source in sources:
        kind = _stored(source)
        if kind is not None:
            stored[str(source)] = kind
    if stored and len(sources) > 1:
        name, kind = next(iter(stored.items()))
        raise UsageError(f"{name}: {kind}; give it alone, or slides only")
    return not stored


def _stored(source: AnyPath) -> str | None:
    """What of stored tiles a source is; None for slides."""
    storage = storage_at(source)
    if isinstance(storage.root, Path) and not storage.root.is_dir():
        if not storage.root.exists():  # said before gigabytes of weights are fetched
            raise UsageError(f"{source}: no such file or folder")
        return None
    if storage.exists("dataset.json"):
        return "a dataset"
    if storage.exists(survey.NAME):
        raise UsageError(
            f"{source}: a survey, which says where tissue is and holds no tiles; give the slides themselves, "
            f"as in {command('pathtrain embed MODEL slides/')}"
        )
    if isinstance(storage.root, Path) and storage.exists(LABELS_FILE) and not _of_slides(storage.root):
        return f"a folder of images ({LABELS_FILE})"
    return "mixed shards" if is_mixed(source) else None


def _of_slides(folder: Path) -> bool:
    """Whether a folder's labels are those of slides that lie there, not of images: they name no files."""
    try:
        columns = tables.read(folder / LABELS_FILE).columns
    except UsageError:  # said again by whoever takes the images
        return False
    return "slide" in columns and "file" not in columns
