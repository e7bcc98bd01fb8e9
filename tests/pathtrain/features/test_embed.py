"""Features on disk: layout, order, restart, mixed tile sizes, damaged tiles, image folders."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
import torch
from helpers.markers import facts_with_bounds, slide_marker
from helpers.toys import noise, spoil, write_dataset, write_run
from PIL import Image
from typer.testing import CliRunner

from pathprep.errors import UsageError
from pathprep.mixed.make import mix
from pathprep.storage.local import LocalStorage
from pathtrain.cli import app
from pathtrain.data.whole_tiles import DatasetTiles, open_tiles
from pathtrain.features.embed import embed
from pathtrain.features.encode import encode, preparation
from pathtrain.features.part import origin
from pathtrain.images import resize
from pathtrain.models.backbone import build
from pathtrain.models.positions import as_dino
from pathtrain.params.encoding import How
from pathtrain.runs.opening import load
from pathtrain.runs.variants import started, untrained


def test_layout_is_that_of_clam_and_trident(tmp_path: Path, dataset: Path, run: Path) -> None:
    summary = embed(run, dataset, tmp_path / "features", batch=4)
    assert (summary.written, summary.kept, summary.empty, summary.tiles, summary.dim) == (2, 0, 1, 18, 24)
    assert sorted(path.name for path in (tmp_path / "features").iterdir()) == ["a.h5", "b.h5"]
    with h5py.File(tmp_path / "features" / "b.h5") as file:
        assert file["features"].shape == (5, 24)
        assert file["features"].dtype == np.float32
        assert file["coords"][:].tolist() == [[64 * column, 0] for column in range(5)]
        attributes = dict(file["coords"].attrs)
        assert attributes["patch_size"] == 32
        assert attributes["patch_size_level0"] == 64
        assert attributes["level0_magnification"] == attributes["target_magnification"] == 20
        assert attributes["name"] == "b"
        assert attributes["origin"] == "slide"
        assert "bounds" not in attributes
        assert file.attrs["fingerprint"] == load(run).fingerprint
        assert file.attrs["build_id"] == DatasetTiles(dataset).dataset.info["build_id"]


def test_weights_of_baselines_and_a_central_crop(tmp_path: Path, dataset: Path) -> None:
    run = write_run(tmp_path / "trained-run", dataset, seed=5)  # the recipe's own seed is 0
    tiles, model = open_tiles(dataset), load(run)
    order = np.arange(13, 18)  # of slide b
    made = {}
    for name, options in (
        ("trained", {}), ("start", {"weights": "start"}), ("random", {"weights": "random", "seed": 4}),
        ("cropped", {"resize": 40}),
    ):  # fmt: skip
        assert embed(run, dataset, tmp_path / name, **options).written == 2  # type: ignore[arg-type]
        with h5py.File(tmp_path / name / "b.h5") as file:
            made[name] = file["features"][:]
            assert file.attrs["size"] == ("40 cropped to 32" if name == "cropped" else 32)
    for name, network, how in (
        ("start", started(model), How()),
        ("random", untrained(model, 4), How()),
        ("cropped", model, How(short=40)),
    ):
        (expected,), _ = encode([network], tiles, order, how)
        np.testing.assert_allclose(made[name], expected, atol=1e-5)
        assert np.abs(made[name] - made["trained"]).max() > 1e-3
    with pytest.raises(UsageError, match="`seed` 0: with it the run began"):
        embed(run, dataset, tmp_path / "own", weights="random", seed=0)
    with pytest.raises(UsageError, match="`weights` is for `level` tile"):
        embed(run, dataset, tmp_path / "region", level="region", weights="start")


def test_coordinates_say_what_they_count_from() -> None:
    marker = slide_marker("b", facts=facts_with_bounds(100, 50, 300, 200))
    assert origin(marker) == {"origin": "slide", "bounds": [100, 50, 300, 200]}


def test_features_are_the_networks_in_index_order(tmp_path: Path, dataset: Path, run: Path) -> None:
    embed(run, dataset, tmp_path / "features", batch=4)
    model, tiles = load(run), DatasetTiles(dataset)
    for slide, start, end in (("a", 0, 13), ("b", 13, 18)):
        images = [simplejpeg.decode_jpeg(tiles.read(tile), colorspace="RGB") for tile in range(start, end)]
        batch = torch.from_numpy(np.stack([resize(image, 32) for image in images])).permute(0, 3, 1, 2) / 255
        mean, std = (torch.tensor(v)[:, None, None] for v in (model.config.mean, model.config.std))
        with torch.inference_mode():
            expected = model.module((batch - mean) / std).numpy()
        with h5py.File(tmp_path / "features" / f"{slide}.h5") as file:
            np.testing.assert_allclose(file["features"][:], expected, atol=1e-5)


def test_resize_is_pillows_antialiased_bicubic() -> None:
    image = noise(1, side=96)[0]
    expected = np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BICUBIC)).astype(int)
    assert np.abs(resize(image, 32) - expected).max() <= 1
    assert resize(image, 96) is image


def test_colour_is_mean_and_sd_of_each_channel(dataset: Path, run: Path) -> None:
    tiles = open_tiles(dataset)
    _, colour = encode([load(run)], tiles, np.array([3]), How())
    pixels = simplejpeg.decode_jpeg(tiles.read(3), colorspace="RGB").reshape(-1, 3) / 255
    np.testing.assert_allclose(colour[0], [*pixels.mean(axis=0), *pixels.std(axis=0)], atol=1e-5)


def test_batch_size_changes_nothing(tmp_path: Path, dataset: Path, run: Path) -> None:
    arrays = []
    for batch in (1, 7):
        embed(run, dataset, tmp_path / str(batch), batch=batch)
        with h5py.File(tmp_path / str(batch) / "a.h5") as file:
            arrays.append(file["features"][:])
    np.testing.assert_allclose(*arrays, atol=1e-5)


def test_same_model_keeps_files_and_another_is_refused_or_replaces_them(
    tmp_path: Path, dataset: Path, run: Path
) -> None:
    out = tmp_path / "features"
    embed(run, dataset, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert (embed(run, dataset, out).written, embed(run, dataset, out).kept) == (0, 2)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    other = write_run(tmp_path / "other", dataset, seed=1)
    with pytest.raises(
        UsageError, match=r"features of another model .* a.h5: of run, fingerprint .* `replace`"
    ):
        embed(other, dataset, out)
    with pytest.raises(UsageError, match="size 32 there, 48 now"):
        embed(run, dataset, out, size=48)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert embed(other, dataset, out, replace=True).written == 2
    assert embed(run, dataset, out, size=48, replace=True).written == 2
    with h5py.File(out / "a.h5") as file:
        assert (file.attrs["size"], file.attrs["positions"]) == (48, "once")


def test_slide_that_changed_is_embedded_again(tmp_path: Path, dataset: Path, run: Path) -> None:
    out = tmp_path / "features"
    embed(run, dataset, out)
    write_dataset(dataset, {"a": noise(13, seed=9)})
    summary = embed(run, dataset, out)
    assert (summary.written, summary.kept) == (1, 1)


KILLED = """
import os, signal, sys
from pathlib import Path
from pathtrain.features import embed
from pathtrain.features import files
import dataclasses
kind = files.FORMATS["hdf5"]
def dying(path, part, features):
    if part.name == "b":
        cut = files.h5py.File
        def partial(*arguments):
            file = cut(*arguments)
            file["features"] = features[:2]
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        files.h5py.File = partial
    kind.write(path, part, features)
