"""What the viewer draws, against what `pathprep shard` makes with the same options."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.onnx_models import BIAS, write
from helpers.slides import tissue, write_tiff

import pathprep
from pathprep.dataset.reader import Dataset
from pathprep.params.shard import ShardParams
from pathprep.sharding.survey import survey
from pathprep.slides.slide import Slide
from pathprep.viewing import scene

SETTINGS: dict[str, Any] = {"tile": 64, "mpp": 4.0, "stain": "none", "min_tissue": 0.1}


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pixels = tissue(512, 640, 0, margin=64)
    pixels[200:264, 64:576] = (60, 150, 110)  # a stroke of ink
    return write_tiff(tmp_path_factory.mktemp("slides") / "s0.tif", pixels, mpp=4.0)


def places(layers: scene.Layers, name: str) -> set[tuple[int, int]]:
    """Where tiles of a state lie."""
    which = layers.state == layers.states.index(name)
    return set(zip(layers.x[which].tolist(), layers.y[which].tolist(), strict=True))


def test_as_shard_would_cut_it_and_has_cut_it(slide: Path, tmp_path: Path) -> None:
    """With a tissue model and a filter by its classes: the same tiles, dropped for the same reason."""
    model = write(tmp_path / "m.onnx", bias=BIAS + np.array([0, 1, 0], np.float32))
    given = {**SETTINGS, "tissue_model": str(model), "max_share": "pen=0.3"}
    root = tmp_path / "dataset"
    pathprep.shard(slide, root, **given, forecast=False)
    dataset = Dataset(root)
    cut = scene.of_dataset(dataset, scene.slide_in(dataset, "s0", 4.0))
    params = ShardParams.of(**given)
    with Slide(slide) as opened:
        seen = survey(opened, params)
        would = scene.of_survey(seen, params, opened.width, opened.height)
    assert would.side == cut.side == 64
    for name in (scene.KEPT, "share_pen"):
        assert places(would, name) == places(cut, name) != set()
    kept = pq.read_table(root / "index" / "s0.parquet")
    assert places(cut, scene.KEPT) == set(zip(kept["x"].to_pylist(), kept["y"].to_pylist(), strict=True))
    assert {"tissue", "share_pen", "focus"} <= set(cut.figures)
    assert {"tissue", "share_pen"} == set(would.figures)
    assert np.nanmax(cut.figures["share_pen"]) > 0.3
    (first, *_), (other, *_) = would.polygons[0], cut.polygons[0]
    np.testing.assert_allclose(first.min(axis=0), other.min(axis=0), atol=1)
    np.testing.assert_allclose(first.max(axis=0), other.max(axis=0), atol=1)


def test_arrays_are_packed_as_the_page_unpacks_them() -> None:
    packed = scene._packed(np.array([1.5, np.nan]), "<f4")
    assert np.frombuffer(base64.b64decode(packed), "<f4").tolist()[0] == 1.5
    assert set(scene.maps()) == {"viridis", "cividis", "coolwarm"}
