"""The engines: the CPU's bytes are those of its parts called by hand, the GPU's tiles are the CPU's tiles."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cuda_shim.card import Full, Lost, ShimCard, install
from helpers.slides import tissue, write_tiff

from pathprep import stain
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import build_id
from pathprep.errors import DeviceError, DeviceLost, UsageError
from pathprep.images import jpeg
from pathprep.kernels import tiling_cpu
from pathprep.params.quality import QcParams
from pathprep.params.shard import ShardParams
from pathprep.params.stain import StainParams
from pathprep.sharding import pipeline
from pathprep.sharding.pipeline import ShardTask
from pathprep.sharding.plan import prepare
from pathprep.slides.find import SlideSource
from pathprep.slides.slide import Slide
from pathprep.tiles import engines
from pathprep.tiles.engines.cpu import CpuEngine
from pathprep.tiles.engines.cuda import CudaEngine
from pathprep.tiles.engines.probe import try_out
from pathprep.tiles.qc import FIGURES

PARAMS = ShardParams(tile=64, region=256, quality=95, subsampling="444")


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tissue, a patch of one flat colour, which has no stains of its own, and one of a pen's ink."""
    field = tissue(448, 640, margin=32)
    field[64:320, 64:320] = (205, 120, 180)
    field[64:256, 384:576] = (30, 140, 60)
    return write_tiff(tmp_path_factory.mktemp("slides") / "a.tif", field)


@pytest.fixture(scope="module")
def patched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        install(tmp_path_factory.mktemp("shim"), patch)
        yield


@pytest.fixture
def card(patched: None, monkeypatch: pytest.MonkeyPatch) -> ShimCard:
    """The card of the engine that the pipeline takes for ``cuda``."""
    card = ShimCard()
    found: dict[str, engines.Engine] = {"cpu": CpuEngine(), "cuda": CudaEngine(card)}
    monkeypatch.setattr(engines, "of", found.__getitem__)
    return card


def shard(root: Path, path: Path, params: ShardParams, threads: int = 2) -> tuple[Dataset, dict[str, Any]]:
    build = prepare(root, params, rebuild=False)
    return Dataset(root), pipeline.process(
        ShardTask(root, SlideSource(path, name="s"), params, build, threads)
    )


def loss(file: bytes, tile: Any) -> float:
    """Root mean square of what a JPEG changed."""
    return float(np.sqrt(np.mean((jpeg.decode(file) - tile.astype(float)) ** 2)))


def largest(a: Any, b: Any) -> int:
    return int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max(initial=0))


@pytest.mark.parametrize("mode", ["bake", "fit", "none"])
def test_the_cpus_bytes_are_those_of_its_parts_called_by_hand(tmp_path: Path, slide: Path, mode: Any) -> None:
    settings = StainParams(mode)
    params = replace(PARAMS, mode="resize", mpp=0.8, stain=settings, quality=90, subsampling="420")
    dataset, marker = shard(tmp_path, slide, params)
    rows = dataset.table("s").to_pylist()
    side = marker.grid.side
    assert side == 102
    origin = np.zeros((1, 2), np.int32)
    statuses = set()
    with Slide(slide) as image:
        for row in rows:
            pixels = image.read(0, row["x"], row["y"], side, side)
            tiles, figures = tiling_cpu.cut(pixels, origin, side, 64)
            if mode != "none":
                fits = stain.fit(tiles, keep="all", alpha=1.0, beta=0.15, io=240.0)
                if fits.status[0] != stain.Status.FITTED:
                    pooled = marker.stain_fit
                    fits = stain.StainFit(
                        np.array(pooled.he).reshape(1, 3, 2),
                        np.array(pooled.max_c)[None],
                        fits.tissue_pixels,
                        np.full(1, stain.Status.SLIDE_FIT, np.uint8),
                    )
                if mode == "bake":
                    tiles = stain.apply(tiles, stain.matrix(fits, stain.Target.default()), io=240.0)
                statuses.add(row["stain_status"])
                assert row["stain_status"] == stain.Status(fits.status[0]).name.lower()
                assert row["tissue_pixels"] == fits.tissue_pixels[0]
            assert dataset.read("s", row["offset"], row["length"]) == jpeg.encode(tiles[0], 90, "420")
            np.testing.assert_array_equal(figures[0], np.float32([row[name] for name in FIGURES]))
    assert len(rows) > 15
    assert statuses == (set() if mode == "none" else {"fitted", "slide_fit"})


def test_the_cores_can_encode_what_a_card_has_made(card: ShimCard, tmp_path: Path, slide: Path) -> None:
    """Tiles that are cut only are the same to the bit, so the shard is that of a run without a card."""
    params = replace(PARAMS, stain=StainParams("none"))
    shards = []
    for name, on in (("cpu", params), ("cuda", replace(params, device="cuda", encoder="cpu"))):
        dataset, _ = shard(tmp_path / name, slide, on)
        shards.append(
            [
                row | {"file": dataset.read("s", row["offset"], row["length"])}
                for row in dataset.table("s").to_pylist()
            ]
        )
    assert card.made["download"] > 0
    assert [row["file"] for row in shards[0]] == [row["file"] for row in shards[1]]
    assert len(shards[0]) > 15


