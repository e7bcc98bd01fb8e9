"""Features on disk: layout, order, restart, mixed tile sizes, damaged tiles, image folders."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
import torch
from PIL import Image
from toys import noise, write_dataset, write_run

from pathprep.errors import DatasetError, UsageError
from pathtrain.data.decode import resize
from pathtrain.data.tiles import DatasetTiles, open_tiles
from pathtrain.embed import Part, embed, share
from pathtrain.encode import How, Place, encode
from pathtrain.feature_files import MADE_FROM
from pathtrain.models.load import load


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    slides = {"a": noise(13, seed=1), "b": noise(5, side=64, seed=2), "empty": []}
    return write_dataset(tmp_path / "dataset", slides)


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Path:
    return write_run(tmp_path / "run", dataset)


def test_layout_is_that_of_clam_and_trident(tmp_path: Path, dataset: Path, run: Path) -> None:
    summary = embed(run, dataset, tmp_path / "features", How(batch=4))
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
        assert file.attrs["fingerprint"] == load(run).fingerprint
        assert file.attrs["build_id"] == DatasetTiles(dataset).dataset.info["build_id"]


def test_features_are_the_networks_in_index_order(tmp_path: Path, dataset: Path, run: Path) -> None:
    embed(run, dataset, tmp_path / "features", How(batch=4))
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
        embed(run, dataset, tmp_path / str(batch), How(batch=batch))
        with h5py.File(tmp_path / str(batch) / "a.h5") as file:
            arrays.append(file["features"][:])
    np.testing.assert_allclose(*arrays, atol=1e-5)


def test_same_model_keeps_files_and_another_replaces_them(tmp_path: Path, dataset: Path, run: Path) -> None:
    out = tmp_path / "features"
    embed(run, dataset, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert (embed(run, dataset, out).written, embed(run, dataset, out).kept) == (0, 2)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert embed(write_run(tmp_path / "other", dataset, seed=1), dataset, out).written == 2
    assert embed(run, dataset, out, How(size=48)).written == 2


def test_slide_that_changed_is_embedded_again(tmp_path: Path, dataset: Path, run: Path) -> None:
    out = tmp_path / "features"
    embed(run, dataset, out)
    write_dataset(dataset, {"a": noise(13, seed=9)})
    summary = embed(run, dataset, out)
    assert (summary.written, summary.kept) == (1, 1)


KILLED = """
import os, signal, sys
from pathlib import Path
from pathtrain import embed, feature_files
ending, fits, whole = embed.FORMATS["hdf5"]
def dying(path, part, features):
    if part.name == "b":
        cut = feature_files.h5py.File
        def partial(*arguments):
            file = cut(*arguments)
            file["features"] = features[:2]
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        feature_files.h5py.File = partial
    whole(path, part, features)