files.FORMATS["hdf5"] = dataclasses.replace(kind, write=dying)
embed.embed(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
"""


@pytest.mark.slow
def test_killed_while_writing_resumes_to_the_same_bytes(tmp_path: Path, dataset: Path, run: Path) -> None:
    embed(run, dataset, tmp_path / "whole")
    out = tmp_path / "killed"
    done = subprocess.run([sys.executable, "-c", KILLED, run, dataset, out], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert (out / "a.h5").exists()
    assert not (out / "b.h5").exists()
    assert [path.name for path in out.iterdir() if path.name.startswith(".tmp-")]
    summary = embed(run, dataset, out)
    assert (summary.written, summary.kept) == (1, 1)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {
        p.name: p.read_bytes() for p in (tmp_path / "whole").iterdir()
    }


def test_truncated_file_is_written_again(tmp_path: Path, dataset: Path, run: Path) -> None:
    out = tmp_path / "features"
    embed(run, dataset, out)
    whole = (out / "a.h5").read_bytes()
    (out / "a.h5").write_bytes(whole[: len(whole) // 2])
    assert embed(run, dataset, out).written == 1
    assert (out / "a.h5").read_bytes() == whole


DAMAGE = {
    "CRC": "its CRC32 differs",
    "short": "its tar ends [0-9]+ bytes too early",
    "gone": "No such file or directory",
    "JPEG": r"cannot be decoded \(.+\)",
    "header": r"cannot be decoded \(.+\)",
    "disk": r"cannot be read \(Input/output error\)",
}


def damage(dataset: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In slide a: of tile 4, and of the tiles after it if its tar ends too early or is gone."""
    tar, place = dataset / "shards" / "a.tar", DatasetTiles(dataset).index.columns["offset"]
    if how == "gone":
        tar.unlink()
    elif how == "short":
        os.truncate(tar, int(place[4]) + 100)
    elif how == "disk":
        read = LocalStorage.read_at

        def failing(self: LocalStorage, name: str, offset: int, length: int) -> bytes:
            if (self.root / name, offset) == (tar, place[4]):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read(self, name, offset, length)

        monkeypatch.setattr(LocalStorage, "read_at", failing)
    else:
        spoil(dataset, "a", 4, b"damage" if how == "CRC" else None, header=how == "header")


@pytest.mark.parametrize(("how", "format"), [*((how, "hdf5") for how in DAMAGE), ("CRC", "parquet")])
def test_a_damaged_slide_costs_its_own_file(
    tmp_path: Path, dataset: Path, run: Path, how: str, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, ending = tmp_path / "features", {"hdf5": ".h5", "parquet": ".parquet"}[format]
    shutil.copytree(dataset, tmp_path / "intact")
    where, fix = "slide a, tile 128_0 in ", f"`pathprep repair {dataset}` makes damaged slides again"
    if how == "gone":
        where, fix = "", f"run `pathprep verify {dataset}`"
    with monkeypatch.context() as during:
        damage(dataset, how, during)
        for again in (False, True):
            done = embed(run, dataset, out, batch=4, format=format)
            assert (done.written, done.kept, done.tiles) == ((0, 1, 0) if again else (1, 0, 5))
            assert list(done.failed) == ["a"]
            assert re.fullmatch(f"{where}{dataset}/shards/a.tar: {DAMAGE[how]}; {fix}", done.failed["a"])
            record = json.loads((out / "failed" / "a.json").read_text())
            assert record == {"slide": "a", "error": done.failed["a"]}
            assert sorted(path.name for path in out.iterdir()) == [f"b{ending}", "failed"]
    before = (out / f"b{ending}").stat()
    shutil.rmtree(dataset)
    (tmp_path / "intact").rename(dataset)
    mended = embed(run, dataset, out, batch=4, format=format)
    assert (mended.written, mended.kept, mended.failed) == (1, 1, {})
    assert (out / f"b{ending}").stat().st_mtime_ns == before.st_mtime_ns
    assert not list((out / "failed").iterdir())


def test_a_file_of_another_model_does_not_outlive_damage(tmp_path: Path, dataset: Path, run: Path) -> None:
    """It would be taken for this model's."""
    out = tmp_path / "features"
    embed(run, dataset, out)
    spoil(dataset, "a", 4, b"damage")
    assert embed(run, dataset, out).failed == {}  # the file is of the intact tar, as the marker has it
    other = write_run(tmp_path / "other", dataset, seed=1)
    assert list(embed(other, dataset, out, replace=True).failed) == ["a"]
    assert sorted(path.name for path in out.iterdir()) == ["b.h5", "failed"]


def test_the_command_lists_what_failed(tmp_path: Path, dataset: Path, run: Path) -> None:
    spoil(dataset, "a", 4, b"damage")
    arguments = ["embed", str(run), str(dataset), "--out", str(tmp_path / "features")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "1 file written, 1 slide without a tile, 1 failed; 5 tiles, 24 numbers each" in done.stdout
    listed = r"failed, tried again by the next run\):\n  a: slide a, tile 128_0 in .*pathprep repair"
    assert re.search(listed, done.stderr)


def test_image_folder_gives_features_files_labels_groups(tmp_path: Path, run: Path) -> None:
    folder = tmp_path / "tiles"
    folder.mkdir()
    for number, image in enumerate(noise(3, side=40)):
        Image.fromarray(image).save(folder / f"{number}.png")
    rows = "file,label,group\n0.png,x,g\n1.png,y,g\n2.png,,h\n"
    (folder / "labels.csv").write_text(rows)
    summary = embed(run, folder, tmp_path / "features")
    assert (summary.written, summary.tiles) == (1, 3)
    with h5py.File(tmp_path / "features" / "tiles.h5") as file:
        assert sorted(file) == ["features", "files", "groups", "labels"]
        assert file["labels"].asstr()[:].tolist() == ["x", "y", ""]
        assert file["files"].asstr()[:].tolist() == ["0.png", "1.png", "2.png"]
    assert embed(run, folder, tmp_path / "features").kept == 1


def test_broken_and_missing_images_are_named(tmp_path: Path, run: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    (tmp_path / "labels.csv").write_text("file,label\nbroken.jpg,x\n")
    (reason,) = embed(run, tmp_path, tmp_path / "features").failed.values()
    fix = r"put it right, or take it out of .*labels\.csv"
    assert re.search(rf"broken\.jpg: cannot be decoded .*; {fix}", reason)
    (tmp_path / "labels.csv").write_text("file,label\nmissing.jpg,x\n")
    (reason,) = embed(run, tmp_path, tmp_path / "features").failed.values()
    assert re.search(rf"missing\.jpg: No such file .*; {fix}", reason)


@pytest.mark.parametrize("format", ["hdf5", "parquet"])
def test_one_bad_image_of_a_folder_costs_its_row(tmp_path: Path, run: Path, format: Any) -> None:
    folder, out = tmp_path / "tiles", tmp_path / "features"
    folder.mkdir()
    for number, image in enumerate(noise(6, side=40)):
        Image.fromarray(image).save(folder / f"{number}.png")
    (folder / "labels.csv").write_text("file,label\n" + "".join(f"{n}.png,{n}\n" for n in range(6)))
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[:60])
    (folder / "4.png").unlink()
    done = embed(run, folder, out, batch=2, format=format)
    assert (done.written, done.kept, done.tiles) == (1, 0, 4)
    assert list(done.failed) == ["1.png", "4.png"]
    assert json.loads((out / "failed" / "tiles.json").read_text())["images"] == done.failed
    made = next(out.glob("tiles.*"))
    if format == "hdf5":
        with h5py.File(made) as file:
            assert file["labels"].asstr()[:].tolist() == ["0", "2", "3", "5"]
            assert file["features"].shape == (4, 24)
    else:
        assert pq.read_table(made)["label"].to_pylist() == ["0", "2", "3", "5"]
    for name in ("1.png", "4.png"):
        (folder / name).write_bytes(whole)
    done = embed(run, folder, out, batch=2, format=format)  # tried again
    assert (done.written, done.failed, done.tiles) == (1, {}, 6)
    assert not (out / "failed" / "tiles.json").exists()
    assert embed(run, folder, out, batch=2, format=format).kept == 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"size": 40}, "`size` 40: must be a multiple of 16, the patch size of run"),
        ({"size": 0}, "`size` 0"),
        ({"device": "gpu"}, "`device` is 'gpu'; expected auto, cpu, cuda"),
    ],
)
def test_wrong_options(tmp_path: Path, dataset: Path, run: Path, how: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        embed(run, dataset, tmp_path / "features", **how)


def test_neither_dataset_nor_folder(tmp_path: Path, run: Path) -> None:
    with pytest.raises(UsageError, match=r"no slides in .* nor is it a dataset .* or a folder of"):
        embed(run, tmp_path, tmp_path / "features")


def test_mixed_shards_are_for_training(tmp_path: Path, dataset: Path, run: Path) -> None:
    mix([dataset], tmp_path / "mixed")
    says = rf"mixed: holds mixed shards .*; give the dataset that they were mixed from: {dataset}$"
    with pytest.raises(UsageError, match=says):
        embed(run, tmp_path / "mixed", tmp_path / "features")
    for level in ("region", "slide"):
        arguments = ["embed", str(run), str(tmp_path / "mixed"), "--level", level]
        assert isinstance(CliRunner().invoke(app, arguments).exception, UsageError)


def test_parquet_holds_what_hdf5_holds(tmp_path: Path, dataset: Path, run: Path) -> None:
    out = tmp_path / "features"
    embed(run, dataset, out)
    summary = embed(run, dataset, out, format="parquet")
    assert (summary.written, summary.tiles) == (2, 18)
    with h5py.File(out / "b.h5") as file:
        table = pq.read_table(out / "b.parquet")
        assert np.array_equal(np.array(table["features"].to_pylist(), np.float32), file["features"][:])
        assert table["features"].type.list_size == 24
        assert np.array_equal(np.stack([table["x"], table["y"]], axis=1), file["coords"][:])
        about = json.loads(table.schema.metadata[b"pathtrain"])
        made = {key: value for key, value in file.attrs.items() if key != "seal"}
        assert {**about["about"], **about["made_from"], "version": about["version"]} == made
        assert about["coords"]["patch_size_level0"] == file["coords"].attrs["patch_size_level0"] == 64
    assert embed(run, dataset, out, format="parquet").kept == 2
    (out / "b.parquet").write_bytes((out / "b.parquet").read_bytes()[:-20])
    assert embed(run, dataset, out, format="parquet").kept == 1
    with pytest.raises(UsageError, match="`format` csv: give hdf5 or parquet"):
        embed(run, dataset, out, format="csv")


def test_parquet_of_an_image_folder_has_its_strings(tmp_path: Path, run: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, tile in enumerate(noise(3)):
        Image.fromarray(tile).save(folder / f"{number}.png")
    (folder / "labels.csv").write_text("file,label,group\n0.png,p,g\n1.png,q,g\n2.png,,h\n")
    embed(run, folder, tmp_path / "features", format="parquet")
    table = pq.read_table(tmp_path / "features" / "pictures.parquet")
    assert table.select(["file", "label", "group"]).to_pylist() == [
        {"file": "0.png", "label": "p", "group": "g"},
        {"file": "1.png", "label": "q", "group": "g"},
        {"file": "2.png", "label": "", "group": "h"},
    ]


def test_bfloat16_is_close_and_not_taken_for_float32(tmp_path: Path, dataset: Path, run: Path) -> None:
    arrays = []
    for precision in ("float32", "bfloat16"):
        assert embed(run, dataset, tmp_path / "features", precision=precision).written == 2
        with h5py.File(tmp_path / "features" / "a.h5") as file:
            assert file["features"].dtype == np.float32
            arrays.append(file["features"][:])
    assert not np.array_equal(*arrays)
    cosines = (arrays[0] * arrays[1]).sum(1) / np.prod([np.linalg.norm(a, axis=1) for a in arrays], axis=0)
    assert cosines.min() > 0.999
    with pytest.raises(UsageError, match="`precision` is 'half'; expected float32, bfloat16"):
        embed(run, dataset, tmp_path / "features", precision="half")


@pytest.mark.parametrize("scheme", ["once", "hub", "registers"])
def test_features_at_another_size_are_of_positions_as_the_model_has_them(
    tmp_path: Path, dataset: Path, run: Path, scheme: str
) -> None:
    """A larger size than it was trained at, against the training's own resampling; results say how."""
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("positions: once", f"positions: {scheme}"))
    model = load(run)
    assert preparation(model, How()) == {"resize": 32, "crop": None}
    expected = {"resize": 48, "crop": None, "positions": scheme}
    assert preparation(model, How(size=48)) == expected
    assert embed(run, dataset, tmp_path / "features", size=48).written == 2
    trained = build(model.config).eval()
    trained.load_state_dict(model.module.state_dict())
    as_dino(trained, [48], scheme)
    tiles = DatasetTiles(dataset)
    pixels = [
        simplejpeg.decode_jpeg(tiles.read(tile), colorspace="RGB") for tile in range(int(tiles.starts[1]))
    ]
    images = torch.from_numpy(np.stack([resize(image, 48) for image in pixels]))
    with torch.inference_mode():
        found = trained(model.normalised(images.permute(0, 3, 1, 2) / 255)).numpy()
    with h5py.File(tmp_path / "features" / "a.h5") as file:
        assert file.attrs["positions"] == scheme
        np.testing.assert_allclose(file["features"][:], found, atol=1e-5)
