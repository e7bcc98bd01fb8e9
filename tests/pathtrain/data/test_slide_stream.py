"""Whole slides and regions from a dataset folder: the right tiles in the right cells, the right pixels."""

import re
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from helpers.toys import noise, spoil, write_dataset

from pathprep import stain as stains
from pathprep.dataset.reader import Dataset
from pathprep.errors import DatasetError, UsageError
from pathtrain.data.damaged_tiles import Damage
from pathtrain.data.layout import Layout
from pathtrain.data.order import Ints
from pathtrain.data.slide_stream import BATCH, Request, SlideIndex, TileStream
from pathtrain.errors import TrainError
from pathtrain.recipes.hierarchical import Phase
from pathtrain.recipes.load import load
from pathtrain.stain import stage as stain


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiles in rows of ten: 1, 23 and 150 of them."""
    counts = {"big": 150, "one": 1, "small": 23}
    slides = {name: noise(count, seed=count) for name, count in counts.items()}
    return write_dataset(tmp_path_factory.mktemp("slides") / "dataset", slides)


def decoded(index: SlideIndex, tiles: Ints) -> np.ndarray:
    return np.stack([simplejpeg.decode_jpeg(index.source.read(int(tile))) for tile in tiles])


def test_a_layout_puts_every_tile_into_its_cell() -> None:
    rng = np.random.default_rng(0)
    cells = rng.choice(400, 90, replace=False)
    column, row, tiles = cells % 20 + 7, cells // 20 + 3, np.arange(1000, 1090)
    layout = Layout.of(tiles, column, row, side=4)
    assert sorted(layout.tiles) == tiles.tolist()
    assert layout.counts.sum() == 90
    seen = []
    where = {(c, r): t for t, c, r in zip(tiles, column, row, strict=True)}
    low = (column // 4).min(), (row // 4).min()
    for place, cells_of in zip(layout.places, layout.cells, strict=True):
        for number, cell in enumerate(cells_of):
            at = (4 * (place[0] + low[0]) + number % 4, 4 * (place[1] + low[1]) + number // 4)
            if cell == 90:
                assert at not in where
            else:
                assert where[at] == layout.tiles[cell]
                seen.append(cell)
    assert sorted(seen) == list(range(90))
    starts = np.cumsum(layout.counts) - layout.counts
    for start, count, cells_of in zip(starts, layout.counts, layout.cells, strict=True):
        assert sorted(cells_of[cells_of < 90]) == list(range(start, start + count)), "tiles lie by region"


def test_joined_layouts_keep_their_cells() -> None:
    one = Layout.of(np.array([5]), np.array([1]), np.array([0]), 2)
    two = Layout.of(np.array([8, 9]), np.array([0, 1]), np.array([1, 1]), 2)
    both = Layout.joined([one, two])
    assert both.tiles.tolist() == [5, 8, 9]
    assert both.cells.tolist() == [[3, 0, 3, 3], [3, 3, 1, 2]]


def test_regions_are_counted_and_found(dataset: Path) -> None:
    index = SlideIndex(Dataset(dataset))
    table = index.regions(side=4, least=0.75)
    slides = index.tiles.slides
    # of "big", 10 columns x 15 rows: two full columns of regions; the last row of regions has 3 of 4 rows
    big = table[table[:, 0] == slides.index("big")]
    assert sorted(map(tuple, big[:, 1:].tolist())) == [(c, r) for c in range(2) for r in range(4)]
    assert not (table[:, 0] == slides.index("one")).any()
    layout = index.region(big[-1], side=4)
    assert len(layout.tiles) == 12
    assert layout.cells.shape == (1, 16)


@pytest.mark.parametrize("name", ["one", "small", "big"])
def test_pixels_are_those_that_are_stored(dataset: Path, name: str) -> None:
    index = SlideIndex(Dataset(dataset))
    layouts = [index.slide(name, 4), index.slide("one", 4)]

    def requests() -> Iterator[Request]:
        for layout in layouts:
            yield Request.of([layout], np.zeros(1, np.int64))

    found = list(TileStream(index, requests, 32, None))
    assert [pixels.shape for pixels in found] == [(len(x.tiles) + 1, 32, 32, 3) for x in layouts]
    assert (found[0][-1] == 255).all(), "the background"
    difference = found[0][:-1].numpy().astype(int) - decoded(index, layouts[0].tiles)
    assert abs(difference).mean() < 1, "another JPEG decoder rounds otherwise"
    smaller = next(iter(TileStream(index, requests, 16, None)))
    assert smaller.shape[1:] == (16, 16, 3)
    means = found[0].float().mean(dim=(1, 2)) - smaller.float().mean(dim=(1, 2))
    assert means.abs().max() < 3


def test_stain_jitter_is_one_for_a_slide_and_another_for_the_next(dataset: Path) -> None:
    data = Dataset(dataset)
    index = SlideIndex(data)
    recipe = load("smoke", ["stain={mode: jitter, basis: hed, concentration: 0.5}"])
    stage = stain.stage([data], recipe.stain, recipe.seed, SlideIndex(data).source.fits)
    assert stage is not None
    layout = index.slide("small", 4)
    asked = [Request.of([layout], np.array([key])) for key in (3, 3, 4)]
    assert len(set(asked[0].jitter)) == 1
    plain, first, again, other = (
        np.stack(list(x))[:, :-1].astype(int)
        for x in (
            TileStream(index, lambda: iter(asked[:1]), 32, None),
            TileStream(index, lambda: iter(asked[:1]), 32, stage),
            TileStream(index, lambda: iter(asked[1:2]), 32, stage),
            TileStream(index, lambda: iter(asked[2:]), 32, stage),
        )
    )
    assert (first == again).all()
    assert abs(first - other).mean() > 1
    (matrix,) = stage.inputs(asked[0].tiles, asked[0].jitter)
    expected = stains.apply(plain[0].astype(np.uint8), matrix, io=stage.io)
    assert (expected == first[0]).all()


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Tile BATCH + 1 of slide s has wrong bytes, and tile 2 right bytes that are no JPEG."""
    copy = write_dataset(tmp_path / "copy", {"s": noise(BATCH + 3)})
    spoil(copy, "s", BATCH + 1, b"damaged")
    spoil(copy, "s", 2, None)
    return copy


