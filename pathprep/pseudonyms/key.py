"""The key of pseudonyms: a file that its owner alone may read, and the names that it makes.

A name is HMAC-SHA256 (RFC 2104) of a slide's own name; of it, 60 bits in base32. Whoever has the key can tell
whether a guessed name is a slide's; whoever has not cannot, however few names are possible.
"""

import base64
import binascii
import hmac
import logging
import os
import re
import secrets
import shlex
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Self

from pathprep.errors import UsageError
from pathprep.slides.own_names import composed, own_name
from pathprep.storage import atomic, locks, regular

FORMAT = "pathprep pseudonym key, version 1"
_ADVICE = "# Keep this file and its table (.csv) apart from the dataset: they undo its pseudonyms"
BYTES = 32  # of the secret
# Of a name, with 5 bits each: two of a million slides have one name in 1 of 2 million archives, and that is
# noticed (table.Table.add)
LETTERS = 12
PSEUDONYM = re.compile(rf"(?<![A-Za-z0-9])[sfgi][a-z2-7]{{{LETTERS}}}(?![A-Za-z0-9])")
log = logging.getLogger(__name__)
Kind = str  # a letter that names begin with: s of a slide or mask, f of a folder, g of a group, i of an image


@dataclass(frozen=True)
class Key:
    """A secret, and where it is kept.

    Attributes:
        path: of the file; None of one that is made for a dry run and forgotten.
        secret: BYTES bytes; never shown.
    """

    path: Path | None
    _secret: bytes

    def __repr__(self) -> str:
        return f"Key({str(self.path)!r}, id {self.id})"

    @classmethod
    def throwaway(cls) -> Self:
        """A key that nobody keeps."""
        return cls(None, secrets.token_bytes(BYTES))

    @property
    def id(self) -> str:
        """Tells keys apart and gives nothing away: 12 hex digits."""
        return self._mac("id", "").hex()[:12]

    @property
    def table(self) -> Path:
        """The file of the table original -> pseudonym."""
        assert self.path is not None
        return self.path.with_name(f"{self.path.name}.csv")

    def name(self, own: str, kind: Kind = "s") -> str:
        """The pseudonym of a name."""
        digest = self._mac(kind, composed(own))
        return kind + base64.b32encode(digest).decode().lower()[:LETTERS]

    def file(self, path: PurePath) -> str:
        """The pseudonym of a file's path: of its folder, of its own name, and its ending as it is."""
        own = own_name(path)
        return f"{self.name(str(path.parent), 'f')}/{self.name(own)}{path.name.removeprefix(own).lower()}"

    def _mac(self, kind: str, text: str) -> bytes:
        message = f"{kind}\0".encode() + text.encode(errors="surrogateescape")
        return hmac.digest(self._secret, message, "sha256")


def read(path: Path) -> Key:
    """A key from its file.

    Raises:
        UsageError: it is not there, not a key file, or others may read it.
    """
    try:
        with regular.open_regular(path) as file:
            state, data = os.fstat(file.fileno()), file.read(4096)
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such key file; name the one that the dataset was made with, or bring it back from "
            "your backup"
        ) from None
    except OSError as error:
        raise UsageError(
            f"{path}: the key file cannot be read ({error.strerror}); name one that is yours to read"
        ) from None
    if state.st_mode & 0o077:
        raise UsageError(
            f"{path}: others may read the key file; take their rights away "
            f"(`chmod 600 {shlex.quote(str(path))}`)"
        )
    text = data.decode("ascii", "replace").splitlines()
    lines = [line for line in text if line and not line.startswith("#")]
    try:
        if len(lines) != 2 or lines[0] != FORMAT:
            raise ValueError
        secret = binascii.unhexlify(lines[1].strip())
        if len(secret) != BYTES:
            raise ValueError
    except ValueError:
        beside = path.with_suffix("")
        if path.suffix == ".csv" and beside.exists():
            hint = f"the table of a key is none; give {beside}"
        else:
            hint = (
                "bring the right one back from your backup, or name a file that is not there to have one made"
            )
        raise UsageError(f"{path}: not a key file of pathprep ({FORMAT}); {hint}") from None
    return Key(path, secret)


def take(path: Path, dataset: Path | None = None, *, dry: bool = False) -> Key:
    """The key of a file, which is made if it is not there.

    Args:
        path: of the file. dataset: the folder that must not hold it; None: it is at a URL.
        dry: make none; then the key of a file that is not there is one that is forgotten.

    Raises:
        UsageError: as of ``read``; it lies in the dataset; or it cannot be made.
    """
    path = Path(os.path.abspath(path))  # noqa: PTH100  # for workers, wherever they start
    if dataset is not None:
        check_apart(path, dataset)
    if not path.exists():
        if dry:
            return Key.throwaway()
        _make(path)
    return read(path)


def check_apart(path: Path, dataset: Path) -> None:
    """Refuse a key file in the dataset, through links too.

    Raises:
        UsageError: it lies there.
    """
    if path.resolve().is_relative_to(dataset.resolve()):
        raise UsageError(
            f"{path}: lies in the dataset, which is given away with it; keep the key file somewhere else"
        )


def _make(path: Path) -> None:
    try:
        with locks.exclusive(path.with_name(f".{path.name}.lock"), wait=True):
            if not path.exists():  # made meanwhile by another run
                text = f"{FORMAT}\n{secrets.token_hex(BYTES)}\n{_ADVICE}\n"
                write_private(path, text.encode())
                log.info(
                    "New key: %s. Keep it and its table, %s.csv, in your backup, apart from the dataset: "
                    "they alone tell which slide is which",
                    path,
                    path.name,
                )
    except OSError as error:
        raise UsageError(
            f"{path}: the key file cannot be made ({error.strerror}); choose a place that exists and is yours"
        ) from None


def write_private(path: Path, data: bytes) -> None:
    """Write a file, atomically, that its owner alone may read, from its first byte on."""
    atomic.write_alone(path, data, 0o600)
