"""Parquet of images as Hugging Face has them, through the evaluation."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.toys import BLUE, PINK, noise, write_run
from PIL import Image

from pathprep.errors import DatasetError, UsageError
from pathtrain.evaluate.shifts.study import robustness


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parquet")
    return write_run(root / "run", root)


def parquet(path: Path, *, images: Callable[[bytes, int], object], numbered: bool = False) -> Path:
    """As bifold-pathomics/PathoROB-camelyon: 32 tiles of 8 slides, two classes and centres."""
    rows = []
    for slide in range(8):
        for each, tile in enumerate(noise(4, colour=(PINK, BLUE)[slide % 2], seed=slide)):
            buffer = io.BytesIO()
            Image.fromarray(tile).save(buffer, format="PNG")
            rows.append(
                {
                    "image": images(buffer.getvalue(), len(rows)),
                    "subset": "ID",
                    "slide_id": f"slide{slide}",
                    "patch_id": str(each),
                    "biological_class": slide % 2 if numbered else ("normal", "tumor")[slide % 2],
                    "medical_center": ("RUMC", "UMCU")[slide // 4],
                }
            )
    table = pa.Table.from_pylist(rows)
    if numbered:
        names = {"biological_class": {"names": ["normal", "tumor"], "_type": "ClassLabel"}}
        about = {"info": {"features": {"image": {"_type": "Image"}, **names}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    (path / "data").mkdir(parents=True)
    pq.write_table(table, path / "data" / "train-00000-of-00001.parquet", row_group_size=10)
    return path


def embedded(data: bytes, row: int) -> object:
    return {"bytes": data, "path": f"{row}.png"}


@pytest.mark.parametrize("numbered", [False, True])
def test_pathorobs_parquet_is_read(run: Path, tmp_path: Path, numbered: bool) -> None:
    folder = parquet(tmp_path / "camelyon", images=embedded, numbered=numbered)
    result = robustness(run, folder, "medical_center", measures="index,share", baselines="colour", k=5)
    assert result["classes"] == ["normal", "tumor"]
    assert result["values"] == ["RUMC", "UMCU"]
    assert result["groups"] == 8
    assert result["tiles"] == 32
    assert result["results"][1]["index"] == 1  # pink and blue


def test_images_that_are_not_in_the_parquet_are_named(run: Path, tmp_path: Path) -> None:
    # huggingface/datasets, review of #8254 and ai-dynamo/aiperf#903: {"bytes": null, "path": ...}
    folder = parquet(
        tmp_path / "x", images=lambda data, row: {"bytes": None if row == 11 else data, "path": f"{row}.png"}
    )
    with pytest.raises(DatasetError, match=r"row 11 of .*only the path of the image is there \(11.png\)"):
        robustness(run, folder, "medical_center", measures="share", baselines="none")


def test_images_as_plain_bytes_and_columns_that_differ(run: Path, tmp_path: Path) -> None:
    folder = parquet(tmp_path / "x", images=lambda data, row: data)
    assert robustness(run, folder, "medical_center", measures="share", baselines="none")["tiles"] == 32
    pq.write_table(pa.table({"image": [b"x"], "other": [1]}), folder / "data" / "train-1.parquet")
    with pytest.raises(UsageError, match="its columns are not those of"):
        robustness(run, folder, "medical_center", measures="share", baselines="none")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "none.parquet")
    with pytest.raises(UsageError, match="no column of encoded images"):
        robustness(run, tmp_path / "none.parquet", "a", measures="share", baselines="none")
    (tmp_path / "bad.parquet").write_bytes(b"no parquet")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        robustness(run, tmp_path / "bad.parquet", "a", measures="share", baselines="none")
