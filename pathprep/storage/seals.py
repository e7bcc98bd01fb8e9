"""Seals: JSON that tells by itself whether it is as it was written.

A sealed object holds the SHA-256 of all else in it, under ``seal``. A file whose format has had seals from
some version on must have one from that version on; an older one is taken without, but never with one that
differs. So one changed bit is found wherever it is: in the seal, in its name, in the version or in the rest.
"""

import hashlib
import json
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from pathprep.storage import atomic

SEAL = "seal"


class Seal(Enum):
    """What a seal tells: it holds, there is none, or the rest is not what it was written for."""

    WHOLE = "whole"
    NONE = "none"
    BROKEN = "broken"


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values with their seal; one that they have already is replaced."""
    content = {key: value for key, value in values.items() if key != SEAL}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, SEAL: hashlib.sha256(canonical.encode()).hexdigest()}


def seal_of(values: Mapping[str, Any]) -> Seal:
    """Whether the values are as they were sealed."""
    if SEAL not in values:
        return Seal.NONE
    return Seal.WHOLE if values == sealed(values) else Seal.BROKEN


def is_whole(values: Mapping[str, Any], since: int) -> bool:
    """Whether values are as they were sealed, or of a ``version`` (1 if there is none) before seals."""
    seal, version = seal_of(values), values.get("version", 1)
    return seal is Seal.WHOLE or (seal is Seal.NONE and isinstance(version, int) and version < since)


def write_sealed(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON with its seal, atomically."""
    atomic.write_json(path, sealed(values))