@pytest.mark.parametrize(("side", "stored"), [(64, 64), (64, 32), (80, 50)])
def test_each_step_gives_what_the_cpu_gives(card: ShimCard, side: int, stored: int) -> None:
    pixels = tissue(200, 260)
    origins = np.array([[0, 0], [64, 40], [180, 120], [31, 7]], np.int32)
    which = np.array([True, False, True, True])
    settings = StainParams()
    cpu, cuda = engines.of("cpu"), engines.of("cuda")
    tiles, figures = cpu.cut(pixels, origins, side, stored)
    fits = cpu.fit(cpu.select(tiles, which), settings)
    matrices = stain.matrix(fits, settings.target)
    normalised = cpu.apply(cpu.select(tiles, which), matrices, settings.io)
    with cuda.block():
        theirs, their_figures = cuda.cut(pixels, origins, side, stored)
        np.testing.assert_array_equal(card.download(theirs), tiles)
        np.testing.assert_allclose(their_figures, figures, rtol=1e-5, atol=1e-6)
        chosen = cuda.select(theirs, which)
        np.testing.assert_array_equal(card.download(chosen), tiles[which])
        found = cuda.fit(chosen, settings)
        assert all(type(column) is np.ndarray for column in (found.he, found.max_c, found.status))
        np.testing.assert_allclose(found.he, fits.he, atol=1e-3)
        np.testing.assert_array_equal(found.status, fits.status)
        np.testing.assert_array_equal(found.tissue_pixels, fits.tissue_pixels)
        done = cuda.apply(chosen, stain.matrix(found, settings.target), settings.io)
        assert largest(card.download(done), normalised) <= 2
        for subsampling in ("420", "444"):
            files = cuda.encode(done, 95, subsampling)
            assert len(files) == 3
            for file, tile in zip(files, card.download(done), strict=True):
                assert file[:2] == b"\xff\xd8"
                assert b"\xff\xc0" in file  # baseline
                usual = jpeg.encode(tile, 95, subsampling)
                assert jpeg.decode(file).shape == tile.shape
                assert loss(file, tile) <= 1.1 * loss(usual, tile)
                assert abs(len(file) - len(usual)) < 0.1 * len(usual)


@pytest.mark.parametrize("mode", ["bake", "fit", "none"])
def test_a_slide_becomes_what_the_cpu_makes_of_it(
    tmp_path: Path, slide: Path, card: ShimCard, mode: Any
) -> None:
    params = replace(PARAMS, quality=100, stain=StainParams(mode), qc=QcParams(max_pen=0.5))
    (cpu, expected), (cuda, marker) = (
        shard(tmp_path / device, slide, replace(params, device=device)) for device in ("cpu", "cuda")
    )
    for key in ("counts", "stain", "tiles", "grid"):
        assert getattr(marker, key) == getattr(expected, key)
    assert marker.counts["pen"] > 4
    if mode != "none":
        assert marker.stain["slide_fit"] > 2
    ours, theirs = (dataset.table("s").to_pylist() for dataset in (cuda, cpu))
    assert len(ours) > 30
    for row, other in zip(ours, theirs, strict=True):
        for key in ("x", "y", "region", "stored", "tissue", "stain_status", "tissue_pixels"):
            assert row[key] == other[key]
        for key in ("he", "max_c"):
            assert (row[key] is None) == (other[key] is None) == (mode == "none")
            if row[key] is not None:
                np.testing.assert_allclose(row[key], other[key], rtol=2e-3, atol=1e-3)
        a, b = (jpeg.decode(d.read("s", r["offset"], r["length"])) for d, r in ((cuda, row), (cpu, other)))
        assert np.abs(a.astype(int) - b).mean() < 1  # two levels at most, then another encoder


def test_a_block_goes_up_once_and_lanes_are_used_again(tmp_path: Path, slide: Path, card: ShimCard) -> None:
    params = replace(PARAMS, device="cuda", stain=StainParams("none"))
    shard(tmp_path, slide, params, threads=1)
    assert card.made == {"stream": 1, "upload": 1, "download": 2}  # the block; figures, colours
    shard(tmp_path / "again", slide, params, threads=1)
    assert card.made == {"stream": 1, "upload": 2, "download": 4}


def test_threads_change_no_byte(tmp_path: Path, card: ShimCard) -> None:
    path = write_tiff(tmp_path / "a.tif", tissue(64, 2300))  # two blocks
    hashes = []
    for threads in (1, 3):
        marker = shard(tmp_path / str(threads), path, replace(PARAMS, device="cuda"), threads)[1]
        hashes.append(marker.files)
    assert hashes[0] == hashes[1]
    assert card.made["stream"] <= 3


def test_nothing_passes_the_filters(tmp_path: Path, slide: Path, card: ShimCard) -> None:
    params = replace(PARAMS, device="cuda", qc=QcParams(min_focus=1e6))
    marker = shard(tmp_path, slide, params)[1]
    assert (marker.tiles, marker.stain, marker.stain_fit) == (0, {}, None)
    assert marker.counts["blurred"] > 30


