"""Every kind of file that the project writes, and who reads it.

A reader gives the content of all that a folder says: equal contents, equal figures for whoever uses them.
What it raises or warns of is what its user sees.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from corruption import gallery

import pathprep
import pathtrain
from pathprep.dataset import index_cache
from pathprep.dataset.reader import Dataset
from pathprep.stain import Target
from pathprep.storage import sums
from pathtrain.features.bags import Bags
from pathtrain.runs import checkpoint
from pathtrain.training import logs

Reader = Callable[[Path], Any]
Complaints = Callable[[Path], Iterator[str]]


def verified(root: Path) -> Iterator[str]:
    """The findings of `pathprep verify`."""
    for found in pathprep.verify(root):
        yield from (f"{found.slide}: {line}" for line in (*found.problems, *found.tiles))


def read_dataset(root: Path) -> Any:
    """All that a dataset says: of the whole, of each slide, of each tile."""
    data = pathprep.open(root)
    assert isinstance(data, Dataset)
    placed = [name for name in gallery.MAPPED if name != "region" or data.kind == "slides"]
    index = data.tiles(placed)
    return (
        data.info,
        {name: (marker.as_dict(), rows(data, name)) for name, marker in data.markers.items()},
        {name: failed.as_dict() for name, failed in data.failed().items()},
        [(tile.jpeg, tile.label, tile.group, tile.fit) for tile in data],
        {name: array.tolist() for name, array in index.columns.items()},
    )


def rows(data: Dataset, slide: str) -> Any:
    """A slide's two tables."""
    return data.table(slide).to_pylist(), data.dropped(slide).to_pylist()


def read_mapped(root: Path) -> Any:
    """The columns of a dataset's tiles, from the index that they were brought together in.

    As in a process that opens it for the first time: each compares the files with their sums once.
    """
    sums._whole.clear()
    before, index_cache.MAPPED_FROM = index_cache.MAPPED_FROM, 1
    try:
        index = Dataset(root).tiles(gallery.MAPPED)
        regions = [
            index.region(slide, each).tolist() for slide in index.slides for each in index.region_ids(slide)
        ]
        return index.slides, {name: array.tolist() for name, array in index.columns.items()}, regions
    finally:
        index_cache.MAPPED_FROM = before


def read_mixed(root: Path) -> Any:
    """All that mixed shards say, as the loader and as people's own loops read them."""
    data = pathprep.open(root)
    names = ["x", "y", "offset", "length", "crc32", *(["he", "max_c"] if data.has_fits else [])]
    return (
        data.info,
        {name: data.table(name).to_pylist() for name in data.slides},
        [(tile.jpeg, tile.slide, tile.label, tile.fit) for tile in data],
        {name: array.tolist() for name, array in data.columns(names).items()},
    )


def go_on(root: Path) -> Any:
    """The mix that comes of a half one."""
    gallery.mix_on(root)
    found = {
        path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()
    }
    return {name: data for name, data in found.items() if not name.startswith(".")}


def read_run(root: Path) -> Any:
    """What commands take from a run: its model, its log, and what it was made of."""
    model = pathtrain.load(root)
    about = (model.fingerprint, model.step, model.slides, model.start, model.target, model.config, model.size)
    newest = checkpoint.load(root)
    return (
        about,
        logs.rows(root),
        newest["step"],
        newest["config"],
        json.loads((root / "run.json").read_bytes()),
    )


def read_model(root: Path) -> Any:
    """What commands take from an exported model."""
    model = pathtrain.load(root)
    return (model.fingerprint, model.step, model.slides, model.start, model.target, model.config, model.size)


def read_encoders(root: Path) -> Any:
    """The encoders that a run keeps for ever."""
    return [read_model(path) for path in sorted((root / "encoders").iterdir())]


def read_features(root: Path) -> Any:
    """Features as the studies of slides take them."""
    bags = Bags.open(root)
    return {slide: (bags.read(slide).tolist(), repr(bags.places(slide))) for slide in bags.paths}


def embed_again(root: Path) -> Any:
    """What `embed` leaves when it is run again: files that fit are kept."""
    format = root.name.partition("-")[2]
    pathtrain.embed(root.parent / "model", root.parent / "dataset", root, format=format)
    return {path.name: path.read_bytes() for path in sorted(root.iterdir()) if path.is_file()}


def read_target(root: Path) -> Any:
    """A stain target."""
    found = Target.load(root / "target.json")
    return found.as_params(), found.name


@dataclass(frozen=True)
class Kind:
    """Files that one reader reads.

    Attributes:
        name: for tables. scope: the folder of the gallery that they are in. pattern: of their paths in it.
        reader: gives the content. verify: yields a line for each finding; None: there is no such command.
        hashed: whether verify must name it whatever has changed, also what makes no difference to the reader.
        missed: whether anything tells that such a file is gone. A note of what failed leaves nothing behind,
            and a slide without features is one that was not embedded yet.
    """

    name: str
    scope: str
    pattern: str
    reader: Reader
    verify: Complaints | None = None
    hashed: bool = False
    missed: bool = True

    def files(self, root: Path) -> list[Path]:
        """Its files in a copy of the scope."""
        found = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        return sorted(path for path in found if fnmatch(path.relative_to(root).as_posix(), self.pattern))


