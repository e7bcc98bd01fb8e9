"""The bytes around a tile in a tar, and DALI's index of it."""

import tarfile
from collections.abc import Iterable, Mapping
from typing import Any

# A header without name and size, which tarfile fills with NULs and zeros; the checksum counts as spaces
_BLANK = tarfile.TarInfo("").tobuf(tarfile.USTAR_FORMAT)
_BLANK_SUM = sum(_BLANK[100:124]) + sum(_BLANK[136:148]) + 8 * ord(" ") + sum(_BLANK[156:])


def tar_header(name: str, size: int) -> bytes:
    """The 512 bytes before a file in a tar, as tarfile makes them, which takes ten times as long.

    Args:
        name: ASCII, at most 100 characters. size: bytes of the file, under 8 GiB.
    """
    named, sized = name.encode("ascii"), b"%011o\0" % size
    checksum = _BLANK_SUM + sum(named) + sum(sized)
    return b"".join(
        (
            named.ljust(100, b"\0"),
            _BLANK[100:124],
            sized,
            _BLANK[136:148],
            b"%06o\0 " % checksum,
            _BLANK[156:],
        )
    )


def dali_index(rows: Iterable[Mapping[str, Any]], keys: Iterable[str]) -> bytes:
    """DALI's index of a tar: ``v1.2 n``, then one line per sample: extension, data offset, size, name."""
    lines = [f"jpg {row['offset']} {row['length']} {key}.jpg\n" for row, key in zip(rows, keys, strict=True)]
    return f"v1.2 {len(lines)}\n{''.join(lines)}".encode()
