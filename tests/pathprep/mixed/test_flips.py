"""Every file of a mix with one bit changed: readers say so, or give what was written; `mix` mends it."""

import json
import logging
import shutil
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from helpers.damage import bits, flipped, silent
from helpers.mixing import content, write

from pathprep.errors import DatasetError, UsageError
from pathprep.folders import verify
from pathprep.mixed import format as mixed
from pathprep.mixed.make import mix
from pathprep.mixed.reader import MixedDataset
from pathprep.storage import atomic
from pathprep.storage.base import parsed
from pathprep.storage.local import LocalStorage
from pathprep.storage.seals import SEAL, sealed


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("source")
    return write(root, {"a": 4, "b": 3}, "fit", labels={"a": "tumour", "b": "stroma"})


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("mix")
    mix([source], root, tiles_per_shard=4)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "mix"))


def everything(root: Path) -> list[Any]:
    data = MixedDataset(root)
    tiles = [(t.jpeg, t.slide, t.x, t.label, t.fit and t.fit.he.tolist()) for t in data]
    fits = [
        repr(part.tolist()) for part in data.columns(["he", "max_c"]).values()
    ]  # NaN is no other NaN's equal
    return [data.info, data.slides, tiles, *fits]


def test_mixed_json(made: Path) -> None:
    storage, sound = LocalStorage(made), (made / mixed.INFO).read_bytes()
    assert silent(made / mixed.INFO, lambda: mixed.read_info(storage), 300) == []
    whole = parsed(sound)
    for bit in range(8 * len(sound)):  # without the disk
        data = bytearray(sound)
        data[bit // 8] ^= 1 << bit % 8
        values = parsed(bytes(data))
        assert values is None or values == whole or not mixed.is_whole(values), bit


def test_indexes(made: Path) -> None:
    assert silent(made / "index/mixed-000000.parquet", lambda: everything(made), 250) == []


def test_tars(made: Path) -> None:
    assert silent(made / "shards/mixed-000001.tar", lambda: everything(made), 100) == []
    pytest.importorskip("webdataset")

    def streamed() -> list[Any]:
        data = MixedDataset(made)
        return [(s["slide"], s["x"], s["label"], s["jpg"].sum()) for s in data.webdataset(shuffle=0)]

    assert silent(made / "shards/mixed-000001.tar", streamed, 30) == []


def test_training_takes_no_other_stain_fit(made: Path) -> None:
    mixed_source = pytest.importorskip("pathtrain.data.mixed_source")
    from pathtrain.data.source import DamagedTile

    def taken() -> Any:
        source = mixed_source.MixedSource(MixedDataset(made))
        fits = source.take(np.arange(len(source)))
        places = [source.place(tile) for tile in range(len(source))]
        try:
            read = [source.read(tile) for tile in range(len(source))]
        except DamagedTile as error:  # passed over, and counted
            raise DatasetError(str(error)) from None
        return fits.he.tolist(), fits.max_c.tolist(), places, source.stain, read

    for name in ("index/mixed-000001.parquet", "shards/mixed-000001.tar", mixed.INFO):
        assert silent(made / name, taken, 100) == []


def test_verify_finds_a_bit_in_every_file(made: Path) -> None:
    for name in mixed.files("mixed-000000"):
        for bit in bits(made / name, 25):
            with flipped(made / name, bit):
                assert any(found.problems or found.tiles for found in verify(made)), (name, bit)


@pytest.mark.parametrize("change", ["flip", "cut", "empty", "gone"])
def test_mix_mends_a_damaged_mixed_json_and_keeps_the_shards(
    source: Path, root: Path, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = content(root)
    info = root / mixed.INFO
    data = info.read_bytes()
    damaged = {"flip": data.replace(b'"labels"', b'"labelz"'), "cut": data[:-30], "empty": b""}
    if change == "gone":
        info.unlink()
    else:
        info.write_bytes(damaged[change])
        with pytest.raises(DatasetError, match=r"mixed\.json: damaged; run the same `pathprep mix` again"):
            MixedDataset(root)
    again = mix([source], root, tiles_per_shard=4)
    assert content(root) == before
    assert again.reused == (2 if change == "flip" else 0)
    assert ("mixed.json: damaged" in caplog.text) == (change != "gone")


def test_an_older_mix_without_a_seal_is_read_and_gets_one(source: Path, root: Path) -> None:
    before = content(root)
    info = json.loads(before[mixed.INFO])
    old = {key: value for key, value in info.items() if key != SEAL} | {"version": 1}
    atomic.write_json(root / mixed.INFO, old)
    assert len(MixedDataset(root)) == 7
    assert not [found for found in verify(root) if found.problems or found.tiles]
    again = mix([source], root, tiles_per_shard=4)
    assert (again.reused, again.written) == (2, 0)
    assert content(root) == before
    atomic.write_json(root / mixed.INFO, {**old, "version": 2})  # it must have one since then
    with pytest.raises(DatasetError, match="damaged"):
        MixedDataset(root)


def unfinished(source: Path, root: Path) -> None:
    """As a run leaves it that was killed after the first shard."""
    info = json.loads((root / mixed.INFO).read_bytes())
    (root / mixed.INFO).unlink()
    (root / "unfinished").mkdir()
    atomic.write_json(root / mixed.PLAN, sealed(info["plan"]))
    marker = sealed({"mix_id": info["mix_id"], **info["shards"][0]})
    atomic.write_json(root / "unfinished/mixed-000000.json", marker)
    for name in mixed.files("mixed-000001"):
        (root / name).unlink()


def test_an_unfinished_mix_with_a_bit_changed_is_finished_with_the_same_bytes(
    source: Path, root: Path
) -> None:
    before = content(root)
    unfinished(source, root)
    middle = content(root)
    for name in ("unfinished/plan.json", "unfinished/mixed-000000.json"):
        for bit in Random(0).sample(range(8 * len(middle[name])), 12):
            for path in root.rglob("*"):
                if path.is_file():
                    path.unlink()
            for each, data in middle.items():
                (root / each).parent.mkdir(exist_ok=True)
                (root / each).write_bytes(data)
            data = bytearray(middle[name])
            data[bit // 8] ^= 1 << bit % 8
            (root / name).write_bytes(data)
            mix([source], root, tiles_per_shard=4)
            assert content(root) == before, (name, bit)


def test_a_damaged_plan_of_another_mix_is_not_written_over(source: Path, root: Path) -> None:
    unfinished(source, root)
    (root / mixed.PLAN).write_bytes(b"{")
    with pytest.raises(UsageError, match=r"another mix that is not finished, whose unfinished/plan\.json is"):
        mix([source], root, tiles_per_shard=5)
    mix([source], root, tiles_per_shard=4)
    assert len(MixedDataset(root)) == 7


def test_names_out_of_mixed_json_lead_nowhere(source: Path, root: Path, tmp_path: Path) -> None:
    """Even of a mixed.json whose seal holds."""
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    info = json.loads((root / mixed.INFO).read_bytes())
    for name in ("../victim.txt", str(victim), "shards/../../victim.txt", "shards/mixed-000001.tar"):
        evil = json.loads(json.dumps(info))
        evil["shards"][0]["files"][name] = {"size": 8, "sha256": "0" * 64}
        atomic.write_json(root / mixed.INFO, sealed(evil))
        with pytest.raises(DatasetError, match=r"mixed\.json: damaged"):
            MixedDataset(root)
        with pytest.raises(DatasetError, match=r"mixed\.json: damaged"):
            list(verify(root))
    (root / "shards/mixed-notes.txt").write_text("a user's own")
    mix([source], root, tiles_per_shard=4)
    assert victim.read_text() == "precious"
    assert (root / "shards/mixed-notes.txt").exists()


TEXTS = ["", "[]", "null", "{}", "NaN", "[" * 100_000, '{"a":' * 3000, "\xff\xfe", "9" * 5000]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text)[:12])
def test_a_mixed_json_that_is_none(root: Path, text: str) -> None:
    (root / mixed.INFO).write_text(text, encoding="latin-1")
    with pytest.raises(DatasetError, match=r"mixed\.json: damaged"):
        MixedDataset(root)


@pytest.mark.parametrize("value", [None, 1, 1e400, "x", [], {}, [[]], {"a": {}}, True])
def test_any_value_of_a_wrong_type_is_damage(
    root: Path, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    info = json.loads((root / mixed.INFO).read_bytes())
    kept = {"mix_id", "labels", SEAL}
    for key in info.keys() - kept:
        if info[key] == value:
            continue
        atomic.write_json(root / mixed.INFO, sealed({**info, key: value}))
        with pytest.raises(DatasetError):
            MixedDataset(root).has_fits  # noqa: B018
