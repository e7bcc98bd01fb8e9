"""Mixing: every tile once, equal bytes whatever the workers, memory or kills, read by the real readers."""

import json
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
import webdataset as wds
from helpers.mixing import content, flip, samples, write
from nvidia.dali import fn, pipeline_def, types

from pathprep import permutation
from pathprep.cli import main
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import build_id
from pathprep.errors import DatasetError, UsageError
from pathprep.folders import verify
from pathprep.mixed import format as mixed
from pathprep.mixed import make_pass
from pathprep.mixed.make import GB, mix
from pathprep.storage import atomic


def test_every_tile_comes_once_with_its_bytes_and_fit(fit: Path, tmp_path: Path) -> None:
    summary = mix([fit], tmp_path / "m", tiles_per_shard=15)
    assert (summary.tiles, summary.shards, summary.components) == (100, 7, ("jpg", "fit"))
    dataset, expected = Dataset(fit), {}
    for slide in dataset.slides:
        for row in dataset.table(slide).to_pylist():
            jpeg = dataset.read(slide, row["offset"], row["length"])
            code = ("fitted", "slide_fit", "unfitted").index(row["stain_status"])
            values = [*(row["he"] or [0] * 6), *(row["max_c"] or [0] * 2), code]
            expected[f"{slide}__{row['x']}_{row['y']}"] = {"jpg": jpeg, "fit": struct.pack("<9f", *values)}
    found = list(samples(tmp_path / "m"))
    assert len(found) == 100
    assert dict(found) == expected
    info = json.loads((tmp_path / "m" / "mixed.json").read_text())
    assert [marker["tiles"] for marker in info["shards"]] == [14, 14, 14, 15, 14, 14, 15]
    order = permutation.permuted(np.arange(100), 100, 0)
    assert [key for key, _ in found] == [list(expected)[tile] for tile in order]
    assert not (tmp_path / "m" / "unfinished").exists()


def test_the_index_leads_back_to_the_slide_and_to_the_bytes(fit: Path, tmp_path: Path) -> None:
    mix([fit], tmp_path, tiles_per_shard=40)
    for number in range(3):
        tar, _, index = (tmp_path / name for name in mixed.files(mixed.name(number)))
        data = tar.read_bytes()
        for row in pq.read_table(index).to_pylist():
            jpeg = data[row["offset"] : row["offset"] + row["length"]]
            assert zlib.crc32(jpeg) == row["crc32"]
            assert jpeg.rstrip(b"\0").endswith(f"{row['slide']} {row['x'] // 32}".encode())
            assert row["key"] == f"{row['slide']}__{row['x']}_{row['y']}"
            assert (row["he"] is None) == (row["stain_status"] == "unfitted")


