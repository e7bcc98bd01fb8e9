"""Everything that this project raises on purpose.

    PathprepError
    ├── UsageError          wrong options or parameters (exit code 2)
    ├── SlideError          one slide cannot be used; names the file and the fix
    │   ├── UnreadableSlide     no reader opens it, or a read failed
    │   ├── MppError            micrometres per pixel missing, absurd or anisotropic
    │   │   └── TooCoarse           coarser than the tiles that were asked for
    │   ├── NameTaken           another slide got its name in the dataset meanwhile
    │   └── MaskError           the user's own tissue mask cannot be used
    ├── DeviceError         the GPU could not do the work
    │   └── DeviceLost          it failed, and cannot be used any more in this process
    ├── OutOfMemory         too little memory for even one slide at a time
    ├── StainError          a stain target cannot be fitted or read
    ├── DatasetError        a dataset folder is missing, damaged or of another version
    │   └── NoDatasetError      what was given is not there, or no dataset (exit code 2)
    ├── OutsideError        a path that a file names leads out of its folder
    ├── BusyError           another process writes there
    ├── NoLocksError        the file system has no locks, so that two processes could write there at once
    └── StoreError          a remote dataset could not be reached for once

Every message says which file, what is wrong with it, and what to do. Errors of the system that the user can
mend get the same form by ``explain_os_error``.
"""

import errno
import os
from pathlib import Path

# Characters of a line of an error: a cell, a key or a name that it quotes may have megabytes
LONGEST = 2_000

# What a disk says that takes no more: every further slide would fail in the same way
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}
_FULL = "make room there"
_RIGHTS = "choose another place, or have the right to write there given to you"
_FIXES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: f"{_FULL}, or have the quota raised",
    errno.EFBIG: "allow larger files there (`ulimit -f`), or choose another disk",
    errno.EROFS: "choose another place, or make the disk writable",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.ENOENT: "choose a place that exists and can be written",
    errno.ENOTDIR: "choose a place that is a folder",
    errno.EMFILE: "allow more open files (`ulimit -n`)",
    errno.EIO: "its disk has a fault, or the way to it: try again, and have it looked at",
    errno.ESTALE: "its network drive has lost it: mount the drive again",
    errno.ENOTCONN: "its network drive is gone: mount it again",
    errno.ETIMEDOUT: "its server does not answer: try again",
    errno.ELOOP: "it is a link that leads back to itself: remove it",
    errno.ENOMEM: "give this machine or job more memory",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_READ = "have the right to read it given to you"

# What the extra train brings, and DALI
_EXTRAS = {
    "torch": "PyTorch",
    "torchvision": "torchvision",
    "timm": "timm",
    "safetensors": "safetensors",
    "sklearn": "scikit-learn",
    "matplotlib": "matplotlib",
    "tensorboard": "TensorBoard",
    "nvidia": "DALI",
}


def explain_os_error(error: OSError, *, reading: bool = False) -> str:
    """The file, what is wrong with it, and what can be done, as far as they are known.

    Args:
        reading: it was to be read, not written; else the file's rights tell.
    """
    if error.strerror is None:
        return str(error)
    words = f"{error.filename}: {error.strerror}" if error.filename is not None else str(error.strerror)
    fix = _FIXES.get(error.errno or 0)
    if fix == _RIGHTS and (reading or _is_closed(error.filename)):
        fix = _READ
    return f"{words}; {fix}" if fix else words


def why(error: BaseException) -> str:
    """What went wrong, for a sentence that names the file itself: no ``[Errno 5]``, and no second name."""
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else str(error)


def _short(line: str) -> str:
    """A line, or its ends: the file stands first and the fix last, what was quoted between them."""
    if len(line) <= LONGEST:
        return line
    half = LONGEST // 2
    return f"{line[:half]}... ({len(line) - 2 * half:,} more characters) ...{line[-half:]}"


def _is_closed(name: object) -> bool:
    """Whether there is a file that may not be read, or a folder that may not be looked into."""
    if not isinstance(name, str | bytes | os.PathLike) or os.access(name, os.R_OK):
        return False
    return os.path.lexists(name) or not os.access(Path(os.fsdecode(name)).parent, os.X_OK)


def cannot_write(path: Path, error: OSError) -> str:
    """What to say of a file that a user asked for: which, why it is not there, what can be done."""
    fix = _FIXES.get(error.errno or 0)
    return f"{path}: cannot be written ({error.strerror})" + (f"; {fix}" if fix else "")


def explain_missing_package(error: ModuleNotFoundError) -> str | None:
    """Says which extra brings the package; None if none does."""
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        return None
    return f"{_EXTRAS[package]} is not installed: install with the extra cuda13 or cuda12 (no GPU needed)"


class PathprepError(Exception):
    """Base of every error raised on purpose; its text is meant for the user.

    Attributes:
        exit_code: of a command that ends with it.
        several: whether each line of its text is an error by itself.
    """

    exit_code = 1
    several = False

    def __str__(self) -> str:
        return "\n".join(map(_short, super().__str__().split("\n")))


class UsageError(PathprepError):
    """Wrong options or parameters."""

    exit_code = 2


class SlideError(PathprepError):
    """One slide cannot be used."""


class UnreadableSlide(SlideError):
    """No reader opens the slide, or a read failed."""


class MppError(SlideError):
    """Micrometres per pixel are missing, absurd or anisotropic, or see TooCoarse."""


class TooCoarse(MppError):
    """The slide has fewer pixels per micrometre than the tiles that were asked for."""


class NameTaken(SlideError):
    """Another slide has got this one's name in the dataset while it was made."""


class MaskError(SlideError):
    """The user's own tissue mask cannot be read or does not fit the slide."""


class DeviceError(PathprepError):
    """The GPU could not do the work: its memory is full, or a tile could not be encoded."""


class DeviceLost(DeviceError):
    """The GPU failed; CUDA refuses to go on in this process."""


class OutOfMemory(PathprepError):
    """Too little memory for even one task at a time; the run ends in order."""


class StainError(PathprepError):
    """A stain target cannot be fitted or read."""


class DatasetError(PathprepError):
    """A dataset folder is missing, damaged, or written by another format version."""


class NoDatasetError(DatasetError, UsageError):
    """What was given as a dataset is not there, or is none."""


class OutsideError(PathprepError):
    """A path that a file names leads out of the folder that the file is of; nothing was done with it."""


class BusyError(PathprepError):
    """Another process writes there.

    Attributes:
        path: the lock file. holder: such as ``process 12 on host``.
    """

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__(f"{path.parent}: {holder} is writing there; wait for it or stop it")
        self.path, self.holder = path, holder


class NoLocksError(PathprepError):
    """The file system has no locks, without which two processes could write there at once."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path.parent}: its file system has no locks ({why}); choose a place on another one, or mount "
            "it with flock"
        )


class StoreError(PathprepError):
    """A remote dataset could not be reached for once: the network, or a server that is overloaded."""
