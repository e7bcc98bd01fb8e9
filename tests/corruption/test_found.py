"""What damaged files and drawn inputs have found, each once and in small."""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corruption.gallery import map_index
from helpers.featured import key_bags, write_features
from helpers.toys import noise, write_dataset, write_run

import pathprep
import pathtrain
from pathprep.dataset.marker import unsealed
from pathprep.errors import DatasetError, MaskError, PathprepError, UsageError
from pathprep.pseudonyms import key
from pathprep.reports import contact_sheet
from pathprep.slides import masks
from pathprep.slides.masks import load_mask
from pathprep.stain import Target
from pathprep.storage import hdf5_chunks, parquet
from pathprep.storage.place import storage_at
from pathprep.storage.seals import sealed
from pathtrain.errors import CheckpointError, ModelError
from pathtrain.evaluate.papers import study_file
from pathtrain.evaluate.slide_level.task_file import read_task_file
from pathtrain.features.bags import Bags
from pathtrain.runs import checkpoint
from pathtrain.runs.described import info_of
from pathtrain.training import logs


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run", tmp_path / "gone")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "dataset", {"a": noise(3)})


def change(path: Path, **values: Any) -> None:
    """Change values of a JSON file, with a seal that holds."""
    path.write_text(json.dumps(sealed(json.loads(path.read_bytes()) | values)))


def test_a_line_of_an_error_has_an_end() -> None:
    said = str(UsageError(f"a.csv: slide {'x' * 100_000} is not known; leave it out\nsecond"))
    assert len(said) < 2_200
    assert said.startswith("a.csv: slide xxx")
    assert "(98,0" in said
    assert said.endswith("x is not known; leave it out\nsecond")


@pytest.mark.parametrize("place", ["a\0b", "s3://a\0b"])
def test_a_zero_byte_in_a_place(place: str) -> None:
    with pytest.raises(UsageError, match="zero byte"):
        storage_at(place)


def test_a_zero_byte_in_a_list_of_places_names_the_list(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text('pcam: {train: "a\\0b"}')
    with pytest.raises(UsageError, match=r"p\.yaml: pcam: .*zero byte"):
        study_file.find(tmp_path / "p.yaml")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("identity", None),
        ("identity", {"dataset tiles": {}}),
        ("identity", {"model.init step": "3"}),
        ("identity", {"held-out slides": "abc"}),
        ("versions", []),
        ("changes", {}),
        ("dataset", ["a", 3]),
        ("slides", -1),
    ],
)
def test_types_of_run_json(run: Path, key: str, value: Any) -> None:
    change(run / "run.json", **{key: value})
    with pytest.raises(CheckpointError, match=rf"run\.json is damaged \({key}\)"):
        info_of(run)


