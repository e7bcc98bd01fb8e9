"""Datasets whose tissue a model found: shares in the index, filters, report, equal bytes for any workers."""

from pathlib import Path

import numpy as np
import pytest
from helpers.onnx_models import BIAS, write
from helpers.slides import tissue, write_tiff

import pathprep
from pathprep.errors import UsageError

SETTINGS = {"tile": 64, "mpp": 4.0, "stain": "none", "forecast": False}


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slides")
    for seed in range(3):
        pixels = tissue(512, 640, seed, margin=64)
        pixels[200:264, 64:576] = (60, 150, 110)  # a stroke of ink, a tile high
        write_tiff(folder / f"s{seed}.tif", pixels, mpp=4.0)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("model") / "m.onnx", bias=BIAS + np.array([0, 1, 0], np.float32))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, slides: Path, model: Path) -> Path:
    root = tmp_path_factory.mktemp("made") / "dataset"
    summary = pathprep.shard(
        slides, root, tissue_model=model, max_share="pen=0.3", min_tissue=0.1, workers=2, **SETTINGS
    )
    assert not summary.failures
    return root


def test_shares_are_columns_and_filters(made: Path, slides: Path) -> None:
    dataset = pathprep.open(made)
    assert not any(found.problems or found.tiles for found in pathprep.verify(made))
    for name in ("s0", "s1", "s2"):
        kept, dropped = dataset.table(name).to_pylist(), dataset.dropped(name).to_pylist()
        assert dropped
        assert {row["reason"] for row in dropped} == {"share_pen"}
        assert all(row["share_pen"] > 0.3 for row in dropped)
        assert all(row["share_pen"] <= 0.3 for row in kept)
        assert any(row["share_pen"] > 0 for row in kept)
        assert dataset.markers[name].counts["share_pen"] == len(dropped)
    index = dataset.tiles(["share_pen", "tissue"])
    assert index.columns["share_pen"].dtype == np.float32
    assert 0 < index.columns["share_pen"].max() <= 0.3


def test_the_bytes_are_the_same_for_any_number_of_workers(
    made: Path, slides: Path, model: Path, tmp_path: Path
) -> None:
    settings = {**SETTINGS, "max_share": "pen=0.30", "min_tissue": 0.1}
    pathprep.shard(slides, tmp_path / "one", tissue_model=str(model), workers=1, **settings)
    for folder in ("shards", "index", "dropped"):
        for path in sorted((made / folder).iterdir()):
            assert path.read_bytes() == (tmp_path / "one" / folder / path.name).read_bytes()


def test_another_model_does_not_go_on_with_it(made: Path, slides: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "m.onnx")
    with pytest.raises(UsageError, match=r"tissue\.model\.sha256 .* there, .* now"):
        pathprep.shard(slides, made, tissue_model=other, max_share="pen=0.3", min_tissue=0.1, **SETTINGS)


def test_damaged_slides_are_made_again_with_the_models_file(
    made: Path, model: Path, tmp_path: Path, slides: Path
) -> None:
    index = made / "index" / "s1.parquet"
    whole = index.read_bytes()
    index.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(UsageError, match="its tissue was found by a model"):
        pathprep.repair(made)
    with pytest.raises(UsageError, match="not the model"):
        pathprep.repair(made, tissue_model=write(tmp_path / "m.onnx"))
    pathprep.repair(made, tissue_model=model, workers=1)
    assert index.read_bytes() == whole


def test_the_report_has_bars_and_words(made: Path) -> None:
    page = pathprep.report(made)
    text = Path(page).read_text()
    assert "Class of the tissue model: pen" in text
    assert "Found by a tissue model at 8" in text
    assert "a share of pen above 0.3 (--max-share)" in text


def test_survey_and_inspect_find_the_same_tissue(slides: Path, model: Path, tmp_path: Path) -> None:
    seen = pathprep.inspect(slides / "s0.tif", mpp=4.0, tile=64, tissue_model=model)
    plain = pathprep.inspect(slides / "s0.tif", mpp=4.0, tile=64)
    assert 0 < seen["tissue"] < plain["tissue"]  # ours takes ink for tissue
    summary = pathprep.survey(slides, tmp_path / "survey", tissue_model=model, workers=1)
    first = summary.made["s0"]
    assert first.tissue.tissue / (first.tissue.width * first.tissue.height) == pytest.approx(seen["tissue"])
    with pytest.raises(UsageError, match=r"tissue\.model"):
        pathprep.survey(slides, tmp_path / "survey", workers=1)
