"""Which kind of folder is this: a dataset of slides or of imported tiles, mixed shards, a survey; open it."""

from collections.abc import Iterator
from pathlib import Path, PurePath

from pathprep.dataset import verify as verify_dataset
from pathprep.dataset.reader import Dataset
from pathprep.dataset.verify import Findings
from pathprep.errors import UsageError
from pathprep.mixed import format as mixed
from pathprep.mixed import verify as verify_mixed
from pathprep.mixed.reader import MixedDataset
from pathprep.pseudonyms.slides import key_of
from pathprep.storage.place import storage_at
from pathprep.surveys import verify as verify_survey
from pathprep.surveys.folder import is_survey


def is_mixed(root: PurePath | str) -> bool:
    """Whether a folder or URL holds mixed shards, finished or not, rather than a dataset."""
    storage = storage_at(root)
    return any(storage.exists(name) for name in (mixed.INFO, mixed.PLAN))


def kind_of(root: PurePath | str) -> str:
    """What a folder or URL holds: ``slides``, imported ``tiles``, ``mixed`` shards, or a ``survey``.

    Raises:
        DatasetError: not a dataset.
    """
    if is_survey(root):
        return "survey"
    return "mixed" if is_mixed(root) else Dataset(root).kind


def is_pseudonymised(root: PurePath | str) -> bool:
    """Whether a dataset, or every dataset that shards were mixed from, has pseudonyms for names."""
    if is_mixed(root):
        info = storage_at(root).read_json(mixed.INFO)
        sources = info["sources"] if info is not None and mixed.is_whole(info) else ()
        return bool(sources) and all(key_of(source) is not None for source in sources)
    return key_of(storage_at(root).read_json("dataset.json") or {}) is not None


def open(root: PurePath | str) -> Dataset | MixedDataset:
    """Open a dataset or mixed shards; both are read in the same way.

        data = pathprep.open("dataset")
        len(data), data.slides                  # tiles; names of slides
        data[0].pixels                          # (H, W, 3) uint8; also jpeg, slide, x, y, label ...
        for tile in data.slide("A"): ...        # the tiles of one slide
        data.table("A", ["x", "y", "focus"])    # pyarrow, a row a tile

    Args:
        root: the folder, or a URL that fsspec knows, such as ``s3://bucket/dataset``.

    Raises:
        DatasetError: it is neither, or cannot be used.
        UsageError: a URL that fsspec does not know, or whose library is not installed.
    """
    return MixedDataset(root) if is_mixed(root) else Dataset(root)


def open_dataset(root: PurePath | str) -> Dataset:
    """Open a dataset, for what mixed shards cannot serve.

    Raises:
        UsageError: it holds mixed shards, or a survey.
        DatasetError: it is no dataset, or one that cannot be used.
    """
    if is_survey(root):
        raise UsageError(
            f"{root}: a survey (`pathprep survey`), which has no tiles on disk; only training draws from it. "
            "Give a dataset from `pathprep shard`"
        )
    if is_mixed(root):
        info = storage_at(root).read_json(mixed.INFO)
        sources = [source["path"] for source in info["sources"]] if info and mixed.is_whole(info) else []
        raise UsageError(
            f"{root}: holds mixed shards (`pathprep mix`), which only training reads; give the dataset that "
            f"they were mixed from{': ' if sources else ''}{' or '.join(sources)}"
        )
    return Dataset(root)


def verify(root: PurePath | str, threads: int = 2) -> Iterator[Findings]:
    """Check a dataset, mixed shards or a survey to the byte.

    Args:
        root: the folder or URL.
        threads: slides or shards at a time.

    Yields:
        Findings per slide or shard, in their order; last those of the folder, named ``(folder)``.

    Raises:
        DatasetError: neither, or mixed shards that are not finished.
    """
    if is_survey(root):
        return verify_survey.verify(Path(root), threads)
    return verify_mixed.verify(root, threads) if is_mixed(root) else verify_dataset.verify(root, threads)