def test_rows_of_a_log_that_nothing_can_be_counted_with(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = run / "log.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    last = {**rows[-1], "step": 100, "kl": 1.0}  # it says that it was judged, and lacks what by
    without = {key: value for key, value in rows[-1].items() if key not in ("images_s", "data_wait")}
    path.write_text("".join(json.dumps(row) + "\n" for row in (*rows[:-1], without, last)))
    assert logs.rows(run)[-1]["step"] == rows[-1]["step"]
    assert f"log.jsonl: line {len(rows) + 1} is damaged" in caplog.text
    page = pathtrain.report(run).read_text()
    assert "Images per second" in page


def test_a_log_that_is_gone_is_told(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    from pathtrain.runs import log_seal

    log_seal.write(run)
    (run / "log.jsonl").unlink()
    assert logs.rows(run) == []
    assert "log.jsonl: gone" in caplog.text


def test_a_checkpoint_that_lost_its_account_is_told(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint.save(run, {"step": 30}, 30, "config", keep=5)
    account = run / "checkpoints" / "00000030.json"
    account.unlink()
    found = checkpoint.latest(run)
    assert found is not None
    assert found.step == 20
    assert "00000030.pt has no .json beside it" in caplog.text
    account.symlink_to("gone")
    checkpoint.entries(run)
    assert "00000030.json is a link to nothing" in caplog.text


def test_what_timm_refuses_names_the_models_file(run: Path, tmp_path: Path) -> None:
    pathtrain.export(run, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_bytes())
    change(tmp_path / "model" / "config.json", model_args=config["model_args"] | {"num_heads": "x"})
    with pytest.raises(ModelError, match=r"config\.json"):
        pathtrain.load(tmp_path / "model")


def test_a_report_of_parameters_that_nobody_writes(dataset: Path) -> None:
    info = json.loads((dataset / "dataset.json").read_bytes())
    with pytest.raises(DatasetError, match=r"dataset\.json: its parameters are not as pathprep writes them"):
        pathprep.report(dataset)  # which has no `max_tiles`
    assert "max_tiles" not in info["params"]


def test_a_fit_that_no_tile_has_is_told_on_the_page(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathprep.dataset.reader import Dataset
    from pathprep.reports.measure import Tile

    data = Dataset(dataset)
    row = data.table("a").to_pylist()[0]
    monkeypatch.setitem(data.params, "stain", {"mode": "fit", "io": 240.0})
    nan = (float("nan"),) * 6
    tile = Tile("a", row["x"], row["y"], 32, row["offset"], row["length"], "fitted", nan, nan[:2], 0.0, "")
    found = contact_sheet.sheet(data, [tile])
    assert "a stored fit cannot be applied" in found.problems["a"]
    assert found.pairs[tile].after == ""


@pytest.mark.parametrize("value", [[], "1", -1, True])
def test_a_marker_whose_source_has_no_size(dataset: Path, value: Any) -> None:
    marker = json.loads((dataset / "slides" / "a.json").read_bytes())
    assert unsealed(sealed(marker)) is not None
    assert unsealed(sealed(marker | {"source": marker["source"] | {"size": value}})) is None


@pytest.mark.parametrize("what", ["pipe", "folder", "loop", "gone"])
def test_verify_names_what_is_no_file(dataset: Path, what: str) -> None:
    path = dataset / "failed" / "x.json"
    make: dict[str, Callable[[], None]] = {
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "loop": lambda: path.symlink_to("x.json"),
        "gone": lambda: path.symlink_to("nowhere"),
    }
    make[what]()
    lines = [line for found in pathprep.verify(dataset) for line in found.problems]
    assert [line for line in lines if line.startswith("failed/x.json: not a file")] != []


READERS: dict[str, Callable[[Path], Any]] = {
    "t.json": Target.load,
    "tasks.yaml": lambda path: read_task_file(str(path)),
    "p.yaml": study_file.find,
    "t.parquet": parquet.read,
    "k.key": key.read,
    "run.json": lambda path: info_of(path.parent),
    "log.jsonl": lambda path: logs.rows(path.parent),
    "a.h5": lambda path: Bags.open(path.parent).read("a"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", READERS)
def test_no_reader_waits_for_a_pipe(tmp_path: Path, name: str) -> None:
    if name == "a.h5":
        write_features(tmp_path, {"a": key_bags(2)[0][0]})
        (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises((PathprepError, OSError)) as caught:
        READERS[name](tmp_path / name)
    assert name in str(caught.value)


def test_a_mask_that_does_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(masks, "read_geojson", full)
    (tmp_path / "m.geojson").write_text("{}")
    with pytest.raises(MaskError, match=r"m\.geojson: does not fit into memory"):
        load_mask(tmp_path / "m.geojson", 70, 70, (7, 7))


def test_no_parquet_is_read_that_says_it_is_endless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"a": [1] * 100, "b": [1] * 100}), tmp_path / "t.parquet")
    monkeypatch.setattr(parquet, "MOST_CELLS", 150)
    assert parquet.read(tmp_path / "t.parquet", ["a"]).num_rows == 100
    with pytest.raises(pa.ArrowInvalid, match="200 cells"):
        parquet.read((tmp_path / "t.parquet").read_bytes())


def test_a_chunk_of_no_bytes_does_not_end_the_process(tmp_path: Path) -> None:
    """Which is what libhdf5 does of it, if it has a checksum."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = np.arange(6 * 8, dtype=np.uint8).reshape(6, 8)
        stored = file.create_dataset("x", data=data, chunks=(2, 4), fletcher32=True)
        sizes = struct.pack("<IIQQ", stored.id.get_chunk_info(0).size, 0, 2, 4)  # as the index has chunk 2, 4
        hdf5_chunks.check(stored)
        hdf5_chunks.check(stored, 3)
    raw = (tmp_path / "a.h5").read_bytes()
    assert raw.count(sizes) == 1
    (tmp_path / "a.h5").write_bytes(raw.replace(sizes, bytes(4) + sizes[4:]))
    with h5py.File(tmp_path / "a.h5") as file:
        hdf5_chunks.check(file["x"], 0)
        for row in (None, 2, 3):
            with pytest.raises(ValueError, match="has 0 bytes"):
                hdf5_chunks.check(file["x"], row)


@pytest.mark.parametrize("name", ["current.json", "slides.parquet"])
def test_verify_names_a_folder_in_the_place_of_an_index_file(dataset: Path, name: str) -> None:
    map_index(dataset)
    (path,) = (dataset / "tiles").rglob(name)
    path.unlink()
    path.mkdir()
    lines = [line for found in pathprep.verify(dataset) for line in found.problems]
    assert f"{path}: not a file; delete it, it is made again" in lines
