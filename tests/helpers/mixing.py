"""Datasets to mix, and what is in a mix."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import simplejpeg

from helpers.markers import slide_marker
from helpers.slides import tissue
from pathprep.dataset.schema import FOLDERS, FORMAT, SCHEMA, STATUSES, VERSION, build_id
from pathprep.dataset.writer import ShardWriter
from pathprep.storage import atomic

HE = [0.5, 0.2, 0.7, 0.8, 0.4, 0.5]
PICTURES = [simplejpeg.encode_jpeg(tissue(32, 32, seed=n), 50 + n) for n in range(40)]


def write(
    root: Path,
    slides: dict[str, int],
    stain: str = "none",
    mpp: float = 0.5,
    labels: dict[str, str] | None = None,
) -> Path:
    """A dataset; no two tiles of a slide are alike, and sizes differ."""
    kind = {} if labels is None else {"kind": "tiles"}
    params = {"tile": 32, "mpp": mpp, "mode": "resize", "stain": {"mode": stain}, **kind}
    build = build_id(params)
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    info = {"format": FORMAT, "version": VERSION, "build_id": build, "params": params}
    atomic.write_json(root / "dataset.json", info)
    for slide, tiles in slides.items():
        with ShardWriter(root, slide) as writer:
            for number in range(tiles):
                status = STATUSES[number % 3] if stain == "fit" else "none"
                fitted = status in ("fitted", "slide_fit")
                row: dict[str, Any] = {name: 0 for name in SCHEMA.names if name in ("column", "row")}
                row |= {"region": 0, "side": 32, "stored": 32, "mpp": mpp, "tissue": 1.0, "saturation": 0.5}
                row |= {
                    "white": 0.0,
                    "focus": 1.0,
                    "stained": 1.0,
                    "tissue_pixels": 9,
                    "stain_status": status,
                }
                row |= {"x": 32 * number, "y": 64, "he": [*HE[:5], number] if fitted else None}
                row |= {"max_c": [1.5, 1.25] if fitted else None}
                if labels is not None:
                    row["label"] = labels.get(slide)
                # no two alike, of any length: what follows the end of a JPEG is ignored
                trailer = f"{slide} {number}".encode() + bytes(37 * number)
                writer.add(PICTURES[number % len(PICTURES)] + trailer, row)
            writer.commit(slide_marker(build), {})
    return root


def content(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def samples(root: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Key and members of each sample, as Python's tarfile finds them."""
    for path in sorted((root / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            found: dict[str, dict[str, bytes]] = {}
            for member in tar:
                key, _, suffix = member.name.partition(".")
                found.setdefault(key, {})[suffix] = tar.extractfile(member).read()  # type: ignore[union-attr]
            yield from found.items()


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
