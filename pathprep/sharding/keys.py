"""One dataset, one key of pseudonyms: looked at before a key file is made, and again before a slide is."""

from pathlib import Path
from typing import Any

from pathprep.dataset import info
from pathprep.errors import UsageError
from pathprep.params.running import AnyPath
from pathprep.pseudonyms import key as keys
from pathprep.pseudonyms.key import Key
from pathprep.pseudonyms.slides import key_of
from pathprep.storage.base import Storage
from pathprep.storage.place import storage_at


def key_for(file: AnyPath, out: AnyPath, *, dry: bool = False) -> Key:
    """The key of a file, which is made if it is not there and the dataset has none yet.

    So a slip in the name of the key file leaves no second key, and no names in a table that is not theirs.

    Args:
        file: of the key. out: the dataset, a folder or URL. dry: see ``key.take``.

    Raises:
        UsageError: as of ``key.take``; or the dataset has another key, or slides under their own names.
    """
    path, storage = Path(file), storage_at(out)
    root = storage.root if isinstance(storage.root, Path) else None
    if root is None or root.is_dir():
        if root is not None:
            keys.check_apart(path, root)
        values = storage.read_json(info.NAME)
        whole = values if values and info.state_of(values) in (info.State.WHOLE, info.State.OTHER) else None
        there = _key_there(storage, whole)
        if there is not None and not path.exists():
            raise UsageError(
                f"{path}: no such key file, and {storage} is pseudonymised with the key {there}; give "
                "that key's file, or bring it back from your backup"
            )
        check_key(storage, whole, keys.read(path).id if path.exists() else "of a new file")
    return keys.take(path, root, dry=dry)


def check_key(storage: Storage, whole: dict[str, Any] | None, now: str | None) -> None:
    """Refuse to write own names beside pseudonyms, or pseudonyms of two keys.

    Args:
        whole: dataset.json; None where it is damaged or gone. now: id of the run's key, if it has one.
    """
    there = _key_there(storage, whole)
    if there == now:
        return
    if there is not None and now is None:
        raise UsageError(
            f"{storage}: is pseudonymised, with the key {there}; give its key file (`pseudonymise`), without "
            "which the slides' own names would be written there, and none would be known as done"
        )
    if there is not None:
        raise UsageError(
            f"{storage}: is pseudonymised with another key ({there}) than this file's ({now}); give "
            "that key's file, or use another `out`"
        )
    listed = (each for folder in ("slides", "failed") for each in storage.listing(folder))
    if any(each.name.endswith(".json") for each in listed):
        raise UsageError(
            f"{storage}: holds slides under their own names; pseudonymised ones go to another `out`"
        )


def _key_there(storage: Storage, whole: dict[str, Any] | None) -> str | None:
    """The id of a dataset's key; of one whose dataset.json is damaged or gone, as its slides say."""
    if whole is not None:
        return key_of(whole)
    marker = info.first_marker(storage)
    return None if marker is None else marker.key_id
