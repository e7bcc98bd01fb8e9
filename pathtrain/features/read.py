"""Opening files of features, ours and those of other tools, and not what has become of them since.

Ours are sealed since version 2 (pathprep.storage.embedded_seal). All of a file is held against its seal when
features are read, all but the features when a folder is looked at; only then libhdf5 sees it. Older ones, and
those of other tools, have none.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from pathprep.errors import UsageError
from pathprep.storage import regular
from pathprep.storage.embedded_seal import seal_in, seal_in_head
from pathprep.storage.seals import Seal

VERSION, SEALED_SINCE = 2, 2
SEAL, VERSION_KEY = "seal", "version"
AGAIN = "run `pathtrain embed` again"


def files_of(folder: Path, ending: str) -> list[Path]:
    """The files, or folders, of features in a folder, sorted: not those that are being written, or that a
    killed run has left.
    """
    return sorted(path for path in folder.glob(f"*{ending}") if not path.name.startswith("."))


def damaged(path: Path, why: str) -> UsageError:
    """What is said of a file of features that is not as it was written."""
    return UsageError(f"{path}: damaged ({why}); {AGAIN}, which makes it anew, or copy it again")


def read_bytes(path: Path) -> bytes:
    """A file's bytes, held against the seal in them.

    Raises:
        UsageError: it cannot be read, or is damaged.
    """
    try:
        data = regular.read(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if seal_in(data) is Seal.BROKEN:
        raise damaged(path, "its seal differs")
    return data


def _head(path: Path) -> Path:
    try:
        seal = seal_in_head(path)
    except OSError as error:
        raise _unreadable(path, error) from None
    if seal is Seal.BROKEN:
        raise damaged(path, "its seal differs")
    return path


def _unreadable(path: Path, error: OSError) -> UsageError:
    fix = "have the right to read it given to you" if isinstance(error, PermissionError) else AGAIN
    return UsageError(f"{path}: cannot be read ({error.strerror}); {fix}")


@contextmanager
def opened(path: Path, whole: bool = True) -> Iterator[h5py.File]:
    """An HDF5 file of features.

    Args:
        whole: compare all of its bytes; else all but the features.

    Raises:
        UsageError: it cannot be read, is no such file, or is damaged; whatever goes wrong in the block.
    """
    source = io.BytesIO(read_bytes(path)) if whole else _head(path)
    try:
        with h5py.File(source, "r") as file:
            if int(file.attrs.get(VERSION_KEY, 1)) >= SEALED_SINCE and SEAL not in file.attrs:
                raise damaged(path, "its seal is gone")
            yield file
    except UsageError:
        raise
    except Exception as error:  # of a damaged file anything may come
        line = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UsageError(f"{path}: not a file of features (HDF5 with `features`): {line}; {AGAIN}") from None