embed.FORMATS["hdf5"] = ending, fits, dying
embed.embed(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
"""


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


def test_damaged_tile_is_named(tmp_path: Path, dataset: Path, run: Path) -> None:
    tar = dataset / "shards" / "a.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 255
    tar.write_bytes(data)
    with pytest.raises(DatasetError, match=r"a\.tar: 0_0\.jpg: damaged .*pathprep verify"):
        embed(run, dataset, tmp_path / "features")


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
    with pytest.raises(DatasetError, match=r"broken\.jpg: cannot be decoded"):
        embed(run, tmp_path, tmp_path / "features")
    (tmp_path / "labels.csv").write_text("file,label\nmissing.jpg,x\n")
    with pytest.raises(DatasetError, match=r"missing\.jpg: No such file"):
        embed(run, tmp_path, tmp_path / "features")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (How(size=40), "--size 40: must be a multiple of 16, the patch size of run"),
        (How(size=0), "--size 0"),
        (How(device="gpu"), "--device gpu: give auto, cpu or cuda"),
    ],
)
def test_wrong_options(tmp_path: Path, dataset: Path, run: Path, how: How, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        embed(run, dataset, tmp_path / "features", how)


def test_neither_dataset_nor_folder(tmp_path: Path, run: Path) -> None:
    with pytest.raises(UsageError, match=r"neither a dataset .* nor a folder"):
        embed(run, tmp_path, tmp_path / "features")


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
        assert about["made_from"] == {key: file.attrs[key] for key in MADE_FROM}
        assert about["coords"]["patch_size_level0"] == file["coords"].attrs["patch_size_level0"] == 64
    assert embed(run, dataset, out, format="parquet").kept == 2
    (out / "b.parquet").write_bytes((out / "b.parquet").read_bytes()[:-20])
    assert embed(run, dataset, out, format="parquet").kept == 1
    with pytest.raises(UsageError, match="--format csv: give hdf5 or parquet"):
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
        assert embed(run, dataset, tmp_path / "features", How(precision=precision)).written == 2
        with h5py.File(tmp_path / "features" / "a.h5") as file:
            assert file["features"].dtype == np.float32
            arrays.append(file["features"][:])
    assert not np.array_equal(*arrays)
    cosines = (arrays[0] * arrays[1]).sum(1) / np.prod([np.linalg.norm(a, axis=1) for a in arrays], axis=0)
    assert cosines.min() > 0.999
    with pytest.raises(UsageError, match="--precision half: give float32 or bfloat16"):
        embed(run, dataset, tmp_path / "features", How(precision="half"))


def test_shares_are_disjoint_complete_and_even() -> None:
    sizes = [1000, 400, 400, 390, 10, 5, 5]
    ends = np.cumsum(sizes).tolist()
    parts = [
        Part(f"s{number}", range(end - size, end), {}, dict, {})
        for number, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]
    shares = [share(parts, Place(rank, 2)) for rank in range(2)]
    assert sorted(part.name for some in shares for part in some) == [part.name for part in parts]
    loads = [sum(len(part.tiles) for part in some) for some in shares]
    assert max(loads) - min(loads) <= 210
    assert share(parts, Place()) == parts


@pytest.mark.parametrize("rank", ["2", "-1", "x"])
def test_wrong_environment(
    tmp_path: Path, dataset: Path, run: Path, rank: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(
        UsageError, match=f"RANK={rank}, WORLD_SIZE=2, LOCAL_RANK=None: not what torchrun sets"
    ):
        embed(run, dataset, tmp_path / "features")


def test_two_processes_write_what_one_writes(tmp_path: Path, dataset: Path, run: Path) -> None:
    """Started as torchrun starts them: by the command, with nothing but the environment between them."""
    embed(run, dataset, tmp_path / "one")
    command = [sys.executable, "-m", "pathtrain.cli", "embed", run, dataset, "--out", tmp_path / "two"]
    world = {"WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    both = [
        subprocess.Popen(
            [*map(str, command)],
            env={**os.environ, **world, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in "01"
    ]
    said = [process.communicate(timeout=300)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert "process 0 of 2: " in said[0]
    assert "1 files written, 1 slides without a tile; 13 tiles" in said[0]
    assert "1 files written; 5 tiles" in said[1]
    names = [{path.name for path in (tmp_path / folder).iterdir()} for folder in ("one", "two")]
    assert names[0] == names[1] == {"a.h5", "b.h5"}
    for name in names[0]:
        with h5py.File(tmp_path / "one" / name) as one, h5py.File(tmp_path / "two" / name) as two:
            np.testing.assert_allclose(one["features"][:], two["features"][:], atol=1e-5)
            assert np.array_equal(one["coords"][:], two["coords"][:])


@pytest.mark.slow
def test_torchrun(tmp_path: Path, dataset: Path, run: Path) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command = [*launcher, "-m", "pathtrain.cli", "embed", run, dataset, "--out", tmp_path / "two"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["a.h5", "b.h5"]
