"""dataset.json: what a dataset is, and with which parameters its tiles were made.

    format      FORMAT
    version     of the format
    build_id    hash of params
    params      everything that shaped the pixels
    pseudonymised  with the ``key_id`` of the key, where slides have pseudonyms; absent elsewhere
    seal        of all of it; older datasets have none

Its keys are these and no others, so that a changed letter is found wherever it is, in older datasets too.
"""

import logging
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from pathprep.dataset.marker import DISPLACED, Marker, TileSetMarker, sealed_in
from pathprep.dataset.remaking import made_again
from pathprep.dataset.schema import FORMAT, READABLE, VERSION, build_id
from pathprep.errors import DatasetError, NoDatasetError
from pathprep.storage import atomic
from pathprep.storage.base import Storage
from pathprep.storage.local import LocalStorage
from pathprep.storage.seals import SEAL, Seal, seal_of, sealed

log = logging.getLogger(__name__)

NAME = "dataset.json"
PSEUDONYMISED = "pseudonymised"
KEYS = {"format", "version", "build_id", "params"}


class State(Enum):
    """What JSON is: as it was written, of another version, damaged, or nothing of ours."""

    WHOLE = "whole"
    OTHER = "of another version"
    DAMAGED = "damaged"
    FOREIGN = "not written by pathprep"


def made(params: Mapping[str, Any], key_id: str | None = None) -> dict[str, Any]:
    """What is written for these parameters, and the id of the key of pseudonyms, if there are any."""
    values = {"format": FORMAT, "version": VERSION, "build_id": build_id(params), "params": dict(params)}
    return sealed(values | ({} if key_id is None else {PSEUDONYMISED: {"key_id": key_id}}))


def state_of(values: Mapping[str, Any]) -> State:
    """What the JSON of a dataset.json is."""
    if values.get("format") != FORMAT:
        return State.DAMAGED if KEYS & values.keys() >= {"build_id", "params"} else State.FOREIGN
    seal, version = seal_of(values), values.get("version")
    if seal is not Seal.BROKEN and type(version) is int and version not in READABLE:
        return State.OTHER  # whatever it holds
    right = (
        seal is not Seal.BROKEN
        and values.keys() - {SEAL, PSEUDONYMISED} == KEYS
        and (seal is Seal.WHOLE or PSEUDONYMISED not in values)
        and type(version) is int
        and isinstance(values["params"], dict)
        and _is_plain(values["params"])
        and build_id(values["params"]) == values["build_id"]
    )
    return State.WHOLE if right else State.DAMAGED


def _is_plain(params: Mapping[str, Any]) -> bool:
    """Whether what all readers ask of the parameters has its type, whoever wrote them."""
    stain = params.get("stain", {"mode": "none"})
    return isinstance(stain, dict) and isinstance(stain.get("mode"), str)


def read(storage: Storage) -> dict[str, Any]:
    """What the dataset.json of a folder says.

    Raises:
        DatasetError: it is absent, damaged, or of another version; says what to do.
        OSError: it cannot be read.
    """
    values = storage.read_json(NAME)
    state = State.FOREIGN if values is None else state_of(values)
    if values is not None and state is State.WHOLE:
        return values
    if values is not None and state is State.OTHER:
        raise DatasetError(
            f"{storage.root}: format version {values['version']}, this pathprep reads up to version {VERSION}"
        )
    marker = first_marker(storage)
    if state is State.DAMAGED or marker is not None:
        problem = "damaged" if storage.exists(NAME) else "gone, though slides are there"
        kind = "tiles" if isinstance(marker, TileSetMarker) else "slides"
        again = made_again(storage, kind, secret=marker is not None and marker.key_id is not None)
        raise DatasetError(
            f"{storage.root / NAME}: {problem}; run the same `pathprep` command that made the dataset again, "
            f"without --rebuild: {again} writes the file anew and keeps every slide"
        )
    if storage.exists(NAME):
        raise DatasetError(f"{storage.root / NAME}: not written by pathprep, or damaged; name another folder")
    raise NoDatasetError(
        f"{storage.root}: not a dataset (no {NAME}, and no mixed.json of mixed shards); make one with "
        "`pathprep shard`"
    )


def first_marker(storage: Storage, build: str | None = None) -> Marker | None:
    """A slide that is or was committed, of this build if one is named; None if there is none."""
    for file in storage.listing("slides"):
        if file.name.endswith(".json") and not file.last.startswith(atomic.PREFIX):
            marker = sealed_in(storage, file.name)
            if marker is not None and build in (None, marker.build_id.removeprefix(DISPLACED)):
                return marker
    return None


def mended(root: Path, params: Mapping[str, Any] | None = None) -> bool:
    """Write a damaged or lost dataset.json anew, if slides that stand vouch for it by their build id.

    Args:
        root: the folder. params: that the slides were made with; None takes those that are in the file.

    Returns:
        Whether it was written. Not if it was whole, or if no slide was made with these parameters.
    """
    storage = LocalStorage(root)
    values = storage.read_json(NAME)
    if values is not None and state_of(values) is not State.DAMAGED:
        return False
    if params is None:
        found = (values or {}).get("params")
        params = found if isinstance(found, dict) and _is_plain(found) else None
    marker = None if params is None else first_marker(storage, build_id(params))
    if params is None or marker is None:
        return False
    info = sealed({**made(params, marker.key_id), "version": _version_of(storage, marker)})
    atomic.write_json(root / NAME, info)
    log.warning(
        "%s: was damaged or gone; written anew, since slides there have these parameters", root / NAME
    )
    return True


def _version_of(storage: Storage, marker: Marker) -> int:
    """The format's version, by the names in a slide's tar; the newest if it has none."""
    name = f"shards/{marker.slide}.tar"
    head = storage.read_at(name, 0, 100) if storage.size(name) > 0 else b""
    return 1 if head and not head.startswith(f"{marker.slide}__".encode()) else VERSION
