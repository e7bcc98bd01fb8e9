"""Large files with the CRC32 of each of their parts at their end, compared once in a process.

    content      as it is for those who know nothing of what follows, such as numpy's own reader
    CRC32        of each CHUNK bytes of content, uint32 little-endian
    end          bytes of content, CRC32 of the sums and of that number, MAGIC

One pass reads the file and sums it in several threads. CRC32 finds any change of a few bits, in half the time
of a cryptographic hash, which nothing here needs: whoever can change the file can change its sums.
"""

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

from pathprep.storage.regular import descriptor_of

CHUNK = 4 << 20
MAGIC = b"pathprep CRC32 1"
THREADS = 8
_END = struct.Struct(f"<QI{len(MAGIC)}s")

# Files that were found whole by this process: device, inode, size and time of the last change
_whole: set[tuple[int, int, int, int]] = set()


def append_sums(file: BinaryIO) -> None:
    """Add the sums to a finished file that is open for reading and writing."""
    file.seek(0)
    sums, length = [], 0
    while data := file.read(CHUNK):
        sums.append(zlib.crc32(data))
        length += len(data)
    table = struct.pack(f"<{len(sums)}I", *sums)
    file.write(table + _END.pack(length, _of_end(table, length), MAGIC))


def is_whole(path: Path) -> bool:
    """Whether a file has its sums and they hold; read once in a process for as long as it does not change.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = descriptor_of(path)
    try:
        state = os.fstat(descriptor)
        seen = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
        if seen not in _whole:
            if not _holds(descriptor, state.st_size):
                return False
            _whole.add(seen)
        return True
    finally:
        os.close(descriptor)


def _holds(descriptor: int, size: int) -> bool:
    if size < _END.size:
        return False
    length, total, magic = _END.unpack(os.pread(descriptor, _END.size, size - _END.size))
    count = -(-length // CHUNK)
    if magic != MAGIC or length + 4 * count + _END.size != size:
        return False
    table = os.pread(descriptor, 4 * count, length)
    if len(table) != 4 * count or _of_end(table, length) != total:
        return False
    sums: tuple[int, ...] = struct.unpack(f"<{count}I", table)

    def right(number: int) -> bool:
        start = number * CHUNK
        data = os.pread(descriptor, min(CHUNK, length - start), start)
        return zlib.crc32(data) == sums[number]

    if count == 1:
        return right(0)
    with ThreadPoolExecutor(THREADS) as pool:
        return all(pool.map(right, range(count)))


def _of_end(table: bytes, length: int) -> int:
    return zlib.crc32(struct.pack("<Q", length), zlib.crc32(table))
