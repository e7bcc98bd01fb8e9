"""Which kind of folder is this: a dataset of slides, one of imported tiles, or mixed shards; and open it."""

from collections.abc import Iterator
from pathlib import Path

from pathprep.dataset import verify as verify_dataset
from pathprep.dataset.reader import Dataset
from pathprep.dataset.verify import Findings
from pathprep.errors import UsageError
from pathprep.mixed import format as mixed
from pathprep.mixed import verify as verify_mixed
from pathprep.mixed.reader import MixedDataset
from pathprep.storage.json_files import read_json


def is_mixed(root: Path) -> bool:
    """Whether a folder holds mixed shards, finished or not, rather than a dataset."""
    return any((root / name).exists() for name in (mixed.INFO, "unfinished"))


def kind_of(root: Path) -> str:
    """What a folder was made of: ``slides``, imported ``tiles``, or ``mixed`` shards of datasets.

    Raises:
        DatasetError: not a dataset.
    """
    return "mixed" if is_mixed(root) else Dataset(root).kind


def open(root: Path | str) -> Dataset | MixedDataset:
    """Open a dataset folder, or a folder of mixed shards.

    Raises:
        DatasetError: it is neither, or cannot be used.
    """
    root = Path(root)
    return MixedDataset(root) if is_mixed(root) else Dataset(root)


def open_dataset(root: Path) -> Dataset:
    """A dataset folder, for what mixed shards cannot serve.

    Raises:
        UsageError: it holds mixed shards.
        DatasetError: it is no dataset, or one that cannot be used.
    """
    if is_mixed(root):
        sources = [source["path"] for source in (read_json(root / mixed.INFO) or {}).get("sources", ())]
        raise UsageError(
            f"{root}: holds mixed shards (`pathprep mix`), which only training reads; give the dataset that "
            f"they were mixed from{': ' if sources else ''}{' or '.join(sources)}"
        )
    return Dataset(root)


def verify(root: Path | str, threads: int = 2) -> Iterator[Findings]:
    """Check a dataset or mixed shards to the byte.

    Yields:
        Findings per slide or shard, in their order; last those of the folder, named ``(folder)``.

    Raises:
        DatasetError: neither, or mixed shards that are not finished.
    """
    root = Path(root)
    return verify_mixed.verify(root, threads) if is_mixed(root) else verify_dataset.verify(root, threads)
