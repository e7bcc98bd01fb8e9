"""Datasets as earlier versions wrote them."""

import hashlib
import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path

from pathprep.dataset.marker import FileRecord
from pathprep.dataset.reader import Dataset
from pathprep.storage import atomic
from pathprep.storage.seals import sealed


def as_version_1(root: Path) -> Path:
    """Turn a dataset into one of format version 1, whose keys were <x>_<y>."""
    for name, marker in Dataset(root).markers.items():
        files = dict(marker.files)
        for suffix in ("tar", "idx") if marker.tiles else ():
            path = root / "shards" / f"{name}.{suffix}"
            data = path.read_bytes()
            data = data.replace(f"{name}__".encode(), b"") if suffix == "idx" else _renamed(data, name)
            path.write_bytes(data)
            files[f"shards/{path.name}"] = FileRecord(len(data), hashlib.sha256(data).hexdigest())
        old = replace(marker, files=files)
        atomic.write_json(root / "slides" / f"{name}.json", sealed(old.as_dict()))
    info = json.loads((root / "dataset.json").read_text())
    values = {key: value for key, value in info.items() if key != "seal"}  # it had none then
    atomic.write_json(root / "dataset.json", {**values, "version": 1})
    return root


def _renamed(data: bytes, slide: str) -> bytes:
    """A tar, without the slide's name in those of its members: as many bytes."""
    out = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(data)) as old,
        tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as new,
    ):
        for member in old:
            member.name = member.name.removeprefix(f"{slide}__")
            new.addfile(member, old.extractfile(member))
    return out.getvalue()[: len(data)]
