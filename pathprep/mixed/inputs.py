"""What is mixed: datasets that go together, and their tiles under one numbering."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from pathprep.dataset.reader import Dataset
from pathprep.dataset.tile_index import TileIndex
from pathprep.errors import UsageError
from pathprep.permutation import Ints

COLUMNS = ("x", "y", "offset", "length", "crc32")
FIT_COLUMNS = ("stain_status", "he", "max_c")
LONGEST_NAME = 70  # so that <name>__<x>_<y>.<suffix> fits into the 100 characters of a tar's header


class MixInput:
    """One dataset.

    Attributes:
        dataset, index: the dataset, and its tiles with COLUMNS.
        labels: (N,) int32, number of each tile's label in ``names``, -1 where it has none; None if no tile
            has one.
        names: the labels, sorted.
    """

    def __init__(self, root: PurePath | str) -> None:
        self.dataset = Dataset(root)
        self.index: TileIndex = self.dataset.tiles(COLUMNS)
        labels, self.names = self.dataset.labels()
        self.labels = labels if self.names else None

    @property
    def root(self) -> PurePath:
        """The dataset's folder or URL."""
        return self.dataset.root

    def place(self) -> dict[str, Any]:
        """Where the dataset was; of a pseudonymised one, what its folder is called and the key's id."""
        if "pseudonymised" not in self.dataset.info:
            return {"path": self.dataset.storage.absolute}
        return {"path": self.root.name, "pseudonymised": self.dataset.info["pseudonymised"]}

    @property
    def fitted(self) -> bool:
        """Whether the tiles are stored plain, with their fits."""
        return bool(self.dataset.params["stain"]["mode"] == "fit")

    def content(self) -> str:
        """Hash of what a mix takes from the dataset: slides, places, JPEGs by their CRC-32, labels."""
        digest = hashlib.sha256("\n".join(self.index.slides).encode())
        arrays = [self.index.starts, *(self.index.columns[name] for name in COLUMNS if name != "offset")]
        for array in arrays if self.labels is None else [*arrays, self.labels]:
            digest.update(np.ascontiguousarray(array).data)
        digest.update("\n".join(self.names).encode())
        return digest.hexdigest()

    def nature(self) -> dict[str, Any]:
        """What datasets must share to be mixed, by name."""
        params = self.dataset.params
        if params.get("mode") == "native":
            stored = f"{params['tile']} px at {params['mpp']} MPP in level-0 pixels"
        else:
            sides = np.unique(self.dataset.tiles(["stored"]).columns["stored"]).tolist()
            stored = f"{', '.join(map(str, sides))} px"
        mpp = [params["mpp"], *params.get("more_mpps", ())]
        stain = {f"stain {name}": value for name, value in params["stain"].items()}
        return {"tile size": stored, "MPP": mpp if len(mpp) > 1 else mpp[0], **stain}


class Corpus:
    """The tiles of all datasets, numbered one dataset after the other.

    Attributes:
        sources: the datasets.
        bounds: (D + 1,) int64; tiles of dataset d are bounds[d] to bounds[d + 1].
        keys: the name of each slide in keys, by dataset.
        renamed: slides whose name in keys is another than in their dataset.
        components: of the samples, see mixed.COMPONENTS.
        labels: of all datasets, sorted.

    Raises:
        UsageError: they hold no tile, differ in what they must share, or hold the same tiles.
    """

    def __init__(self, roots: Sequence[PurePath | str]) -> None:
        self.sources = [MixInput(root) for root in roots]
        self.bounds = np.cumsum([0, *(len(source.index) for source in self.sources)], dtype=np.int64)
        if not self:
            raise UsageError(f"{', '.join(map(str, roots))}: no tile to mix; see `pathprep report`")
        _check_alike(self.sources)
        _check_apart(self.sources)
        self.keys = key_names([source.index.slides for source in self.sources])
        self.renamed = sum(
            key != slide
            for keys, source in zip(self.keys, self.sources, strict=True)
            for key, slide in zip(keys, source.index.slides, strict=True)
        )
        self.labels = sorted({name for source in self.sources for name in source.names})
        self.components = ("jpg", *["fit"] * self.sources[0].fitted, *["txt"] * bool(self.labels))

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def column(self, name: str, tiles: Ints) -> npt.NDArray[Any]:
        """A column's values at sorted tile numbers; ``label`` counts in ``labels``, -1 without one."""
        cuts = np.searchsorted(tiles, self.bounds)
        parts = []
        for number, source in enumerate(self.sources):
            local = tiles[cuts[number] : cuts[number + 1]] - self.bounds[number]
            if name != "label":
                parts.append(source.index.columns[name][local])
            elif source.labels is None:
                parts.append(np.full(len(local), -1, np.int32))
            else:
                codes = np.array([*map(self.labels.index, source.names), -1], np.int32)
                parts.append(codes[source.labels[local]])
        return np.concatenate(parts)

    def describe(self) -> list[dict[str, Any]]:
        """What identifies each dataset, but its path."""
        return [
            {
                "build_id": source.dataset.info["build_id"],
                "slides": len(source.index.slides),
                "tiles": len(source.index),
                "content": source.content(),
            }
            for source in self.sources
        ]


def _check_alike(sources: Sequence[MixInput]) -> None:
    first = sources[0].nature() if len(sources) > 1 else {}
    for other in sources[1:]:
        nature = other.nature()
        for name in (*first, *nature):
            if first.get(name) != nature.get(name):
                raise UsageError(
                    f"{name} is {first.get(name)} in {sources[0].root} and {nature.get(name)} in "
                    f"{other.root}; only datasets that agree in it can be mixed"
                )


def _check_apart(sources: Sequence[MixInput]) -> None:
    """The same tiles must not come in twice, say by a folder that is named twice."""
    seen: dict[tuple[str, str], PurePath] = {}
    shared = Counter(slide for source in sources for slide in source.index.slides)
    for source in sources:
        for number, slide in enumerate(source.index.slides):
            if shared[slide] == 1:
                continue
            start, end = source.index.starts[number : number + 2]
            digest = hashlib.sha256(source.index.columns["crc32"][start:end].tobytes()).hexdigest()
            other = seen.setdefault((slide, digest), source.root)
            if other is not source.root:
                raise UsageError(
                    f"slide {slide} has the same tiles in {other} and in {source.root}; "
                    "name only one of the two, else these tiles would be mixed in twice"
                )


def key_names(slides: Sequence[Sequence[str]]) -> list[list[str]]:
    """The name of each slide in keys: its own; ``<slide>-<n>``, n the dataset's place from 1, where several
    datasets have a slide of that name; and shortened, with a hash, beyond LONGEST_NAME characters.

    Raises:
        UsageError: two slides still have one name.
    """
    shared = Counter(slide for names in slides for slide in names)
    out = []
    for place, names in enumerate(slides, 1):
        full = [f"{slide}-{place}" if shared[slide] > 1 else slide for slide in names]
        out.append([_short(name) if len(name) > LONGEST_NAME else name for name in full])
    twice = [name for name, count in Counter(name for names in out for name in names).items() if count > 1]
    if twice:
        raise UsageError(f"two slides would both be called {twice[0]} in keys; rename one of the slides")
    return out


def _short(name: str) -> str:
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