KINDS = (
    Kind("dataset.json", "dataset", "dataset.json", read_dataset, verified),
    Kind("markers of slides", "dataset", "slides/*.json", read_dataset, verified),
    Kind("quarantine of slides", "dataset", "failed/*.json", read_dataset, verified, missed=False),
    Kind("shards", "dataset", "shards/*.tar", read_dataset, verified, hashed=True),
    Kind("DALI indexes", "dataset", "shards/*.idx", read_dataset, verified, hashed=True),
    Kind("indexes of tiles", "dataset", "index/*.parquet", read_dataset, verified, hashed=True),
    Kind("dropped tiles", "dataset", "dropped/*.parquet", read_dataset, verified, hashed=True),
    Kind("previews", "dataset", "previews/*", read_dataset, verified, hashed=True),
    Kind("mapped index", "mapped", "tiles/*/*.npy", read_mapped, verified),
    Kind("mapped index, slides", "mapped", "tiles/*/slides.parquet", read_mapped, verified),
    Kind("mapped index, current", "mapped", "tiles/current.json", read_mapped, verified),
    Kind("dataset.json, imported", "imported", "dataset.json", read_dataset, verified),
    Kind("markers of tile sets", "imported", "slides/*.json", read_dataset, verified),
    Kind("quarantine of tile sets", "imported", "failed/*.json", read_dataset, verified, missed=False),
    Kind("shards, imported", "imported", "shards/*", read_dataset, verified, hashed=True),
    Kind("indexes, imported", "imported", "index/*.parquet", read_dataset, verified, hashed=True),
    Kind("mixed.json", "mixed", "mixed.json", read_mixed, verified),
    Kind("mixed shards", "mixed", "shards/*.tar", read_mixed, verified, hashed=True),
    Kind("mixed DALI indexes", "mixed", "shards/*.idx", read_mixed, verified, hashed=True),
    Kind("mixed indexes", "mixed", "index/*.parquet", read_mixed, verified, hashed=True),
    Kind("mixed.json, labelled", "mixed-labels", "mixed.json", read_mixed, verified),
    Kind("mixed shards, labelled", "mixed-labels", "shards/*", read_mixed, verified, hashed=True),
    Kind("mixed indexes, labelled", "mixed-labels", "index/*.parquet", read_mixed, verified, hashed=True),
    Kind("plan of a mix", "half-mixed", "unfinished/plan.json", go_on),
    Kind("markers of a mix", "half-mixed", "unfinished/mixed-*.json", go_on),
    Kind("shards of half a mix", "half-mixed", "[si]*/*", go_on),
    Kind("stain target", "target", "target.json", read_target),
    Kind("checkpoints", "run", "checkpoints/*.pt", read_run),
    Kind("checkpoints' accounts", "run", "checkpoints/[0-9]*.json", read_run),
    Kind("run.json", "run", "run.json", read_run),
    Kind("recipe.yaml of a run", "run", "recipe.yaml", read_run),
    Kind("target.json of a run", "run", "target.json", read_run),
    Kind("log.jsonl", "run", "log.jsonl", read_run),
    Kind("seal of the log", "run", "log.seal.json", read_run),
    Kind("kept encoders", "run", "encoders/*/[cm]*", read_encoders),
    Kind("exported weights", "model", "model.safetensors", read_model),
    Kind("exported config.json", "model", "config.json", read_model),
    Kind("features, HDF5", "features-hdf5", "*.h5", read_features, missed=False),
    Kind("features, HDF5, embed again", "features-hdf5", "*.h5", embed_again),
    Kind("features, Parquet", "features-parquet", "*.parquet", embed_again),
)
BY_NAME = {kind.name: kind for kind in KINDS}

# What nobody but people reads, or what is no content: why it is not among KINDS
LEFT_OUT = {
    "*/tiles/CACHEDIR.TAG": "a mark for programs that make backups",
    "*/tiles/lock": "a lock, empty",
    "run/.lock": "a lock, which says who held it",
    "run/checkpoints/latest.json": "a copy for people; no command reads it",
    "run/tensorboard/*": "TensorBoard's own, with its own checksums",
    "model/README.md": "for people",
    "run/encoders/*/README.md": "for people",
    "slides/*": "what goes in, not what is written: slides are damaged by tests/fuzz/slides.py",
    "tiles/*": "what goes in: images are damaged by tests/fuzz",
}


def digest(content: Any) -> str:
    """A hash of a content; arrays as they print would be shortened, hence lists."""
    return hashlib.sha256(repr(content).encode()).hexdigest()
