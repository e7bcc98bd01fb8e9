"""Which storage a place means: a local folder, or a URL."""

from pathlib import Path, PurePath

from pathprep.errors import UsageError
from pathprep.storage.base import HOSTLESS, Storage, Url, is_url
from pathprep.storage.local import LocalStorage
from pathprep.storage.url import UrlStorage


def storage_at(place: PurePath | str) -> Storage:
    """The storage of a folder or URL that a user gave; nothing is read. ``file://`` is a local folder.

    Raises:
        UsageError: fsspec does not know the URL, or the library for it is not installed; or no path can have
            this name.
    """
    if "\0" in str(place):
        raise UsageError(f"{str(place)!r}: holds a zero byte, which no name can; give another place")
    if not is_url(place):
        return LocalStorage(Path(place))
    storage = UrlStorage.of(place)
    protocol, *local = storage.root.parts
    local = local if protocol.removesuffix(":") in HOSTLESS else []
    return LocalStorage(Path("/", *local)) if local else storage


def local_folder(place: PurePath | str, name: str = "out") -> Path:
    """A folder or file of this machine, for what is written to local disks only.

    Args:
        name: of the argument, for the message.

    Raises:
        UsageError: it is a URL.
    """
    if is_url(place):
        raise UsageError(
            f"`{name}` {Url(place)}: is written to a local folder only; give one, and copy it there"
        )
    return Path(place)