@pytest.mark.parametrize(("workers", "shards_held"), [(1, 1), (3, 2), (3, 100)])
def test_neither_workers_nor_memory_change_a_byte(
    fit: Path, tmp_path: Path, workers: int, shards_held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = mix([fit], tmp_path / "a", tiles_per_shard=9, seed=3)
    assert summary.passes == 1
    largest = max(path.stat().st_size for path in (tmp_path / "a" / "shards").glob("*.tar"))
    monkeypatch.setattr(make_pass, "UNIT", 10)
    memory = shards_held * largest / GB
    other = mix([fit], tmp_path / "b", tiles_per_shard=9, seed=3, memory=memory, workers=workers)
    assert other.passes == {1: 12, 2: 6, 100: 1}[shards_held]
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_another_seed_gives_another_order(fit: Path, tmp_path: Path) -> None:
    orders = []
    for seed in (0, 1):
        mix([fit], tmp_path / str(seed), seed=seed)
        orders.append([key for key, _ in samples(tmp_path / str(seed))])
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


def test_the_order_is_the_same_in_every_version() -> None:
    """Else a mix that one version began would be finished wrongly by the next."""
    assert permutation.permuted(np.arange(10), 10, 0).tolist() == [8, 0, 4, 7, 5, 2, 1, 6, 9, 3]
    assert permutation.permuted([0, 1, 999_999], 10**6, 7).tolist() == [425445, 365940, 703247]


# webdataset leaves its file to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_and_decodes_the_samples(fit: Path, tmp_path: Path) -> None:
    mix([fit], tmp_path, tiles_per_shard=60)
    found = []
    for path in sorted((tmp_path / "shards").glob("*.tar")):
        found += list(wds.WebDataset(str(path), shardshuffle=False))
    assert len({sample["__key__"] for sample in found}) == 100
    expected = dict(samples(tmp_path))
    for sample in found:
        assert {"jpg": sample["jpg"], "fit": sample["fit"]} == expected[sample["__key__"]]


def test_dali_reads_jpegs_and_fits_by_the_index(fit: Path, tmp_path: Path) -> None:
    mix([fit], tmp_path, tiles_per_shard=60)
    paths = sorted(map(str, (tmp_path / "shards").glob("*.tar")))

    @pipeline_def(batch_size=50, num_threads=1, device_id=None)
    def read() -> Any:
        jpegs, fits = fn.readers.webdataset(
            paths=paths,
            index_paths=[path.replace(".tar", ".idx") for path in paths],
            ext=["jpg", "fit"],
            missing_component_behavior="error",
        )
        return fn.decoders.image(jpegs), fn.reinterpret(fits, dtype=types.FLOAT)

    pipe = read()
    pipe.build()
    expected = [members for _, members in samples(tmp_path)]
    for start in (0, 50):
        images, fits = pipe.run()
        for number in range(50):
            members = expected[start + number]
            np.testing.assert_array_equal(fits.at(number), np.frombuffer(members["fit"], "<f4"))
            np.testing.assert_array_equal(images.at(number), simplejpeg.decode_jpeg(members["jpg"]))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_labels_come_along_where_a_tile_has_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {"a": "tumour", "b": "stroma, dämmrig"}
    one = write(tmp_path / "1", {"a": 5, "none": 4}, "fit", labels=labels)
    two = write(tmp_path / "2", {"b": 6, "n": 0}, "fit", labels=labels)
    summary = mix([one, two], tmp_path / "m", tiles_per_shard=8)
    assert summary.components == ("jpg", "fit", "txt")
    found = list(samples(tmp_path / "m"))
    for key, members in found:
        slide = key.partition("__")[0]
        assert members.get("txt") == (labels[slide].encode() if slide in labels else None)
    read = [
        sample
        for path in sorted((tmp_path / "m/shards").glob("*.tar"))
        for sample in wds.WebDataset(str(path), shardshuffle=False).decode()
    ]
    assert {s["__key__"]: s.get("txt") for s in read} == {
        key: labels.get(key.partition("__")[0]) for key, _ in found
    }
    paths = sorted(map(str, (tmp_path / "m/shards").glob("*.tar")))

    @pipeline_def(batch_size=15, num_threads=1, device_id=None)
    def dali() -> Any:
        idx = [path.replace(".tar", ".idx") for path in paths]
        return tuple(fn.readers.webdataset(paths=paths, index_paths=idx, ext=["jpg", "fit", "txt"]))

    pipe = dali()
    pipe.build()
    _, _, texts = pipe.run()
    assert [texts.at(n).tobytes() for n in range(15)] == [m.get("txt", b"") for _, m in found]
    assert all(not (f.problems or f.tiles) for f in verify(tmp_path / "m"))
    info = json.loads((tmp_path / "m/mixed.json").read_text())
    assert info["labels"] == sorted(labels.values())


def test_datasets_with_slides_of_one_name_keep_their_keys_apart(tmp_path: Path) -> None:
    one = write(tmp_path / "1", {"a": 3, "b": 4})
    two = write(tmp_path / "2", {"a": 5, "c": 2})
    summary = mix([one, two], tmp_path / "m")
    assert summary.renamed == 2
    slides = [key.partition("__")[0] for key, _ in samples(tmp_path / "m")]
    assert {name: slides.count(name) for name in slides} == {"a-1": 3, "b": 4, "a-2": 5, "c": 2}
    rows = pq.read_table(tmp_path / "m/index/mixed-000000.parquet").to_pylist()
    assert sorted({(r["source"], r["slide"]) for r in rows}) == [(0, "a"), (0, "b"), (1, "a"), (1, "c")]
    with pytest.raises(UsageError, match="slide a has the same tiles in .*1 and in .*1; name only one"):
        mix([one, one], tmp_path / "n")


def test_what_does_not_go_together_is_refused(fit: Path, tmp_path: Path) -> None:
    plain = write(tmp_path / "plain", {"p": 3})
    coarse = write(tmp_path / "coarse", {"q": 3}, mpp=1.0)
    empty = write(tmp_path / "empty", {})
    out = tmp_path / "m"
    with pytest.raises(UsageError, match="stain mode is fit in .* and none in .*plain; only datasets that"):
        mix([fit, plain], out)
    with pytest.raises(UsageError, match=r"MPP is 0\.5 in .*plain and 1\.0 in .*coarse"):
        mix([plain, coarse], out)
    native = write(tmp_path / "native", {"r": 3})
    info = json.loads((native / "dataset.json").read_text())
    info["params"]["mode"] = "native"
    atomic.write_json(native / "dataset.json", {**info, "build_id": build_id(info["params"])})
    with pytest.raises(UsageError, match="tile size is 32 px in .*plain and 32 px at 0.5 MPP in level-0"):
        mix([plain, native], out)
    with pytest.raises(UsageError, match="empty: no tile to mix"):
        mix([empty], out)
    with pytest.raises(DatasetError, match="not a dataset"):
        mix([tmp_path / "nowhere"], out)
    with pytest.raises(UsageError, match=r"plain: holds a dataset; choose another `out`"):
        mix([fit], plain)
    with pytest.raises(UsageError, match=r"`memory` 1e-06 GB holds no shard: mixed-000000 has .* GB"):
        mix([plain], out, memory=1e-6)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: not a folder"):
        mix([plain], tmp_path / "file")
    mix([plain], tmp_path / "done", seed=1)
    with pytest.raises(UsageError, match=r"holds another mix \(seed 1 there, 0 now\); use another `out`"):
        mix([plain], tmp_path / "done")
    with pytest.raises(UsageError, match="holds another mix .other tiles or datasets"):
        mix([coarse], tmp_path / "done", seed=1)


def test_the_command(
    fit: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pathprep", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    out = tmp_path / "m"
    code, printed, _ = call("mix", fit, "--out", out, "--tiles-per-shard", 30, "--json")
    facts = json.loads(printed)
    assert (code, facts["tiles"], facts["shards"], facts["passes"]) == (0, 100, 4, 1)
    code, printed, _ = call("mix", fit, "--out", out, "--tiles-per-shard", 30)
    assert (code, "4 already there" in printed) == (0, True)
    assert "4 shards, 100 tiles: all as written" in call("verify", out)[1]
    flip(out / "shards/mixed-000000.tar", 600)
    code, printed, _ = call("verify", out)
    assert (code, f"pathprep mix --config {out}/mix.yaml --out {out}" in printed) == (1, True)
    code, _, errors = call("mix", fit, "--out", out, "--tiles-per-shard", 31)
    assert (code, errors.count("\n"), "tiles_per_shard 30 there, 31 now" in errors) == (2, 1, True)
