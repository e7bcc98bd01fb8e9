"""Large JSON a part at a time: of a list of a hundred thousand features, one is held at once, not all.

A whole file of JSON becomes Python objects of ten times its size. So the elements of the list at the top, or
of one member of the object at the top, are handed on as they are read.
"""

import gzip
import io
import json
import stat
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Bytes, unpacked: a million cells. Reading takes up to six times as much memory
LARGEST = 1 << 30
FIX = "save what is needed of it, without measurements and not indented, or fewer areas to a file"
_SPACE = " \t\n\r"
# Members of which a second one would silently replace the first
_ONCE = frozenset(
    {"type", "features", "geometry", "geometries", "coordinates", "properties", "classification"}
)


def read_bytes(path: Path) -> bytes:
    """A file's bytes, unpacked if it is gzipped.

    Raises:
        OSError: it cannot be read. ValueError: no file, too large, or a damaged gzip.
    """
    state = path.stat()
    if not stat.S_ISREG(state.st_mode):
        raise ValueError("not a file: a pipe, a device or a folder")
    if state.st_size > LARGEST:
        raise _too_large()
    return unpacked(path.read_bytes())


def unpacked(data: bytes) -> bytes:
    """The bytes, or what they are the gzip of.

    Raises:
        ValueError: too large, or a damaged gzip.
    """
    if data.startswith(b"\x1f\x8b"):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                data = file.read(LARGEST + 1)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise ValueError(f"damaged gzip: {error}") from None
    if len(data) > LARGEST:
        raise _too_large()
    return data


def decoded(data: bytes) -> str:
    """The text of JSON in UTF-8, UTF-16 or UTF-32.

    Raises:
        ValueError: it is in another encoding.
    """
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding, "surrogatepass").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start:,} is no {encoding.upper()}; save it as UTF-8") from None


def parse(text: str, member: str, take: Callable[[Any], None]) -> Any:
    """Parse JSON; elements of the list at the top, or of a member of the object at the top, go to ``take``.

    Returns:
        The rest: where a list was handed on, it is empty.

    Raises:
        ValueError: it is no JSON, or has a member of _ONCE twice in an object.
        RecursionError: it is nested too deeply.
    """
    decoder = json.JSONDecoder(object_pairs_hook=_object)
    at = _skipped(text, 0)
    if text.startswith("[", at):
        at = _elements(decoder, text, at, take)
        content: Any = []
    elif text.startswith("{", at):
        content, at = _members(decoder, text, at, member, take)
    else:
        content, at = decoder.raw_decode(text, at)
    at = _skipped(text, at)
    if at < len(text):
        raise json.JSONDecodeError("Extra data", text, at)
    return content


def _members(
    decoder: json.JSONDecoder, text: str, at: int, member: str, take: Callable[[Any], None]
) -> tuple[dict[str, Any], int]:
    pairs: list[tuple[str, Any]] = []
    at = _skipped(text, at + 1)
    if text.startswith("}", at):
        return {}, at + 1
    while True:
        if not text.startswith('"', at):
            raise json.JSONDecodeError("Expecting property name enclosed in double quotes", text, at)
        key, at = decoder.raw_decode(text, at)
        at = _skipped(text, _expected(text, at, ":"))
        if key == member and text.startswith("[", at):
            if any(key == earlier for earlier, _ in pairs):
                raise _twice(key)
            value: Any = []
            at = _elements(decoder, text, at, take)
        else:
            value, at = decoder.raw_decode(text, at)
        pairs.append((key, value))
        at = _skipped(text, at)
        if text.startswith("}", at):
            return _object(pairs), at + 1
        at = _skipped(text, _expected(text, at, ","))


def _elements(decoder: json.JSONDecoder, text: str, at: int, take: Callable[[Any], None]) -> int:
    at = _skipped(text, at + 1)
    if text.startswith("]", at):
        return at + 1
    while True:
        value, at = decoder.raw_decode(text, at)
        take(value)
        at = _skipped(text, at)
        if text.startswith("]", at):
            return at + 1
        at = _skipped(text, _expected(text, at, ","))


def _expected(text: str, at: int, sign: str) -> int:
    at = _skipped(text, at)
    if not text.startswith(sign, at):
        raise json.JSONDecodeError(f"Expecting '{sign}' delimiter", text, at)
    return at + 1


def _skipped(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        again = next((key for key in keys if key in _ONCE and keys.count(key) > 1), None)
        if again is not None:
            raise _twice(again)
    return made


def _twice(key: str) -> ValueError:
    return ValueError(f"an object of it has the member {key!r} twice; leave the one that holds")


def _too_large() -> ValueError:
    return ValueError(f"more than {LARGEST >> 20:,} MB, unpacked; {FIX}")
