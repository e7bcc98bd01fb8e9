"""Mixing: every tile once, equal bytes whatever the workers, memory or kills, read by the real readers."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
import webdataset as wds
from helpers.markers import slide_marker
from helpers.slides import tissue
from nvidia.dali import fn, pipeline_def, types

from pathprep import permutation
from pathprep.cli import main
from pathprep.dataset.reader import Dataset
from pathprep.dataset.schema import FOLDERS, FORMAT, SCHEMA, STATUSES, VERSION, build_id
from pathprep.dataset.writer import ShardWriter
from pathprep.errors import DatasetError, UsageError
from pathprep.folders import verify
from pathprep.mixed import format as mixed
from pathprep.mixed import make_pass as mix_pass
from pathprep.mixed.inputs import LONGEST_NAME, key_names
from pathprep.mixed.make import GB, Job, mix, passes
from pathprep.storage import atomic
from pathprep.storage.place import storage_at

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


@pytest.fixture(scope="module")
def fit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("fit"), {"a": 57, "b-1": 31, "empty": 0, "c_c": 12}, "fit")


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
    monkeypatch.setattr(mix_pass, "UNIT", 10)
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


def run_until(datasets: list[Path], out: Path, finished: int) -> None:
    """The command in a process of its own, killed when so many shards have their marker."""
    code = "import sys; from pathlib import Path; from pathprep.mixed.make import mix\n"
    code += "mix([Path(a) for a in sys.argv[2:]], Path(sys.argv[1]), tiles_per_shard=40, memory=0.0006)"
    child = subprocess.Popen([sys.executable, "-c", code, out, *datasets])
    while child.poll() is None and len(list((out / "unfinished").glob("mixed-*.json"))) < finished:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()


def test_killed_and_run_again_gives_the_same_bytes(tmp_path: Path) -> None:
    datasets = [write(tmp_path / "d", {f"s{n}": 200 for n in range(6)}, "fit")]
    mix(datasets, tmp_path / "whole", tiles_per_shard=40)
    out = tmp_path / "killed"
    for finished in (1, 8, 20):
        run_until(datasets, out, finished)
        assert not (out / "mixed.json").exists()
        with pytest.raises(DatasetError, match="not finished; run the same `pathprep mix` again"):
            list(verify(out))
    done = sorted((out / "unfinished").glob("mixed-*.json"))
    (out / mixed.files(done[0].stem)[0]).write_bytes(b"torn")  # not what the marker says
    (out / "shards" / f"{atomic.PREFIX}{socket.gethostname()}~999999999~mixed-000029.tar").touch()
    tar = out / mixed.files(done[1].stem)[0]
    flip(tar, 700)
    summary = mix(datasets, out, tiles_per_shard=40)
    assert summary.reused == len(done) - 2
    assert summary.written == summary.todo < 1200
    assert content(out) == content(tmp_path / "whole")


def test_a_finished_mix_is_checked_and_mended(fit: Path, tmp_path: Path) -> None:
    mix([fit], tmp_path, tiles_per_shard=10)
    before = content(tmp_path)
    again = mix([fit], tmp_path, tiles_per_shard=10)
    assert (again.reused, again.written) == (10, 0)
    assert content(tmp_path) == before
    flip(tmp_path / "shards/mixed-000003.tar", 4000)
    (tmp_path / "index/mixed-000005.parquet").unlink()
    (tmp_path / "shards" / "mixed-000010.tar").write_bytes(b"left by a mix into more shards")
    mended = mix([fit], tmp_path, tiles_per_shard=10)
    assert (mended.reused, mended.written) == (8, 20)
    assert content(tmp_path) == before


def test_ctrl_c_keeps_what_is_finished(fit: Path, tmp_path: Path) -> None:
    def stop(summary: Any) -> None:
        if summary.written > 30:
            raise KeyboardInterrupt

    summary = mix([fit], tmp_path, tiles_per_shard=10, memory=0.0001, watch=stop)
    assert summary.interrupted
    assert not (tmp_path / "mixed.json").exists()
    assert not [name for name in content(tmp_path) if atomic.PREFIX in name]
    again = mix([fit], tmp_path, tiles_per_shard=10)
    assert again.reused >= 3
    assert all(not (f.problems or f.tiles) for f in verify(tmp_path))


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def problems(root: Path) -> dict[str, tuple[list[str], list[str]]]:
    return {f.slide: (f.problems, f.tiles) for f in verify(root) if f.problems or f.tiles}


def test_verify_names_every_kind_of_damage(fit: Path, tmp_path: Path) -> None:
    mix([fit], tmp_path, tiles_per_shard=50)
    assert problems(tmp_path) == {}
    assert sum(found.checked for found in verify(tmp_path)) == 100
    sound, tar = content(tmp_path), tmp_path / "shards/mixed-000001.tar"
    row = pq.read_table(tmp_path / "index/mixed-000001.parquet").to_pylist()[7]
    fit_at = row["offset"] + row["length"] + -row["length"] % 512 + 512
    for at, line in (
        (row["offset"] + 100, f"{row['key']}.jpg: damaged (CRC-32"),
        (fit_at + 35, f"{row['key']}.fit: differs from the index"),
        (row["offset"] - 512, f"{row['key']}.jpg: the tar holds no such member"),
    ):
        flip(tar, at)
        found = problems(tmp_path)
        assert list(found) == ["mixed-000001"]
        assert "SHA-256" in found["mixed-000001"][0][0]
        assert [tile[: len(line)] for tile in found["mixed-000001"][1]] == [line]
        flip(tar, at)
    flip(tar, fit_at + 36)  # padding
    assert "SHA-256" in problems(tmp_path)["mixed-000001"][0][0]
    os.truncate(tar, row["offset"])
    assert len(problems(tmp_path)["mixed-000001"][1]) == 2 * (50 - 7)
    tar.write_bytes(b"")
    assert len(problems(tmp_path)["mixed-000001"][1]) == 100
    tar.write_bytes(sound["shards/mixed-000001.tar"])
    (tmp_path / "shards/mixed-000000.idx").write_text("v1.2 0\n")
    (tmp_path / "index/mixed-000001.parquet").write_bytes(b"no")
    (tmp_path / "shards/foreign.tar").touch()
    found = problems(tmp_path)
    assert "differs from the index of tiles" in found["mixed-000000"][0][1]
    assert "tiles were not checked" in found["mixed-000001"][0][-1]
    assert "shards/foreign.tar: belongs to no shard" in found["(folder)"][0][0]


def test_a_damaged_or_missing_source_is_an_error_that_names_it(tmp_path: Path) -> None:
    root = write(tmp_path / "d", {"good": 20, "bad": 20})
    row = Dataset(root).table("bad").to_pylist()[11]
    flip(root / "shards/bad.tar", row["offset"] + 50)
    with pytest.raises(DatasetError, match=r"shards/bad\.tar: tile 352_64\.jpg is damaged .*pathprep verify"):
        mix([root], tmp_path / "m")
    os.truncate(root / "shards/bad.tar", row["offset"] + 50)
    with pytest.raises(DatasetError, match=r"bad\.tar: tile 352_64\.jpg is damaged"):
        mix([root], tmp_path / "m")
    (root / "shards/bad.tar").unlink()
    with pytest.raises(DatasetError, match=r"bad\.tar: No such file .*pathprep verify"):
        mix([root], tmp_path / "m")
    assert not (tmp_path / "m/mixed.json").exists()
    assert not list((tmp_path / "m/shards").iterdir())


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


def test_names_in_keys() -> None:
    long = "x" * 200
    [[first, second]] = key_names([[long, long + "y"]])
    assert first != second
    assert len(first) == len(second) == LONGEST_NAME
    with pytest.raises(UsageError, match="two slides would both be called a-1"):
        key_names([["a", "a-1"], ["a"]])


def test_headers_are_those_of_tarfile() -> None:
    names = ["a.jpg", "b" * 100, "TCGA-1__0_0.fit"]
    sizes = [0, 511, 2**31 - 1]
    for header, name, size in zip(mixed.headers(names, np.array(sizes)), names, sizes, strict=True):
        info = tarfile.TarInfo(name)
        info.size, info.mode = size, 0o644
        assert header.tobytes() == info.tobuf(tarfile.USTAR_FORMAT)


def test_a_read_may_end_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write(tmp_path / "d", {"a": 30})
    mix([root], tmp_path / "whole")
    real = os.preadv

    def short(file: int, buffers: list[memoryview], offset: int) -> int:
        return real(file, [buffers[0][:300]], offset)

    monkeypatch.setattr(os, "preadv", short)
    mix([root], tmp_path / "short")
    assert content(tmp_path / "whole") == content(tmp_path / "short")


def test_tiles_far_apart_are_read_by_separate_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(bytes(range(256)) * 20)
    offsets, expected = [0, 100, 1000, 1610, 1620, 1630, 1640], []
    for offset in offsets:
        expected.append(tar.read_bytes()[offset : offset + 10])
    calls, real = [], os.preadv

    def counted(file: int, buffers: list[memoryview], offset: int) -> int:
        calls.append((offset, sum(map(len, buffers))))
        return real(file, buffers, offset)

    monkeypatch.setattr(os, "preadv", counted)
    monkeypatch.setattr(mix_pass, "GAP", 600)
    monkeypatch.setattr(mix_pass, "TILES_A_READ", 3)
    views = [memoryview(bytearray(10)) for _ in offsets]
    sums, storage = [zlib.crc32(data) for data in expected], storage_at(tmp_path)
    assert mix_pass.read_tiles(storage, "a.tar", offsets, views, sums) is None
    assert [bytes(view) for view in views] == expected
    # two close together; too far; three are the most; what is left
    assert calls == [(0, 110), (1000, 630), (1630, 20)]
    assert mix_pass.read_tiles(storage, "a.tar", offsets, views, [zlib.crc32(b"other")] * 7) == 0


def test_passes_fill_the_memory() -> None:
    jobs = [Job(number, np.arange(1), size) for number, size in enumerate([4, 5, 6, 1, 10])]
    assert [[job.number for job in batch] for batch in passes(jobs, 10)] == [[0, 1], [2, 3], [4]]


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
    with pytest.raises(UsageError, match=r"plain: holds a dataset; choose another --out"):
        mix([fit], plain)
    with pytest.raises(UsageError, match=r"--memory 1e-06 GB holds no shard: mixed-000000 has .* GB"):
        mix([plain], out, memory=1e-6)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: not a folder"):
        mix([plain], tmp_path / "file")
    mix([plain], tmp_path / "done", seed=1)
    with pytest.raises(UsageError, match=r"holds another mix \(seed 1 there, 0 now\); use another --out"):
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
    assert (code, "pathprep mix DATASET... --out" in printed) == (1, True)
    code, _, errors = call("mix", fit, "--out", out, "--tiles-per-shard", 31)
    assert (code, errors.count("\n"), "tiles_per_shard 30 there, 31 now" in errors) == (2, 1, True)
