"""Commit markers, slides/<slide>.json: what they say, whether they were changed, and what they vouch for."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pathprep.storage.base import Storage
from pathprep.storage.json_files import read_json


def is_done(root: Path, slide: str, build: str, inputs: Mapping[str, Any]) -> bool:
    """Whether a slide is committed with this build id, from these inputs, and its files have their size."""
    return committed(root, slide, build, inputs) is not None


def committed(
    root: Path,
    slide: str,
    build: str | None,
    inputs: Mapping[str, Any] | None,
    size: Callable[[str], int] | None = None,
) -> dict[str, Any] | None:
    """The marker of a slide that is done (see ``is_done``), else None; ``size``: see ``vouches``."""
    marker = read_sealed(root / "slides" / f"{slide}.json")
    return marker if vouches(marker, build, inputs, size or (lambda name: size_of(root / name))) else None


def vouches(
    marker: Mapping[str, Any] | None,
    build: str | None,
    inputs: Mapping[str, Any] | None,
    size: Callable[[str], int],
) -> bool:
    """Whether a marker stands for this build and these inputs, and its files have their size.

    ``size``: bytes of a file of the dataset, by its name; -1 if it is absent.
    """
    if marker is None or inputs is None or marker.get("build_id") != build:
        return False
    if not same_inputs(marker, inputs):
        return False
    return all(size(name) == entry["size"] for name, entry in marker["files"].items())


def same_inputs(marker: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    """Whether a marker's slide was made from these inputs (Source.inputs).

    The run's default MPP is one of them for slides that needed it.
    """
    made = marker.get("inputs", {})
    return bool(made == {key: inputs[key] for key in inputs if key != "default_mpp" or key in made})


def sealed(marker: Mapping[str, Any]) -> dict[str, Any]:
    """A marker with the hash of all else in it, as ``read_sealed`` demands it."""
    content = {key: value for key, value in marker.items() if key != "seal"}
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return {**content, "seal": hashlib.sha256(canonical.encode()).hexdigest()}


def read_sealed(path: Path) -> dict[str, Any] | None:
    """A slide's marker; None if it is absent, or not as it was written."""
    return _whole(read_json(path))


def sealed_in(storage: Storage, name: str) -> dict[str, Any] | None:
    """A slide's marker in a folder or at a URL; None if it is absent, or not as it was written."""
    return _whole(storage.read_json(name))


def _whole(marker: dict[str, Any] | None) -> dict[str, Any] | None:
    return marker if marker is not None and marker == sealed(marker) else None


def size_of(path: Path) -> int:
    """Bytes of a file; -1 if it is absent."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
