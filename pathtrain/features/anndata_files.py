"""Features as AnnData, for scverse's tools: a <slide>.h5ad or a folder <slide>.zarr per slide.

    X                 (N, D) features, float32 or float16
    obs               a row per tile, named <slide>__<x>_<y>: slide, x, y (corner) and side in level-0 pixels,
                      tissue, the quality figures and stain_status where they are known. Of image folders and
                      imported tiles file, label and group
    obsm["spatial"]   (N, 2) float64, x and y of the tile's centre in level-0 pixels, counted from the corner
    of
                      the whole slide
    uns["pathtrain"]  encoder, readout, licence, mpp and what else the file was made from
    uns["spatial"]    {slide: {"images": {}, "scalefactors": {"spot_diameter_fullres": side,
                      "tissue_hires_scalef": 1}}}, as scanpy and squidpy look for it

An .h5ad carries the seal and the attributes of a file of features in its root; the root of a Zarr folder has
a sealed attribute ``pathtrain`` with the SHA-256 of each of its files.
"""

import hashlib
import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np

from pathprep.dataset.schema import tile_key
from pathprep.errors import UsageError
from pathprep.storage import atomic, regular
from pathprep.storage.embedded_seal import EMPTY, put
from pathprep.storage.json_files import read_json
from pathprep.storage.seals import Seal, seal_of, sealed
from pathprep.storage.whole_folder import publish_folder
from pathtrain.features import hdf5_stream
from pathtrain.features.part import SINGULAR, Features, Part, stored
from pathtrain.features.read import SEAL, VERSION, VERSION_KEY, opened

ROOT, RECORD = "zarr.json", "pathtrain"


def check(dtype: str) -> ModuleType:
    """The anndata package.

    Raises:
        UsageError: it is not installed, or has no numbers of this ``dtype``.
    """
    try:
        import anndata
    except ImportError:
        raise UsageError(
            "anndata is not installed: `pip install 'pathprep[anndata]'`, or give `format` hdf5 or parquet"
        ) from None
    if dtype == "bfloat16":
        raise UsageError("`dtype` bfloat16: AnnData has no such numbers; give float16, or `format` hdf5")
    found: ModuleType = anndata
    return found


def h5ad_fits(path: Path, part: Part) -> bool:
    """Whether a file is whole, to the bit, and was made from the same things."""
    try:
        with opened(path) as file:
            return part.is_made(file.attrs.get) and part.holds(file["X"].shape[0])
    except UsageError:  # absent, not HDF5, or damaged
        return False


def write_h5ad(path: Path, part: Part, features: Features) -> None:
    """Write it whole or not at all.

    Raises:
        UsageError: anndata is not installed, or cannot hold such features.
    """
    anndata, table = check(part.dtype), as_anndata(part, features, path)
    with atomic.pending(path) as (stream, temporary):
        with hdf5_stream.writing(stream) as file:
            # before all else: so the seal lies at the file's start
            file.attrs.update({**part.about, **part.made, VERSION_KEY: VERSION, SEAL: np.bytes_(EMPTY)})
            anndata.io.write_elem(file, "/", table)
            bulk = _extent(file["X"])
        put(stream, bulk)
    atomic.publish(temporary, path)


def _extent(array: h5py.Dataset) -> tuple[int, int]:
    start = array.id.get_offset()
    return (0, 0) if start is None else (start, array.id.get_storage_size())


def zarr_made(path: Path) -> dict[str, Any]:
    """What a folder says that it was made from; nothing if it does not, or cannot be read."""
    _, record = _described(path)
    return {**record["about"], **record["made_from"]} if record else {}


def zarr_fits(path: Path, part: Part) -> bool:
    """Whether a folder is whole, to the bit, and was made from the same things."""
    _, record = _described(path)
    if not record or damage(path):
        return False
    return part.is_made(record["made_from"].get) and part.holds(record["rows"])


