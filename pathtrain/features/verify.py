"""Checks files of features to the byte, and says what there is of runs, models and features at a path."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.errors import UsageError
from pathprep.storage import hdf5_chunks, json_files, regular
from pathprep.storage.embedded_seal import seal_in
from pathprep.storage.seals import Seal, seal_of
from pathprep.words import command
from pathtrain.features import anndata_files
from pathtrain.features.files import FORMATS
from pathtrain.features.read import files_of, opened, read_bytes
from pathtrain.features.slide_files import EMPTY
from pathtrain.features.write import FAILED
from pathtrain.models.folder import is_model
from pathtrain.runs.verify import Findings, check, foreign, verify_model, verify_run

ENDINGS = tuple(kind.ending for kind in FORMATS.values())
OLDER = "has no seal (older, or of another tool): read whole, and compared with nothing"

Kind = Literal["run", "model", "features"]


def kind_of(path: Path) -> Kind:
    """What lies at a path.

    Raises:
        UsageError: nothing that pathtrain writes.
    """
    if is_model(path):
        return "model"
    if any((path / name).exists() for name in ("recipe.yaml", "run.json", "checkpoints")):
        return "run"
    if path.suffix in ENDINGS or any(files_of(path, ending) for ending in ENDINGS):
        return "features"
    if (path / "dataset.json").exists() or (path / "mixed.json").exists():
        raise UsageError(f"{path}: a dataset; check it with {command('pathprep verify', path)}")
    raise UsageError(
        f"{path}: neither a run, nor an exported model, nor features ({', '.join(ENDINGS)}) of `pathtrain "
        "embed`"
    )


def verify(path: str | Path) -> Iterator[Findings]:
    """Check a run, an exported model, or a file or folder of features: every file and every recorded hash.

    Yields:
        Findings per file, those that are well too.

    Raises:
        UsageError: nothing of these lies there.
    """
    path = Path(path)
    kind = kind_of(path)
    return {"run": verify_run, "model": verify_model, "features": _verify_features}[kind](path)


def _verify_features(path: Path) -> Iterator[Findings]:
    if not path.is_dir() or path.suffix == ".zarr":
        yield _verify_file(path)
        return
    files = sorted(file for ending in ENDINGS for file in files_of(path, ending))
    for file in files:
        yield _verify_file(file)
    for record in sorted((path / FAILED).glob("*.json")):
        yield Findings(str(record), notes=["a slide that failed; the next `pathtrain embed` tries it again"])
    for record in sorted((path / EMPTY).glob("*.json")):
        sealed = json_files.read_json(record)
        whole = sealed is not None and seal_of(sealed) is Seal.WHOLE
        yield Findings(
            str(record),
            problems=[]
            if whole
            else ["its seal differs; remove it, and the next `pathtrain embed` looks again"],
            notes=["a slide without a tile"] if whole else [],
        )
    yield from foreign(path, {file.name for file in files} | {FAILED, EMPTY})


def _verify_file(path: Path) -> Findings:
    notes: list[str] = []

    def look() -> None:
        if path.suffix == ".zarr":
            if wrong := anndata_files.damage(path):
                raise UsageError(f"{wrong}; run `pathtrain embed` again")
            return
        if path.suffix in (".h5", ".h5ad"):
            bulk = "features" if path.suffix == ".h5" else "X"
            with opened(path) as file:
                features = np.asarray(hdf5_chunks.whole(file[bulk]), np.float32)
                for name, stored in file.items():
                    if name != bulk and isinstance(stored, h5py.Dataset):
                        hdf5_chunks.whole(stored)
            if not np.isfinite(features).all():
                raise UsageError(f"{path}: holds NaN or infinite features; run `pathtrain embed` again")
        else:
            _read_parquet(path)
        if not path.is_dir() and seal_in(regular.read(path)) is Seal.NONE:
            notes.append(OLDER)

    found = check(path, look)
    found.notes += notes
    return found


def _read_parquet(path: Path) -> None:
    data = read_bytes(path)
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            about: Any = json.loads((file.metadata.metadata or {}).get(b"pathtrain", b"{}"))
            file.read(use_threads=False)
            if about.get("version", 1) >= 2 and seal_in(data) is Seal.NONE:
                raise UsageError(f"{path}: damaged (its seal is gone); run `pathtrain embed` again")
    except (pa.ArrowException, OSError, ValueError, AttributeError, TypeError) as error:
        line = str(error).splitlines()[0][:200]
        raise UsageError(f"{path}: damaged ({line}); run `pathtrain embed` again") from None