def test_the_probe_goes_through_every_step(card: ShimCard) -> None:
    (file,) = try_out(engines.of("cuda"))
    assert jpeg.decode(file).shape == (40, 40, 3)


@pytest.mark.parametrize(
    ("member", "raised", "kind", "message"),
    [
        ("upload", Full("6 GB"), DeviceError, "a.tif: the GPU's memory is full .6 GB.; use fewer `workers`"),
        ("download", Lost("illegal address"), DeviceLost, "a.tif: the GPU failed: illegal address"),
        ("encoder", RuntimeError("code 8"), DeviceError, "a.tif: nvImageCodec offers no JPEG encoder"),
    ],
)
def test_a_card_that_cannot(
    tmp_path: Path, slide: Path, card: ShimCard, member: str, raised: Exception, kind: Any, message: str
) -> None:
    def fail(*_: object) -> None:
        raise raised

    working = getattr(card, member)
    setattr(card, member, fail)
    params = replace(PARAMS, device="cuda", stain=StainParams("none"))
    with pytest.raises(DeviceError, match=message) as caught:
        shard(tmp_path, slide, params)
    assert type(caught.value) is kind
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["dataset.json"]
    setattr(card, member, working)
    assert shard(tmp_path, slide, params)[1].tiles > 30


def test_a_tile_that_cannot_be_encoded_is_an_error(card: ShimCard) -> None:
    from nvidia import nvimgcodec

    kinds = [nvimgcodec.Backend(nvimgcodec.BackendKind.GPU_ONLY)]  # of which there is none
    card.encoder = lambda: nvimgcodec.Encoder(device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY, backends=kinds)
    cuda = CudaEngine(card)
    with pytest.raises(DeviceError, match="could not encode 1 of 1 tile of 64 px"), cuda.block():
        tiles, _ = cuda.cut(tissue(64, 64), np.zeros((1, 2), np.int32), 64, 64)
        cuda.encode(tiles, 90, "420")


def test_the_device_is_a_parameter_and_devices_are_not_mixed(tmp_path: Path, slide: Path) -> None:
    cuda = replace(PARAMS, device="cuda")
    assert "device" not in PARAMS.as_dict()  # so that datasets made before there was a choice go on
    assert cuda.as_dict() == {**PARAMS.as_dict(), "device": "cuda"}
    assert build_id(cuda.as_dict()) != build_id(PARAMS.as_dict())
    shard(tmp_path, slide, PARAMS)
    with pytest.raises(UsageError, match=r"device None there, cuda now.*another `out`, or `rebuild`"):
        prepare(tmp_path, cuda, rebuild=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, slide: Path) -> Callable[..., Path]:
    """Runs the command on three slides."""
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("gpu")
    for number in range(3):
        (folder / f"s{number}.tif").write_bytes(slide.read_bytes())

    def command(*options: str) -> Path:
        root = folder / "-".join(["d", *options])
        code = "import sys; from pathprep.cli import main; main()"
        arguments = ["shard", str(folder), "--out", str(root), "--tile", "64", "--max-pen", "0.5"]
        subprocess.run([sys.executable, "-c", code, *arguments, *options], check=True)
        return root

    return command


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["bake", "fit", "none"])
def test_on_a_gpu_the_command_makes_the_cpus_dataset(made: Callable[..., Path], mode: str) -> None:
    cpu, cuda = (Dataset(made("--stain", mode, *gpus)) for gpus in ((), ("--gpus", "1")))
    assert cuda.params["device"] == "cuda"
    assert cuda.slides == cpu.slides == ["s0", "s1", "s2"]
    for name in cuda.slides:
        for key in ("counts", "stain", "tiles"):
            assert getattr(cuda.markers[name], key) == getattr(cpu.markers[name], key)
        ours, theirs = (dataset.table(name).to_pylist() for dataset in (cuda, cpu))
        for row, other in zip(ours, theirs, strict=True):
            assert [row[k] for k in ("x", "y", "stain_status")] == [
                other[k] for k in ("x", "y", "stain_status")
            ]
            a, b = (
                jpeg.decode(d.read(name, r["offset"], r["length"])) for d, r in ((cuda, row), (cpu, other))
            )
            assert np.abs(a.astype(int) - b).mean() < 1.5


@pytest.mark.gpu
def test_on_a_gpu_a_second_run_gives_the_same_bytes(made: Callable[..., Path]) -> None:
    hashes = []
    for workers in ("1", "3"):
        root = made("--gpus", "1", "--workers", workers)
        hashes.append([json.loads(p.read_bytes())["files"] for p in sorted((root / "slides").glob("*.json"))])
    assert hashes[0] == hashes[1]


@pytest.mark.gpu
def test_the_process_that_workers_are_forked_from_does_not_touch_the_gpu() -> None:
    import subprocess
    import sys

    code = (
        "import os, pathprep.sharding.warm;"
        "print([f for f in map(os.readlink, map('/proc/self/fd/{}'.format, range(64))) if 'nvidia' in f])"
    )
    code = code.replace("map(os.readlink, ", "(os.readlink(p) if os.path.lexists(p) else '' for p in ")
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
