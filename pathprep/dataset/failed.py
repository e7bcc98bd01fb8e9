"""Quarantine files, failed/<slide>.json: shards that were not made, and images that were left out of one."""

from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from pathprep.dataset.marker import DamagedImage, SourceRecord
from pathprep.storage.json_files import read_json
from pathprep.storage.seals import Seal, seal_of, write_sealed


@dataclass(frozen=True)
class FailedShard:
    """Why a shard was not made.

    Attributes:
        stage, kind, error, attempts: see launchers.base.Failure; of kind ``images``, the shard is there and
            ``images`` are left out.
        slide: name of the shard. source: what it was to be made from. build_id: of the dataset.
        set, split: of a tile set. images: see ``kind``.
    """

    stage: str
    kind: str
    error: str
    attempts: int
    slide: str
    source: SourceRecord
    build_id: str
    set: str | None = None
    split: str | None = None
    images: tuple[DamagedImage, ...] = ()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FailedShard":
        """What ``as_dict`` gave; keys of later versions are left out, since every run writes it anew.

        Raises:
            KeyError, TypeError, AttributeError: a key is missing, or is not what it should be.
        """
        texts = ("stage", "kind", "error", "slide", "build_id")
        plain: dict[str, Any] = {key: values[key] for key in (*texts, "attempts")}
        source = SourceRecord(values["source"]["path"], values["source"]["size"])
        images = tuple(DamagedImage(**image) for image in values.get("images", ()))
        said = [values.get("set"), values.get("split"), *(text for each in images for text in astuple(each))]
        if not all(isinstance(text, str) for text in (*(plain[key] for key in texts), source.path)):
            raise TypeError("texts")
        if type(plain["attempts"]) is not int or not all(isinstance(text, str | None) for text in said):
            raise TypeError("attempts, set, split, images")
        return cls(**plain, source=source, set=values.get("set"), split=values.get("split"), images=images)

    def as_dict(self) -> dict[str, Any]:
        """What is written."""
        ordered = ("stage", "kind", "error", "attempts", "slide", "set", "split", "source", "build_id")
        values = asdict(self)
        values["images"] = list(values["images"])
        return {
            key: values[key] for key in (*ordered, "images") if values[key] is not None and values[key] != []
        }


def read_failed(path: Path) -> FailedShard | None:
    """A quarantine file; None if it is absent, or not one."""
    return failed_of(read_json(path))


def write_failed(path: Path, failed: FailedShard) -> None:
    """Write a quarantine file with its seal, atomically."""
    write_sealed(path, failed.as_dict())


def failed_of(values: Mapping[str, Any] | None) -> FailedShard | None:
    """What a quarantine file's JSON says; None if there is none, or it is not one, or not as it was written.

    Those of earlier versions have no seal.
    """
    if values is None or seal_of(values) is Seal.BROKEN:
        return None
    try:
        return FailedShard.from_dict(values)
    except (KeyError, TypeError, AttributeError):
        return None