def test_damaged_tiles_are_named(damaged: Path) -> None:
    index = SlideIndex(Dataset(damaged))
    for tile, reason in ((2, "cannot be decoded"), (BATCH + 1, "its CRC32 differs")):
        layout = Layout.of(np.array([tile]), np.array([0]), np.array([0]), 4)
        stream = TileStream(index, lambda: iter([Request.of([layout], np.zeros(1, np.int64))]), 32, None)  # noqa: B023
        name = re.escape(index.name(tile))
        with pytest.raises(DatasetError, match=f"{name} is damaged: {reason}.*; run `pathprep verify"):
            list(stream)


def test_damaged_tiles_are_left_white_and_told(damaged: Path) -> None:
    index = SlideIndex(Dataset(damaged))
    layout = index.slide("s", 4)
    request = Request.of([layout], np.zeros(1, np.int64))
    damage = Damage(index.source, 0, limit=2)
    for pixels in TileStream(index, lambda: iter([request] * 3), 32, None, damage=damage):
        for at, tile in enumerate(layout.tiles.tolist()):
            if tile in (2, BATCH + 1):
                assert (pixels[at] == 255).all()
            else:
                expected = simplejpeg.decode_jpeg(index.source.read(tile))
                assert abs(pixels[at].numpy().astype(int) - expected).mean() < 1
    assert sorted(found.tile for found in damage.found) == [2, BATCH + 1]
    too_many = Damage(index.source, 0, limit=1)
    with pytest.raises(TrainError, match="more than loader.max_damaged=1"):
        list(TileStream(index, lambda: iter([request]), 32, None, damage=too_many))


def test_imported_tiles_have_no_slides(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Dataset(dataset)
    monkeypatch.setitem(data.params, "kind", "tiles")
    with pytest.raises(UsageError, match="which have no place on a slide"):
        SlideIndex(data)


def test_turns_count_what_was_due() -> None:
    region = {"weight": 1, "batch": 1, "side": 2, "min_tiles": 1, "flip": 0}
    crops = {"globals": {"count": 2, "size": 1}, "locals": {"count": 0, "size": 1}}
    slide = {"weight": 1, "batch": 1, "side": 2, "class_weights": "none"}
    for alternate in ("in_turn", "together"):
        phase = Phase.model_validate(
            {
                "name": "p",
                "steps": 20,
                "alternate": alternate,
                "tile": {"weight": 1, "batch": 1},
                "region": {**region, **crops},
                "slide": slide,
            }
        )
        for name in phase.objectives:
            for step in range(20):
                assert phase.turns(step, name) == sum(phase.due(s, name) for s in range(step))
        names = [[name for name in phase.objectives if phase.due(step, name)] for step in range(3)]
        assert names == (
            [["tile"], ["region"], ["slide"]] if alternate == "in_turn" else [list(phase.objectives)] * 3
        )


class Side:
    """A side stream that tells what was done in it, and whether DALI's last output was still there."""

    stream = "side"

    def __init__(self, device: torch.device) -> None:
        self.told: list[str] = []
        self.last: weakref.ref[Any] = weakref.ref(self)

    @contextmanager
    def queue(self) -> Iterator[None]:
        self.told.append("begin")
        yield
        self.told.append("end")

    def wait(self) -> None:
        self.told.append("wait" if self.last() is not None else "wait for what is gone")

    def give(self, tensor: torch.Tensor) -> torch.Tensor:
        self.told.append("give")
        return tensor


class Output:
    def __init__(self, tensors: Any) -> None:
        self.tensors = tensors

    def as_tensor(self) -> Any:
        return self.tensors.as_tensor()


class Pipeline:
    """DALI's, whose outputs can be watched."""

    def __init__(self, own: Any, side: Side) -> None:
        self.own, self.side = own, side

    def run(self, stream: object) -> list[Output]:
        self.side.told.append(f"run in {stream}")
        (tensors,) = self.own.run()
        output = Output(tensors)
        self.side.last = weakref.ref(output)
        return [output]


def test_dalis_output_is_kept_until_its_copy_in_the_side_stream_is_done(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A card's work is queued: an output that is dropped with its copy still to come may be overwritten."""
    monkeypatch.setattr("pathtrain.data.slide_stream.SideStream", Side)
    index = SlideIndex(Dataset(dataset))
    layout = index.slide("big", 4)
    stream = TileStream(index, lambda: iter([Request.of([layout], np.zeros(1, np.int64))]), 32, None)
    side: Any = stream._side
    stream._pipeline = Pipeline(stream._pipeline, side)
    (pixels,) = stream
    assert abs(pixels[:-1].numpy().astype(int) - decoded(index, layout.tiles)).mean() < 1
    batches = -(-150 // BATCH)
    copied = ["run in side", "wait"] * batches
    assert side.told == ["begin", *copied, "wait", "end", "give"]
