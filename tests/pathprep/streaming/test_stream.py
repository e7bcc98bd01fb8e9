"""Tiles straight from slides: those of shards, in their order; slides that fail cost themselves."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.deadly_streams import Deadly
from helpers.onnx_models import BIAS, write
from helpers.slides import flawed, tissue, write_tiff

from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import STATUSES
from pathprep.images import jpeg
from pathprep.params.shard import ShardParams
from pathprep.sharding.run import shard
from pathprep.slides.find import SlideSource
from pathprep.streaming import stream as streams
from pathprep.streaming.sender import FLOATS, INTEGERS, SLOTS
from pathprep.streaming.stream import Begun, Ended, Tiles, TileStream


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    write_tiff(folder / "flawed.tif", flawed())
    write_tiff(folder / "plain.tif", tissue(640, 900, margin=100))
    write_tiff(folder / "glass.tif", np.full((500, 500, 3), 243, np.uint8))
    return folder


def sources(folder: Path) -> list[SlideSource]:
    return [SlideSource(path, name=path.stem, slide=path.stem) for path in sorted(folder.glob("*.tif"))]


def taken(stream: TileStream) -> tuple[dict[int, list[Tiles]], dict[int, Ended]]:
    """All tiles (copies) and all ends."""
    tiles: dict[int, list[Tiles]] = {}
    ends: dict[int, Ended] = {}
    for event in stream:
        if isinstance(event, Begun):
            tiles[event.slide] = []
        elif isinstance(event, Tiles):
            tiles[event.slide].append(Tiles(event.slide, event.pixels.copy(), event.columns, event.release))
            event.release()
        else:
            ends[event.slide] = event
    return tiles, ends


@pytest.mark.parametrize("mode", ["none", pytest.param("fit", marks=pytest.mark.slow), "bake"])
def test_tiles_and_columns_are_those_of_shards(tmp_path: Path, slides: Path, mode: str) -> None:
    settings: dict[str, Any] = {"tile": 64, "stain": mode, "min_focus": 100.0, "max_pen": 0.1}
    params = ShardParams.of(**settings, quality=100, subsampling="444")
    found = sources(slides)
    shard(found, tmp_path / "dataset", params, workers=2)
    dataset = Dataset(tmp_path / "dataset")
    with TileStream(found, params, tmp_path, workers=2) as stream:
        tiles, ends = taken(stream)
    assert sorted(dataset.marker(source.name).tiles for source in found) == [0, 44, 92]
    for number, source in enumerate(found):
        marker, made = ends[number].marker, dataset.marker(source.name)
        assert marker is not None
        for name in ("counts", "stain", "stain_fit", "inputs", "grid", "facts", "notes", "mpp", "tiles"):
            assert getattr(marker, name) == getattr(made, name), name
        rows = dataset.table(source.name).to_pylist()
        pixels = [tile for some in tiles[number] for tile in some.pixels]
        assert len(rows) == len(pixels) == marker.tiles
        if not rows:
            continue
        columns = {name: np.concatenate([some.columns[name] for some in tiles[number]]) for name in FLOATS}
        for name in INTEGERS:
            got = np.concatenate([some.columns[name] for some in tiles[number]])
            assert got.tolist() == [row[name] for row in rows]
        for name, got in columns.items():
            np.testing.assert_array_equal(got, np.array([row[name] for row in rows], np.float32))
        statuses = np.concatenate([some.columns["stain_status"] for some in tiles[number]])
        assert [STATUSES[code] for code in statuses] == [row["stain_status"] for row in rows]
        for tile, row in zip(pixels, rows, strict=True):
            stored = dataset.read(source.name, row["offset"], row["length"])
            assert stored == jpeg.encode(np.ascontiguousarray(tile), 100, "444")  # the very same pixels


@pytest.fixture
def deadly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(streams, "StreamTask", Deadly)
    folder = tmp_path / "deadly"
    folder.mkdir()
    for seed, name in enumerate(("a", "crash", "once")):
        write_tiff(folder / f"{name}.tif", tissue(640, 640, seed=seed))
    (folder / "bad.tif").write_bytes(b"II*\0 no slide")
    return folder


def test_slides_that_fail_cost_themselves_and_are_named(tmp_path: Path, deadly: Path) -> None:
    found, params = sources(deadly), ShardParams.of(tile=64, stain="none")
    with TileStream(found, params, tmp_path, workers=2) as stream:
        tiles, ends = taken(stream)
    by_name = {source.name: number for number, source in enumerate(found)}
    assert {name for name, number in by_name.items() if ends[number].failure} == {"bad", "crash"}
    bad, crash = (ends[by_name[name]].failure for name in ("bad", "crash"))
    assert bad is not None
    assert (bad.kind, bad.attempts) == ("UnreadableSlide", 1)
    assert crash is not None
    assert (crash.kind, crash.attempts, crash.stage) == ("crash", 2, "tiles")
    assert f"{deadly / 'crash.tif'}: the worker process was killed by SIGABRT" in crash.error
    assert len(tiles[by_name["crash"]]) >= 1  # which its failure makes void
    for name in ("a", "once"):  # the second attempt begins anew
        assert (
            sum(len(some.pixels) for some in tiles[by_name[name]]) == ends[by_name[name]].marker.tiles == 100
        )  # type: ignore[union-attr]


def test_one_that_hangs_is_given_up_and_one_that_waits_is_not(tmp_path: Path, deadly: Path) -> None:
    for path in deadly.iterdir():
        path.unlink()
    write_tiff(deadly / "hang.tif", tissue(640, 640))
    write_tiff(deadly / "waits.tif", tissue(640, 640, seed=1))
    found, params = sources(deadly), ShardParams.of(tile=64, stain="none")
    with TileStream(found, params, tmp_path, workers=2, timeout=1.5) as stream:
        held: list[Tiles] = []
        ends: dict[int, Ended] = {}
        for event in stream:
            if isinstance(event, Tiles) and event.slide == 1:
                held.append(event)
                if len(held) == 1:
                    time.sleep(3)  # a slow model
            elif isinstance(event, Ended):
                ends[event.slide] = event
                for each in held:
                    each.release()
    failure = ends[0].failure
    assert failure is not None
    assert (failure.kind, failure.attempts) == ("timeout", 2)
    assert ends[1].marker is not None


def test_what_is_not_wanted_any_more_is_not_read(tmp_path: Path, slides: Path) -> None:
    found, params = sources(slides), ShardParams.of(tile=64, stain="none")
    with TileStream(
        found, params, tmp_path, workers=1,
        ask=lambda number, reply: reply(found[2] if number == 2 else None),
    ) as stream:  # fmt: skip
        tiles, ends = taken(stream)
    assert list(tiles) == [2]
    assert [ends[number].marker is not None for number in range(3)] == [False, False, True]
    assert all(end.failure is None for end in ends.values())


def test_leaving_early_ends_everything(tmp_path: Path, slides: Path) -> None:
    """The consumer fails: no process, thread, socket or descriptor is left, and nobody is waited for."""
    found, params = sources(slides), ShardParams.of(tile=16, stain="none", min_tissue=0.0)
    before, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    start = time.monotonic()
    with (
        pytest.raises(ZeroDivisionError),
        TileStream(found, params, tmp_path, workers=2) as stream,
    ):
        for event in stream:
            if isinstance(event, Tiles):
                raise ZeroDivisionError
    assert time.monotonic() - start < 30
    assert threading.active_count() <= threads + 1  # the server's
    del event, stream
    assert len(os.listdir("/proc/self/fd")) <= before + 4  # of the server


def test_a_slide_waits_for_its_consumer_with_few_tiles(tmp_path: Path) -> None:
    """Memory is bounded: of 361 tiles, no more than the slots hold are out at once."""
    write_tiff(tmp_path / "a.tif", tissue(2000, 2000))
    params = ShardParams.of(tile=256, stain="none", overlap=160, min_tissue=0.0)
    held: list[Tiles] = []
    with TileStream(sources(tmp_path), params, tmp_path, workers=1) as stream:
        while len(held) < SLOTS:
            event = stream.get(30)
            if isinstance(event, Tiles):
                held.append(event)
        time.sleep(1)
        assert stream._events.empty()  # all slots are out
        held.pop().release()
        assert isinstance(stream.get(30), Tiles)


def test_shares_of_a_tissue_models_classes_come_too(tmp_path: Path) -> None:
    pixels = tissue(512, 640, margin=64)
    pixels[200:264, 64:576] = (60, 150, 110)  # a stroke of ink, a tile high
    write_tiff(tmp_path / "a.tif", pixels, mpp=4.0)
    model = write(tmp_path / "m.onnx", bias=BIAS + np.array([0, 1, 0], np.float32))
    params = ShardParams.of(
        tile=64, mpp=4.0, stain="none", tissue_model=model, max_share="pen=0.3", min_tissue=0.1
    )
    shard(sources(tmp_path), tmp_path / "dataset", params, workers=1)
    dataset = Dataset(tmp_path / "dataset")
    with TileStream(sources(tmp_path), params, tmp_path, workers=1, yields=True) as stream:
        tiles, ends = taken(stream)
    assert ends[0].marker is not None
    assert ends[0].marker.counts == dataset.marker("a").counts
    assert ends[0].marker.counts["share_pen"] > 0
    got = np.concatenate([some.columns["share_pen"] for some in tiles[0]])
    assert got.tolist() == [row["share_pen"] for row in dataset.table("a").to_pylist()]