def damage(path: Path) -> str:
    """What of a Zarr folder's files is not as it was written; "" if all are."""
    root, record = _described(path)
    if not record:
        return f"{path / ROOT}: gone, damaged or edited, or not written by pathtrain"
    if _canonical(root) != record["root"]:
        return f"{path / ROOT}: edited"
    found = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()} - {ROOT}
    for name, sha256 in record["files"].items():
        if name not in found:
            return f"{path / name}: gone"
        if _sha256(path / name) != sha256:
            return f"{path / name}: its SHA-256 is not that in {ROOT}"
    extra = sorted(found - record["files"].keys())
    return f"{path / extra[0]}: not written by pathtrain" if extra else ""


def _described(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The root's description without our record, and the record; both are empty if it is not ours."""
    root = read_json(path / ROOT)
    record = root.get("attributes", {}).pop(RECORD, None) if root is not None else None
    if root is None or record is None or seal_of(record) is not Seal.WHOLE:
        return {}, {}
    return root, record


def write_zarr(path: Path, part: Part, features: Features) -> None:
    """Write the folder whole or not at all.

    Raises:
        UsageError: as of ``write_h5ad``.
    """
    anndata, table = check(part.dtype), as_anndata(part, features, path)
    import zarr  # which comes with anndata

    def make(folder: Path) -> None:
        # not write_zarr: it adds consolidated metadata, which Zarr 3 does not have
        with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
            anndata.io.write_elem(zarr.open_group(folder, mode="w", zarr_format=3), "/", table)
        root = json.loads((folder / ROOT).read_text())
        files = sorted(file for file in folder.rglob("*") if file.is_file() and file != folder / ROOT)
        record = {
            "made_from": part.made,
            "about": part.about,
            "rows": len(features),
            VERSION_KEY: VERSION,
            "root": _canonical(root),
            "files": {str(file.relative_to(folder)): _sha256(file) for file in files},
        }
        root["attributes"] = {**root.get("attributes", {}), RECORD: sealed(record)}
        atomic.write_json(folder / ROOT, root)
        for each in folder.rglob("*"):
            _flush(each)

    publish_folder(path, make, None)


def _flush(path: Path) -> None:
    """Have the system keep a file, or a folder's names."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _canonical(root: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(root, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(regular.read(path)).hexdigest()


def as_anndata(part: Part, features: Features, path: Path) -> Any:
    """An ``anndata.AnnData``; see the module.

    Raises:
        UsageError: features of patch tokens, of which AnnData's X has no place.
    """
    import pandas as pd

    anndata = check(part.dtype)
    if features.ndim != 2:
        raise UsageError(
            f"{path}: {features.shape[1]} vectors per tile, and AnnData's X has one; give `format` hdf5 or "
            "parquet"
        )
    arrays, more = part.arrays(), part.columns()
    coords = arrays.pop("coords", None)
    columns: dict[str, Any] = {"slide": pd.Categorical([part.name] * len(features))}
    names = [f"{part.name}__{number}" for number in range(len(features))]
    spatial: dict[str, Any] = {}
    obsm = {}
    if coords is not None:
        names = [tile_key(part.name, x, y) for x, y in coords.tolist()]
        columns |= {"x": coords[:, 0], "y": coords[:, 1]}
        side = more.get("side", np.full(len(features), part.coords_attributes.get("patch_size_level0", 0)))
        obsm["spatial"] = coords + np.asarray(side, np.float64)[:, None] / 2
        scales = {"spot_diameter_fullres": float(np.max(side, initial=0)), "tissue_hires_scalef": 1.0}
        spatial = {part.name: {"images": {}, "scalefactors": scales}}
    for name, array in (arrays | more).items():
        text = array.dtype == object
        columns.setdefault(SINGULAR.get(name, name), pd.Categorical(array) if text else array)
    facts = {**part.about, **part.made, **part.coords_attributes}
    return anndata.AnnData(
        X=np.asarray(stored(features, part.dtype, path)),
        obs=pd.DataFrame(columns, index=pd.Index(names, dtype=str)),
        var=pd.DataFrame(index=[f"f{number}" for number in range(features.shape[1])]),
        obsm=obsm,
        uns={
            "pathtrain": {key: value for key, value in facts.items() if value is not None},
            **({"spatial": spatial} if spatial else {}),
        },
    )
