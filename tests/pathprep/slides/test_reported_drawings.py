"""Drawings that others have reported as not readable, rebuilt: read right, or refused in words.

Sources: self-crossing cells (github.com/digitalpathologybern/hover_next_inference/issues/26,
TissueImageAnalytics/tiatoolbox/issues/1080), a last part that is no feature (mbloch/mapshaper/issues/236),
lists of features without a collection (DIAGNijmegen/pathology-whole-slide-data/issues/41,
choosehappy/HistoQC/pull/180).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.drawings import box, collection, polygon, qupath

from pathprep.errors import MaskError
from pathprep.slides.masks import load_mask


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "drawn.geojson"
    path.write_text(json.dumps(content))
    return path


def test_cells_that_cross_themselves(tmp_path: Path) -> None:
    """A model's contour with a loop and a spike, which QuPath 0.6 does not open: what it encloses."""
    loop = [[100, 100], [300, 100], [300, 300], [200, 300], [350, 200], [200, 100], [100, 300], [100, 100]]
    spike = [*box(500, 500, 200)[:2], [900, 500], [700, 500], *box(500, 500, 200)[2:]]
    mask = load_mask(
        written(tmp_path, collection(qupath(polygon(loop)), qupath(polygon(spike)))), 1000, 1000, (100, 100)
    )
    np.testing.assert_array_equal(mask[50:70, 50:70], True)
    assert mask[50:, :].sum() == 400  # the spike has no area
    assert mask[:50, :].any()


def test_a_last_part_that_is_no_feature_is_named(tmp_path: Path) -> None:
    whole = collection(
        qupath(polygon(box(10, 10, 50))), {"type": "name", "properties": {"name": "EPSG::4283"}}
    )
    with pytest.raises(MaskError, match="its part 2: 'name' is no type of GeoJSON"):
        load_mask(written(tmp_path, whole), 1000, 1000, (100, 100))


def test_a_list_of_features_without_a_collection(tmp_path: Path) -> None:
    several = {"type": "MultiPolygon", "coordinates": [[box(600, 600, 100)], [box(800, 800, 100)]]}
    features = [
        {**qupath(polygon(box(100, 100, 200)), "Tumor"), "id": "PathAnnotationObject"},
        {**qupath(several, "Tumor"), "id": "PathAnnotationObject"},
    ]
    assert load_mask(written(tmp_path, features), 1000, 1000, (100, 100)).sum() == 400 + 200
