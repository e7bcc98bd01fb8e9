"""One shard of a dataset folder: the unit of work, of retry and of parallelism."""

import os
import socket
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from pathprep.dataset.failed import FailedShard
from pathprep.dataset.marker import Marker, SourceRecord, committed
from pathprep.errors import DatasetError
from pathprep.launchers.base import Failure, Progress
from pathprep.pseudonyms.slides import key_of
from pathprep.slides.identity import file_size
from pathprep.storage.json_files import read_json


class Origin(Protocol):
    """What a shard is made of: a slide, or images of a tile set."""

    @property
    def name(self) -> str:
        """Of the shard in the dataset."""

    @property
    def path(self) -> Path:
        """The slide file, or the tile set's folder."""

    @property
    def key_id(self) -> str | None:
        """Of the key of its pseudonym; None if it has its own name."""

    @property
    def recorded(self) -> str:
        """The path as the dataset records it: itself, or a pseudonym."""

    def said(self, text: str) -> str:
        """A message as the dataset records it: with pseudonyms, if it has them."""

    def inputs(self) -> dict[str, Any]:
        """What the tiles depend on besides the run's parameters; a change rebuilds the shard."""

    def made(self, path: str, size: int | None) -> bool:
        """Whether a marker's or quarantine file's source is this one, perhaps at another place."""


class Params(Protocol):
    """What shapes the pixels of a dataset."""

    def as_dict(self) -> dict[str, Any]:
        """What is written to dataset.json and hashed."""


OriginT = TypeVar("OriginT", bound=Origin)
ParamsT = TypeVar("ParamsT", bound=Params)


@dataclass(frozen=True)
class DatasetTask(ABC, Generic[OriginT, ParamsT]):
    """A shard to make in a dataset folder.

    Attributes:
        root: the folder. source: what the shard is made of. params: of the run. build_id: of the dataset.
        threads: change the speed, never the bytes. rebuild: make it even if it is done, and replace it.
    """

    root: Path
    source: OriginT
    params: ParamsT
    build_id: str
    threads: int = 1
    rebuild: bool = False

    @property
    def path(self) -> Path:
        """See launchers.base.Task."""
        return self.source.path

    @abstractmethod
    def make(self, progress: Progress) -> Marker:
        """Make the shard and commit it."""

    def failed(self, failure: Failure) -> FailedShard:
        """What is recorded of a failure."""
        source = SourceRecord(self.source.recorded, file_size(self.path))
        error = failure.error
        if self.source.key_id is not None:  # where the dataset lies is not told; which file of it is
            error = error.replace(f"{self.root}{os.sep}", "")
        said = replace(failure, error=self.source.said(error))
        return FailedShard(**vars(said), slide=self.source.name, source=source, build_id=self.build_id)

    def work(self, progress: Progress) -> tuple[Marker, bool]:
        """See launchers.base.Task: another run may have committed the shard since this one was planned."""
        self._check_build()
        name = self.source.name
        if not self.rebuild and (self.root / "slides" / f"{name}.json").exists():
            standing = committed(self.root, name, self.build_id, self.source.inputs())
            if standing is not None:
                return standing, False
        return self.make(progress), True

    def _check_build(self) -> None:
        check_build(self.root / "dataset.json", self.build_id, self.source.key_id)


def check_build(path: Path, build_id: str, key_id: str | None = None) -> None:
    """That a folder is still that of the run.

    Args:
        path: its dataset.json, or survey.json. build_id: of the run. key_id: of its pseudonyms' key.

    Raises:
        DatasetError: it is not there, or another run has begun to write there otherwise.
    """
    info, host = read_json(path), socket.gethostname()
    if info is None:
        raise DatasetError(
            f"{path}: not there, as seen from {host}; the dataset folder and the slides must be mounted "
            "at the same path on every machine that takes part"
        )
    if key_of(info) != key_id:
        raise DatasetError(f"{path}: another run has begun to write there with other pseudonyms, or none")
    if info.get("build_id") != build_id:
        raise DatasetError(
            f"{path}: has build id {info.get('build_id')}, as seen from {host}, but this run's is "
            f"{build_id}: another run has begun to rebuild the dataset with other parameters"
        )
