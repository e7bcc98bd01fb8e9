"""Inputs drawn from valid ones: bytes, text and JSON-like values, damaged or made strange, by a seed."""

import copy
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

Rng = np.random.Generator

DEEP = 3000  # levels of nesting: more than Python's own limit
HUGE = 10**400  # no float holds it
NUMBERS = (0, -1, 1, 2, 255, 256, 65_535, 2**31 - 1, 2**31, 2**32, 2**53, 2**63, -(2**63), 2**64, HUGE, -HUGE)
FLOATS = (0.5, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"))
TEXTS = (
    "", " ", "a", "0", "-1", "1e999", "nan", "null", "true", "..", "../..", "../../../etc/passwd", "-",
    "/etc/passwd", "a\0b", "a\nb", "\r\n", "\t", "\x1b[2J\x1b]0;owned\x07", "\u202eevil\u2066", "\ufeff",
    "é", "\U0001f9ec", "\ud800", "<script>alert(1)</script>", "\"'`$(id)`;&|", "%s%n", "{{7*7}}", "x" * 300,
    "x" * 200_000, "--json", "2026-02-30", "2026-01-01", "12:30:45", "0x7f", "0o17", "1_000",
    "hf_hub:timm/vit", "s3://bucket", "file:///etc",
)  # fmt: skip
# What parsers of YAML, CSV, JSON, XML and URLs look for
TOKENS = (
    "&a ", "*a", "<<: *a", "!!python/object/apply:os.system [id]", "!!binary ", "!!timestamp 9999-99-99",
    "!!float .", "[", "]", "{", "}", ":", ": ", "- ", "?", "|", ">", "#", "%YAML 9.9", "---\n", "...\n", '"',
    "'", ",", ";", "\t", "\n", "\r", "\0", "\\", "\\u0000", "\\ud800", "<!DOCTYPE a [<!ENTITY b 'c'>]>",
    "&b;", "<a>", "]]>", "://", "@", "=", "==", "..", "/", "//", "[]", "{}", "\x85", "\u2028", "\ufeff",
    "1e9999", "0" * 5000, "9" * 5000, "é",
)  # fmt: skip
INTERESTING = (
    0,
    1,
    2,
    3,
    7,
    16,
    127,
    128,
    255,
    4096,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
)


def one_of(rng: Rng, options: Sequence[Any]) -> Any:
    """One of some, whatever they are."""
    return options[int(rng.integers(len(options)))]


def of_bytes(rng: Rng, data: bytes, others: Sequence[bytes]) -> bytes:
    """One to four changes of bytes: bits, numbers, spans lost, doubled or taken from another, the end cut."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        if not out:
            return bytes(rng.integers(0, 256, int(rng.integers(1, 64)), np.uint8))
        at = int(rng.integers(len(out)))
        if rng.random() < 0.4:  # headers are what parsers trust
            at = int(rng.integers(min(len(out), 512)))
        size = int(rng.integers(1, 1 + min(len(out) - at, 64)))
        how = rng.integers(8)
        if how <= 1:
            out[at] ^= 1 << int(rng.integers(8))
        elif how == 2:
            width = int(one_of(rng, (1, 2, 4, 8)))
            value = int(one_of(rng, INTERESTING)) & ((1 << 8 * width) - 1)
            out[at : at + width] = value.to_bytes(width, one_of(rng, ("little", "big")))
        elif how == 3:
            out[at : at + size] = b""
        elif how == 4:
            out[at:at] = out[at : at + size] * int(one_of(rng, (1, 1, 1, 1000)))
        elif how == 5:
            out[at : at + size] = bytes([int(one_of(rng, (0, 255)))]) * size
        elif how == 6:
            other = one_of(rng, others)
            start = int(rng.integers(len(other))) if other else 0
            out[at : at + size] = other[start : start + size]
        else:
            del out[at:]
    return bytes(out)


def of_text(rng: Rng, data: bytes, others: Sequence[bytes]) -> bytes:
    """As ``of_bytes``, or tokens put in, lines changed about, and other encodings."""
    text = data.decode("utf-8", "replace")
    for _ in range(int(rng.integers(1, 4))):
        lines = text.split("\n")
        at = int(rng.integers(len(text) + 1))
        line = int(rng.integers(len(lines)))
        how = rng.integers(9)
        if how <= 2:
            text = text[:at] + one_of(rng, TOKENS) + text[at:]
        elif how == 3:
            text = text[:at] + one_of(rng, TEXTS) + text[at + int(rng.integers(20)) :]
        elif how == 4:
            lines[line] = one_of(rng, one_of(rng, others).decode("utf-8", "replace").split("\n"))
            text = "\n".join(lines)
        elif how == 5:
            del lines[line]
            text = "\n".join(lines)
        elif how == 6:
            lines[line] = lines[line] * int(one_of(rng, (2, 3, 500)))
            text = "\n".join(lines)
        elif how == 7:
            token = one_of(rng, ("[", "{a: ", "- ", "((", '{"a":', '[{"features":'))
            text = text[:at] + token * DEEP + text[at:]
        else:
            return of_bytes(rng, text.encode("utf-8", "surrogatepass"), others)
    encoding = one_of(rng, ("utf-8",) * 8 + ("utf-8-sig", "utf-16", "utf-32", "latin-1"))
    return text.encode(encoding, "replace")


def of_value(rng: Rng, value: Any) -> Any:
    """One to three places of a nested value become something else, are gone, or are there twice."""
    value = copy.deepcopy(value)
    for _ in range(int(rng.integers(1, 4))):
        places = list(_places(value))
        if not places:
            return strange(rng)
        owner, key = one_of(rng, places)
        how = rng.integers(10)
        if how <= 4:
            owner[key] = strange(rng)
        elif how == 5:
            owner[key] = one_of(rng, places)[0]
            if _is_circular(value):
                owner[key] = None
        elif how == 6:
            del owner[key]
        elif how == 7 and isinstance(owner, list):
            owner.append(owner[key])
        elif how == 7:
            owner[str(one_of(rng, TEXTS))] = owner[key]
        elif how == 8:
            owner[key] = [owner[key]]
        else:
            owner[key] = _near(rng, owner[key])
    return value


def strange(rng: Rng) -> Any:
    """A value of any kind that JSON has, or nearly has."""
    plain = (None, True, False, [], {}, [[]], [None], {"a": {}}, one_of(rng, NUMBERS), one_of(rng, FLOATS))
    return one_of(rng, (*plain, one_of(rng, TEXTS), one_of(rng, TEXTS), [one_of(rng, TEXTS)]))


def _near(rng: Rng, value: Any) -> Any:
    """The same kind of value, but another."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return int(one_of(rng, (value + 1, -value, value * 2, 0, 2**40, one_of(rng, NUMBERS))))
    if isinstance(value, float):
        return float(one_of(rng, (-value, value * 1e6, 0.0, *FLOATS)))
    if isinstance(value, str):
        return one_of(rng, (value + "x", value[:-1], value.upper(), "../" + value, "/" + value, value + "\0"))
    return strange(rng)


def _places(value: Any) -> Any:
    """Every (container, key) in a value."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _is_circular(value: Any, above: tuple[int, ...] = ()) -> bool:
    if not isinstance(value, dict | list):
        return False
    if id(value) in above:
        return True
    parts = value.values() if isinstance(value, dict) else value
    return any(_is_circular(part, (*above, id(value))) for part in parts)


def of_json(
    rng: Rng, data: bytes, others: Sequence[bytes], seal: Callable[[Any], Any] = lambda value: value
) -> bytes:
    """JSON with strange values, or its text changed; now and then nested deeper than Python goes.

    Args:
        seal: puts hashes right again, so that the value gets past them.
    """
    if rng.random() < 0.7:
        value = of_value(rng, json.loads(data))
        with suppress(TypeError, ValueError, KeyError, AttributeError):  # nothing that could be sealed
            value = seal(value)
        return json.dumps(value).encode("utf-8", "surrogatepass")
    if rng.random() < 0.1:
        return b"[" * DEEP * 40
    return of_text(rng, data, others)
