"""Datasets and runs small enough for unit tests, written through the project's own writers."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
import torch
from PIL import Image

from helpers.markers import slide_marker
from pathprep.dataset.schema import FORMAT, VERSION, build_id, sha256
from pathprep.dataset.writer import ShardWriter
from pathprep.storage import atomic
from pathprep.storage.seals import sealed
from pathtrain.models.backbone import build
from pathtrain.recipes.load import dump, load
from pathtrain.runs import checkpoint

Pixels = npt.NDArray[np.uint8]

PINK, BLUE = (220, 120, 180), (90, 90, 200)

TINY = (
    "model.kwargs={img_size: 32, patch_size: 16, depth: 1, embed_dim: 24, num_heads: 2}",
    "views.globals.size=32",
    "views.locals.size=16",
)


def noise(count: int, side: int = 32, colour: Sequence[int] = (180, 90, 160), seed: int = 0) -> list[Pixels]:
    """Tiles of one colour with coarse noise; no two alike."""
    rng = np.random.default_rng(seed)
    low = rng.normal(0, 25, (count, side // 4, side // 4, 3))
    tiles = np.asarray(colour) + np.kron(low, np.ones((1, 4, 4, 1)))
    return list(np.clip(tiles, 0, 255).astype(np.uint8))


def write_dataset(
    root: Path,
    slides: Mapping[str, Sequence[Pixels]],
    mpp: float = 0.5,
    stated: Mapping[str, Any] | None = None,
) -> Path:
    """A dataset folder; tiles lie in rows of ten, one tile's side apart. ``stated``: parameters."""
    params: dict[str, Any] = {
        "tile": 32,
        "mpp": 0.5,
        "mode": "native",
        "overlap": 0,
        "min_tissue": 0.5,
        "stain": {"mode": "none"},
        **(stated or {}),
    }
    build = build_id(params)
    for folder in ("shards", "index", "slides", "previews", "failed"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    atomic.write_json(
        root / "dataset.json", {"format": FORMAT, "version": VERSION, "build_id": build, "params": params}
    )
    for name, tiles in slides.items():
        with ShardWriter(root, name) as writer:
            for number, tile in enumerate(tiles):
                column, row, side = number % 10, number // 10, len(tile)
                writer.add(
                    simplejpeg.encode_jpeg(tile, 90, "RGB", "420"),
                    {
                        "x": column * side,
                        "y": row * side,
                        "column": column,
                        "row": row,
                        "region": 0,
                        "side": side,
                        "stored": side,
                        "mpp": mpp,
                        "tissue": 1.0,
                        "saturation": 0.5,
                        "white": 0.0,
                        "focus": 1.0,
                        "stained": 1.0,
                        "hsv": 1.0,
                        "pen": 0.0,
                        "stain_status": "none",
                        "he": None,
                        "max_c": None,
                        "tissue_pixels": 0,
                    },
                )
            writer.commit(slide_marker(build, name, mpp=mpp), {})
    return root


def labelled_folder(path: Path, groups: Mapping[str, str], group: bool = True, each: int = 4) -> Path:
    """Images of each group, of one label: pink for ``p``, blue for others; and their labels.csv."""
    path.mkdir()
    rows = ["file,label,group" if group else "file,label"]
    for seed, (name, label) in enumerate(groups.items()):
        for number, tile in enumerate(noise(each, colour=PINK if label == "p" else BLUE, seed=seed)):
            Image.fromarray(tile).save(path / f"{name}-{number}.png")
            rows.append(f"{name}-{number}.png,{label}" + (f",{name}" if group else ""))
    (path / "labels.csv").write_text("\n".join(rows))
    return path


def write_run(root: Path, dataset: Path, seed: int = 0, steps: int = 20) -> Path:
    """A finished run of a tiny network: recipe, log and one checkpoint, without any training."""
    recipe = load("smoke", [*TINY, f"steps={steps}"])
    root.mkdir(parents=True)
    (root / "recipe.yaml").write_text(dump(recipe))
    info = (
        json.loads((dataset / "dataset.json").read_text())
        if (dataset / "dataset.json").is_file()
        else {"build_id": "gone"}
    )
    identity = {"dataset build id": info["build_id"], "dataset tiles": 1000}
    about = {"dataset": str(dataset), "identity": identity, "versions": {"torch": "2", "device": "cpu"}}
    atomic.write_json(root / "run.json", about)
    torch.manual_seed(seed)
    backbone = build(recipe.model)
    network = {"backbone": backbone.state_dict(), "head": {}}
    checkpoint.save(root, {"step": steps, "student": network, "teacher": network}, steps, "config", keep=1)
    rows = [
        {
            "step": step,
            "loss": 7.6 - step / 10,
            "lr": 5e-4 * step / steps,
            "weight_decay": 0.04 + step / 1000,
            "momentum": 0.99 + step / 2500,
            "teacher_temp": 0.04,
            "images_s": 100.0 + step,
            "data_wait": 0.02,
        }
        for step in range(1, steps + 1)
    ]
    atomic.write_bytes(root / "log.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
    return root


def moved(name: str, parameter: torch.Tensor) -> torch.Tensor:
    """What of a parameter is trained: attention does not depend on its keys' biases.

    Their gradients are rounding errors, which AdamW makes as large as its other steps.
    """
    if not name.endswith("qkv.bias"):
        return parameter
    queries, _, values = parameter.chunk(3)
    return torch.cat([queries, values])


def spoil(root: Path, slide: str, row: int, data: bytes | None, header: bool = False) -> None:
    """Overwrite a part of a tile; None: it is no JPEG (or has no more than the header of one), but was
    written like that: its CRC is right."""
    place = pq.read_table(root / "index" / f"{slide}.parquet").slice(row, 1).to_pylist()[0]
    with (root / "shards" / f"{slide}.tar").open("r+b") as tar:
        tar.seek(place["offset"])
        jpeg = tar.read(place["length"])
        if data is not None:
            tar.seek(place["offset"] + 200)
            tar.write(data)
            return
    kept = jpeg[: jpeg.index(b"\xff\xda") + 14] if header else b""
    rewrite(root, slide, row, kept + b"x" * (len(jpeg) - len(kept)))


def rewrite(root: Path, slide: str, row: int, data: bytes) -> None:
    """Other bytes of the same length as a tile's JPEG, as if they had been written: their CRC is right."""
    path = root / "index" / f"{slide}.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    assert len(data) == rows[row]["length"]
    with (root / "shards" / f"{slide}.tar").open("r+b") as tar:
        tar.seek(rows[row]["offset"])
        tar.write(data)
    rows[row]["crc32"] = zlib.crc32(data)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    marker = json.loads((root / "slides" / f"{slide}.json").read_text())
    marker["files"][f"index/{slide}.parquet"] = {"size": path.stat().st_size, "sha256": sha256(path)}
    (root / "slides" / f"{slide}.json").write_text(json.dumps(sealed(marker)))
